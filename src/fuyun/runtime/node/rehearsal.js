'use strict';
// What a blank does once before it waits, so that its task and its first invocation find everything compiled and loaded:
// it lives a whole life on a connection with itself.

const fs = require('node:fs');
const { KIND, frame } = require('./frames.js');
const { Life } = require('./life.js');
const rehearsed = require('./rehearsed.js');

const TASK = { code: __dirname, handler: 'rehearsed.handler' };
const HEADS = [
  { id: '', kind: 'http', method: 'GET', path: '/', query: 'a=%20', headers: [['host', 'x']] },
  { id: '', kind: 'event' },
];
/** Turns of the loop; two or three are enough. */
const MOST_TURNS = 1000;

/** Load the rehearsed function, have it called over the connection `near` - `far`, and forget all of it. */
async function rehearse(near, far) {
  const life = new Life(TASK, near);
  await life.begin();
  HEADS.forEach((head, index) => fs.writeSync(far, invocation(index + 1, head)));
  for (let turn = 0; turn < MOST_TURNS; turn++) {
    if (rehearsed.calls() === HEADS.length && life.desk.calls.size === 0) break;
    await new Promise(setImmediate);
  }
  life.end();
  fs.closeSync(far);
  await import('./rehearsed.mjs');
}

function invocation(stream, head) {
  const meta = Buffer.from(JSON.stringify(head));
  const size = Buffer.alloc(4);
  size.writeUInt32LE(meta.length);
  return frame(KIND.INVOKE, stream, Buffer.concat([size, meta, Buffer.from('{}')]), 1);
}

module.exports = { rehearse };
