'use strict';
// The second argument of a handler: facts about one invocation (docs/contracts/runtime.md, section "Context").

/** Who called: `address`, `scheme`, `userAgent`. */
class Client {
  constructor(head) {
    this.address = head.source || '';
    this.scheme = head.scheme || 'http';
    this.userAgent = (head.headers || []).find(([name]) => name === 'user-agent')?.[1] ?? '';
  }
}

/** Durations in milliseconds, `deadline` in seconds since the epoch (Infinity without one), sizes in bytes. The names
 * that handlers written for AWS Lambda use work too. */
class Context {
  #head;
  #task;
  #abort = null;
  #cancelled = false;

  constructor(head, task) {
    this.#head = head;
    this.#task = task;
    /** Accepted for handlers that set it; an answer never waits for timers and sockets that are still open. */
    this.callbackWaitsForEmptyEventLoop = false;
  }

  get requestId() { return String(this.#head.id ?? ''); }
  get function() { return String(this.#head.function || this.#task.function); }
  get namespace() { return String(this.#task.namespace); }
  get version() { return String(this.#head.version || this.#task.version); }
  get alias() { return String(this.#head.alias ?? ''); }
  get instance() { return String(this.#task.instance); }
  get attempt() { return Number(this.#head.attempt ?? 1); }
  get kind() { return String(this.#head.kind ?? 'event'); }
  get trace() { return String(this.#head.trace ?? ''); }
  get client() { return new Client(this.#head); }
  get deadline() { return this.#head.deadline_ms ? this.#head.deadline_ms / 1000 : Infinity; }
  get memoryLimitBytes() { return Number(this.#task.memory_bytes); }
  get logger() { return console; }
  /** What proves to the platform's address (FUYUN_ENDPOINT) that this invocation asks. '' without permissions. */
  get credential() { return String(this.#head.credential ?? ''); }

  /** Aborted when the caller is gone. */
  get signal() {
    if (this.#abort === null) {
      this.#abort = new AbortController();
      if (this.#cancelled) this.#abort.abort();
    }
    return this.#abort.signal;
  }

  /** Milliseconds until the deadline, never below 0; the function's timeout if it has no deadline. */
  remainingTimeMs() {
    const deadline = this.#head.deadline_ms;
    return deadline ? Math.max(0, Math.floor(deadline - Date.now())) : Math.floor(this.#task.timeout_s * 1000);
  }

  // Names that handlers written for AWS Lambda use.
  get awsRequestId() { return this.requestId; }
  get functionName() { return this.function; }
  get functionVersion() { return this.version; }
  get memoryLimitInMB() { return String(Math.floor(this.memoryLimitBytes / 1048576)); }
  get invokedFunctionArn() { return `fuyun:${this.namespace}:${this.function}:${this.alias || this.version}`; }
  get logGroupName() { return `${this.namespace}/${this.function}`; }
  get logStreamName() { return this.instance; }
  get identity() { return undefined; }
  get clientContext() { return undefined; }
  getRemainingTimeInMillis() { return this.remainingTimeMs(); }

  /** What a log or a debugger shows. */
  toJSON() {
    return { requestId: this.requestId, function: this.function, version: this.version, namespace: this.namespace };
  }

  static cancel(context) {
    context.#cancelled = true;
    context.#abort?.abort();
  }
}

module.exports = { Context };
