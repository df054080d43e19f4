'use strict';
// Answers invocations: one at a time, or up to the function's concurrency, on Node's event loop.

const { AsyncLocalStorage } = require('node:async_hooks');
const { KIND, LARGEST_RESULT, PIECE, WINDOW, frame, jsonFrame, resultFrame, finishFrame, errorFrame, creditFrame } =
  require('./frames.js');
const { BadAnswer, Streamed, opening, pieceOf, shape } = require('./answers.js');
const { BadPayload, httpEvent, payload } = require('./events.js');
const { Context } = require('./context.js');
const { answerHook } = require('./hooks.js');
const { problem, raised } = require('./problems.js');
const { runStreaming } = require('./streaming.js');

const U32 = 0xffffffff;
const NOTHING = Buffer.alloc(0);

/** State of one stream. */
class Call {
  constructor(stream, head, logLeft) {
    this.stream = stream;
    this.head = head;
    this.started = performance.now();
    this.parts = [];
    this.unacknowledged = 0;  // bytes of BODY taken but not yet credited
    this.room = WINDOW;  // bytes of CHUNK the platform will take
    this.wake = null;
    this.cancelled = false;
    this.begun = false;  // HEAD has left
    this.over = false;
    this.context = null;
    this.logLeft = logLeft;
    this.logCut = false;
    this.partial = null;
  }
}

/** One per process. `send` writes a frame. */
class Desk {
  constructor(app, send) {
    this.app = app;
    this.send = send;
    this.calls = new Map();
    this.only = null;
    this.local = app.task.concurrency > 1 ? new AsyncLocalStorage() : null;
    this.limit = app.task.output_bytes;
    this.spool = null;
    const used = process.resourceUsage();
    this.cpu = used.userCPUTime + used.systemCPUTime;
  }

  /** The call that the running code belongs to, or null. */
  find() {
    return this.local === null ? this.only : this.local.getStore() ?? null;
  }

  /** A frame from the platform; false for one that does not belong here. */
  take(kind, flags, stream, data) {
    if (kind === KIND.INVOKE) this.#invoke(stream, flags, data);
    else if (kind === KIND.HOOK) this.#hook(stream, data);
    else if (kind === KIND.CREDIT || kind === KIND.BODY || kind === KIND.CANCEL) {
      const call = this.calls.get(stream);  // these three come late for a call that has ended
      if (call !== undefined) this.#note(call, kind, flags, data);
    } else return false;
    return true;
  }

