'use strict';
// An instance's life after its task has come: the connection, the author's code, the answers, until the platform hangs up.

const net = require('node:net');
const { KIND, Splitter, jsonFrame } = require('./frames.js');
const { Context } = require('./context.js');
const { Desk } = require('./desk.js');
const { App, load } = require('./loader.js');
const { Spool, install } = require('./logs.js');
const { LoadProblem, problem, raised } = require('./problems.js');
const { awslambda } = require('./streaming.js');

/** Exit code after a failed start: EX_SOFTWARE of sysexits.h. */
const START_FAILED = 70;
const RECEIVE = 64 * 1024;
const exit = process.reallyExit;
const leave = () => exit.call(process, 0);

/** Serves `task` on the inherited descriptor `channel`. */
class Life {
  constructor(task, channel) {
    this.app = new App(task);
    this.ready = false;
    this.splitter = new Splitter((kind, flags, stream, data) => {
      if (!this.desk.take(kind, flags, stream, data)) leave();
    });
    this.socket = this.#connect(channel);
    this.desk = new Desk(this.app, (data) => { this.socket.write(data); });
    this.desk.spool = new Spool(this.app.task.log_bytes, this.desk.send, () => this.desk.find());
  }

  /** Load the author's code and say READY; from then on invocations are answered. FAILED and the end otherwise. */
  async begin() {
    const { app, desk } = this;
    install(desk.spool);
    app.idleContext = new Context({}, app.task);
    app.log = (text) => desk.spool.record('error', text);
    globalThis.awslambda = awslambda;
    this.#watch();
    try {
      await load(app);
    } catch (error) {
      if (!(error instanceof LoadProblem)) throw error;
      desk.spool.finish(desk.spool.idle);
      desk.send(jsonFrame(KIND.FAILED, 0, error.problem));
      this.#hangUp(START_FAILED);
      return;
    }
    this.ready = true;
    this.socket.write(jsonFrame(KIND.READY, 0, app.ready()));
    this.socket.resume();
  }

  /** End, and leave the process as it was: this was a rehearsal. */
  end() {
    for (const [name, listener] of this.watching) process.off(name, listener);
    this.socket.removeAllListeners();
    this.socket.destroy();
  }

  #connect(channel) {
    const socket = new net.Socket({
      fd: channel,
      onread: {
        buffer: Buffer.alloc(RECEIVE),
        callback: (size, buffer) => {
          try {
            this.splitter.feed(buffer.subarray(0, size));
          } catch (error) {
            if (error instanceof RangeError) leave();
            throw error;
          }
          return true;
        },
      },
    });
    socket.on('end', leave);
    socket.on('error', leave);
    return socket;
  }

  /** What nobody caught ends the process. */
  #watch() {
    const fatal = (error) => this.#fail(error);
    this.watching = [
      ['uncaughtException', fatal],
      ['unhandledRejection', fatal],
      // The platform answers what is open once it knows how the process has ended.
      ['exit', () => this.desk.calls.forEach((call) => this.desk.spool.finish(call))],
    ];
    for (const [name, listener] of this.watching) process.on(name, listener);
  }

  /** First the calls that `error` belongs to are answered, and all others if none can be told to be its. */
  #fail(error) {
    const { app, desk } = this;
    const call = desk.find();
    const told = raised(error, app.codeDir);
    for (const one of call !== null ? [call] : [...desk.calls.values()]) desk.failWith(one, told);
    if (call === null && desk.calls.size === 0) desk.spool.record('error', told.traceback.join('\n'));
    if (!this.ready) {
      const text = `importing ${app.task.handler} failed: ${told.message}`;
      desk.send(jsonFrame(KIND.FAILED, 0, problem('function_load_failed', text, told.error_type, told.traceback)));
    }
    this.#hangUp(this.ready ? 1 : START_FAILED);
  }

  /** End with `status`, the connection first, so that the platform sends nothing more. */
  #hangUp(status) {
    if (this.socket.writableLength === 0) {
      this.socket._handle.close();
      exit.call(process, status);
    }
    this.socket.end(() => exit.call(process, status));
  }
}

module.exports = { Life };
