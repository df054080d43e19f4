'use strict';
// Loaded by `rehearsal.js` as a function's code would be, and called.
let calls = 0;
exports.calls = () => calls;
exports.handler = async (event) => {
  calls += 1;
  console.log('%s', 'rehearsed');
  return { statusCode: 200, headers: { 'content-type': 'application/json' }, body: JSON.stringify(event) };
};