  #invoke(stream, flags, data) {
    const size = data.readUInt32LE(0) + 4;
    const head = JSON.parse(data.toString('utf8', 4, size));
    const call = new Call(stream, head, this.spool.limit);
    this.calls.set(stream, call);
    this.spool.renew();
    const body = data.length > size ? Buffer.from(data.subarray(size)) : NOTHING;
    if (flags & 1) this.#start(call, body);
    else if (body.length) call.parts.push(body);
  }

  #note(call, kind, flags, data) {
    if (kind === KIND.CREDIT) {
      call.room += data.readUInt32LE(0);
    } else if (kind === KIND.BODY) {
      call.parts.push(Buffer.from(data));
      call.unacknowledged += data.length;
      if (flags & 1) {
        this.#start(call, Buffer.concat(call.parts));
        call.parts = [];
      } else if (call.unacknowledged >= WINDOW / 4) {
        this.send(creditFrame(call.stream, call.unacknowledged));
        call.unacknowledged = 0;
      }
    } else {
      call.cancelled = true;
      if (call.context !== null) Context.cancel(call.context);
    }
    const wake = call.wake;
    call.wake = null;
    if (wake !== null) wake();
  }

  #start(call, body) {
    if (this.local === null) {
      this.only = call;
      this.#run(call, body);
    } else {
      this.local.run(call, () => this.#run(call, body));
    }
  }

  #run(call, body) {
    const http = call.head.kind === 'http';
    let result;
    try {
      const event = http ? httpEvent(call.head, body, this.app.task) : payload(body);
      call.context = new Context(call.head, this.app.task);
      if (call.cancelled) Context.cancel(call.context);
      result = this.#handle(call, event);
    } catch (error) {
      this.fail(call, error);
      return;
    }
    if (result !== null && typeof result === 'object' && typeof result.then === 'function') {
      result.then((value) => this.#answer(call, value, http), (error) => this.fail(call, error));
    } else {
      this.#answer(call, result, http);
    }
  }

  #handle(call, event) {
    const { handler, style } = this.app;
    if (style === 'event') return handler(event, call.context);
    if (style === 'stream') return runStreaming(this, call, event, call.context);
    return new Promise((resolve, reject) => {
      const done = (error, value) => (error === null || error === undefined ? resolve(value) : reject(error));
      const returned = handler(event, call.context, done);
      if (returned !== null && typeof returned?.then === 'function') returned.then(resolve, reject);
    });
  }

  #answer(call, result, http) {
    if (call.over) return;
    try {
      if (this.app.style === 'stream') {
        this.finish(call);
        return;
      }
      const answer = shape(result, http, this.limit);
      if (answer instanceof Streamed) {
        this.#stream(call, answer, http).catch((error) => this.fail(call, error));
      } else {
        this.#result(call, answer);
      }
    } catch (error) {
      this.fail(call, error);
    }
  }

  #result(call, answer) {
    if (answer.body.length > LARGEST_RESULT) {
      this.head(call, answer.status, answer.headers ?? [['content-type', 'application/json']]);
      this.write(call, Buffer.from(answer.body)).then(() => this.finish(call), (error) => this.fail(call, error));
      return;
    }
    this.#end(call);
    this.send(resultFrame(call.stream, this.#usage(call), answer.status, answer.headers, answer.body));
  }

  /** A streamed answer begins. */
  head(call, status, headers) {
    if (call.over) return;
    call.begun = true;
    this.send(jsonFrame(KIND.HEAD, call.stream, [status, headers]));
  }

  /** A piece of it, waiting for room. False when the caller is gone and the rest may be skipped. */
  async write(call, data) {
    let at = 0;
    while (at < data.length) {
      while (call.room <= 0) {
        if (call.cancelled || call.over) return false;
        await new Promise((resolve) => { call.wake = resolve; });
      }
      if (call.over) return false;
      const piece = data.subarray(at, at + Math.min(call.room, PIECE));
      call.room -= piece.length;
      at += piece.length;
      this.send(frame(KIND.CHUNK, call.stream, piece));
    }
    return !call.cancelled && !call.over;
  }

  /** It is complete. */
  finish(call) {
    if (call.over) return;
    this.#end(call);
    this.send(finishFrame(call.stream, this.#usage(call)));
  }

  async #stream(call, streamed, http) {
    const { pieces } = streamed;
    const iterator = typeof pieces[Symbol.asyncIterator] === 'function' ? pieces[Symbol.asyncIterator]() : pieces;
    let number = 0;
    let complete = false;
    try {
      for (;;) {
        const { value, done } = await iterator.next();
        if (done) {
          complete = true;
          break;
        }
        let data;
        if (number === 0) {
          const first = opening(streamed, value, http);
          this.head(call, first.status, first.headers);
          data = first.body;
        } else {
          data = pieceOf(value, `chunk ${number}`);
        }
        number += 1;
        if (!(await this.write(call, data))) break;
      }
    } finally {
      if (!complete) await iterator.return?.();
    }
    if (number) this.finish(call);
    else if (!call.over) {
      this.#end(call);
      this.send(resultFrame(call.stream, this.#usage(call), streamed.status, streamed.headers ?? [], NOTHING));
    }
  }

  /** Answer with what `error` means. */
  fail(call, error) {
    if (call.over) return;
    let told;
    if (error instanceof BadAnswer) told = problem(error.code, error.message);
    else if (error instanceof BadPayload) told = problem('bad_request', error.message);
    else told = raised(error, this.app.codeDir);
    this.failWith(call, told);
  }

  /** Answer with a Problem. */
  failWith(call, told) {
    if (call.over) return;
    this.spool.finish(call);
    if (told.traceback.length) this.spool.record('error', told.traceback.join('\n'), call);
    this.#end(call);
    this.send(errorFrame(call.stream, this.#usage(call), told));
  }

  #end(call) {
    this.spool.finish(call);
    call.over = true;
    call.parts = [];
    this.calls.delete(call.stream);
    if (this.only === call) this.only = null;
    const wake = call.wake;
    call.wake = null;
    if (wake !== null) wake();
  }

  #usage(call) {
    const used = process.resourceUsage();
    const cpu = used.userCPUTime + used.systemCPUTime;
    const spent = Math.max(0, cpu - this.cpu);
    this.cpu = cpu;
    const run = Math.round((performance.now() - call.started) * 1000);
    return [Math.min(run, U32), Math.min(spent, U32), Math.min(used.maxRSS, U32)];
  }

  async #hook(stream, data) {
    let name;
    try {
      name = String(JSON.parse(data.toString()).hook);
    } catch {
      name = '';
    }
    const told = await answerHook(this.app, name);
    this.send(jsonFrame(KIND.HOOKED, stream, told, 1));
  }
}

module.exports = { Desk };
