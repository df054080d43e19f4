'use strict';
// Loaded by `rehearsal.js` as a function's code would be.
exports.handler = async () => null;
