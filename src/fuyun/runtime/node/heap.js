'use strict';
// How V8's heap grows in a small instance.

const v8 = require('node:v8');

/** Have V8 collect before its heap has grown out of a small limit. A heap may otherwise grow to four times of what
 * lives in it before it is collected (docs/decisions/0015). */
function fitHeap(memoryBytes) {
  const mebibytes = memoryBytes / 2 ** 20;
  if (mebibytes < 1024) v8.setFlagsFromString(`--heap-growing-percent=${Math.max(20, Math.round(mebibytes / 4))}`);
}

module.exports = { fitHeap };
