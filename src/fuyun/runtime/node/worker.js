'use strict';
// The life of a Node instance: `node worker.js TASK CHANNEL`, two inherited descriptors. It waits for its task (a
// SPECIALIZE frame) on the first, then answers invocations on the second until the platform hangs up.
// The contract with the author is docs/contracts/runtime.md; the frames are `frames.js`.

const fs = require('node:fs');
const net = require('node:net');
const { HEADER_SIZE, KIND, Splitter, jsonFrame } = require('./frames.js');
const { Context } = require('./context.js');
const { Desk } = require('./desk.js');
const { fitHeap } = require('./heap.js');
const { App, load } = require('./loader.js');
const { Spool, install } = require('./logs.js');
const { LoadProblem, problem, raised } = require('./problems.js');
const { awslambda } = require('./streaming.js');
const { rehearse } = require('./rehearsal.js');

/** Exit code after a failed start: EX_SOFTWARE of sysexits.h. */
const START_FAILED = 70;
const RECEIVE = 64 * 1024;
const exit = process.reallyExit;

function exactly(descriptor, size) {
  const data = Buffer.alloc(size);
  for (let at = 0; at < size;) {
    const got = fs.readSync(descriptor, data, at, size - at, null);
    if (got === 0) exit.call(process, 0);  // the keeper is gone
    at += got;
  }
  return data;
}

/** Block until the task is there. */
function receiveTask(descriptor) {
  const header = exactly(descriptor, HEADER_SIZE);
  if (header[4] !== KIND.SPECIALIZE) throw new Error(`the first frame is of kind ${header[4]}, not SPECIALIZE`);
  const task = JSON.parse(exactly(descriptor, header.readUInt32LE(0)).toString());
  fs.closeSync(descriptor);
  return task;
}

/** What nobody caught ends the process: first the calls it belongs to are answered, and all others if none can be
 * told to be its. */
function watchFailures(desk, isReady, socket) {
  const end = (error) => {
    const call = desk.find();
    const told = raised(error, desk.app.codeDir);
    for (const one of call !== null ? [call] : [...desk.calls.values()]) desk.failWith(one, told);
    if (call === null && desk.calls.size === 0) desk.spool.record('error', told.traceback.join('\n'));
    if (!isReady()) {
      const text = `importing ${desk.app.task.handler} failed: ${told.message}`;
      desk.send(jsonFrame(KIND.FAILED, 0, problem('function_load_failed', text, told.error_type, told.traceback)));
    }
    hangUp(socket, isReady() ? 1 : START_FAILED);
  };
  process.on('uncaughtException', end);
  process.on('unhandledRejection', end);
  // The platform answers what is open once it knows how the process has ended.
  process.on('exit', () => desk.calls.forEach((call) => desk.spool.finish(call)));
}

/** End with `status`, the connection first, so that the platform sends nothing more. */
function hangUp(socket, status) {
  if (socket.writableLength === 0) {
    socket._handle.close();
    exit.call(process, status);
  }
  socket.end(() => exit.call(process, status));
}

/** Serve until the platform hangs up. */
async function main(taskDescriptor, channelDescriptor) {
  await rehearse();
  const app = new App(receiveTask(taskDescriptor));
  fitHeap(app.task.memory_bytes);
  let desk = null;
  let ready = false;
  const splitter = new Splitter((kind, flags, stream, data) => {
    if (!desk.take(kind, flags, stream, data)) exit.call(process, 0);
  });
  const socket = new net.Socket({
    fd: channelDescriptor,
    onread: {
      buffer: Buffer.alloc(RECEIVE),
      callback(size, buffer) {
        try {
          splitter.feed(buffer.subarray(0, size));
        } catch (error) {
          if (error instanceof RangeError) exit.call(process, 0);
          throw error;
        }
        return true;
      },
    },
  });
  socket.on('end', () => exit.call(process, 0));
  socket.on('error', () => exit.call(process, 0));
  desk = new Desk(app, (data) => { socket.write(data); });
  desk.spool = new Spool(app.task.log_bytes, desk.send, () => desk.find());
  install(desk.spool);
  app.idleContext = new Context({}, app.task);
  app.log = (text) => desk.spool.record('error', text);
  globalThis.awslambda = awslambda;
  watchFailures(desk, () => ready, socket);
  try {
    await load(app);
  } catch (error) {
    if (!(error instanceof LoadProblem)) throw error;
    desk.spool.finish(desk.spool.idle);
    desk.send(jsonFrame(KIND.FAILED, 0, error.problem));
    hangUp(socket, START_FAILED);
    return;
  }
  ready = true;
  socket.write(jsonFrame(KIND.READY, 0, app.ready()));
  socket.resume();
}

main(Number(process.argv[2]), Number(process.argv[3]));
