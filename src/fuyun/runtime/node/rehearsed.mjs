// Loaded by `rehearsal.js` as a function's code would be.
export const handler = async () => null;
