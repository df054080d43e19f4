'use strict';
// A Node instance: `node worker.js TASK CHANNEL NEAR FAR`, inherited descriptors. It rehearses its life on the connection
// NEAR - FAR, waits for its task (a SPECIALIZE frame) on the first, then lives it on the second.
// The contract with the author is docs/contracts/runtime.md; the frames are `frames.js`.

const fs = require('node:fs');
const { HEADER_SIZE, KIND } = require('./frames.js');
const { fitHeap } = require('./heap.js');
const { Life } = require('./life.js');
const { rehearse } = require('./rehearsal.js');

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

async function main(task, channel, near, far) {
  await rehearse(near, far);
  const life = new Life(receiveTask(task), channel);
  fitHeap(life.app.task.memory_bytes);
  await life.begin();
}

main(...process.argv.slice(2).map(Number));
