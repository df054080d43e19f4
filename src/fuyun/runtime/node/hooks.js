'use strict';
// Lifecycle hooks: `initializer`, `pre_freeze`, `pre_stop`, each with its own time limit.

const { problem, raised } = require('./problems.js');

/** The hook passed its limit. */
class HookTimeout extends Error {}

/** What `call` returns or resolves to; HookTimeout after `seconds`. */
async function within(seconds, call) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new HookTimeout()), seconds * 1000);
  });
  try {
    return await Promise.race([call(), late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Run the hook that a HOOK frame asks for: what HOOKED says. A missing hook is fine. */
async function answerHook(app, name) {
  const hook = app.hooks[name];
  if (hook === undefined) return { ok: true };
  const limit = app.hookLimit(name);
  try {
    await within(limit, () => hook(app.idleContext));
    return { ok: true };
  } catch (error) {
    if (error instanceof HookTimeout) return problem('function_timed_out', `${name} did not end within ${limit} s`);
    return raised(error, app.codeDir);
  }
}

module.exports = { HookTimeout, within, answerHook };
