'use strict';
// What a blank does once before it waits, so that the first invocation finds it compiled and loaded.

const path = require('node:path');
const { finishFrame, resultFrame, Splitter } = require('./frames.js');
const { shape } = require('./answers.js');
const { Context } = require('./context.js');
const { httpEvent, payload } = require('./events.js');

/** Run the way of a call, without a connection, and load a module of either kind. */
async function rehearse() {
  const head = { id: '', kind: 'http', method: 'GET', path: '/', query: 'a=%20', headers: [['host', 'x']] };
  const task = { namespace: '', function: '', version: '', timeout_s: 1, memory_bytes: 1 };
  const event = httpEvent(head, Buffer.from('{}'), task);
  const answer = shape({ statusCode: 200, headers: { a: 'b' }, body: event }, true, 1 << 20);
  const data = resultFrame(1, [1, 1, 1], answer.status, answer.headers, answer.body);
  new Splitter(() => payload(Buffer.from('{}'))).feed(data);
  shape({ ok: true }, false, 1024);
  finishFrame(1, [1, 1, 1]);
  new Context(head, task).remainingTimeMs();
  require('node:module').createRequire(path.join(__dirname, 'x'))('./rehearsed.js');
  await import('./rehearsed.mjs');
}

module.exports = { rehearse };
