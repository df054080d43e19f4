'use strict';
// Turns a task into an app: environment, module paths, import, initializer.

const fs = require('node:fs');
const path = require('node:path');
const Module = require('node:module');
const { pathToFileURL } = require('node:url');
const ahead = require('./ahead.js');
const { LoadProblem, describe, trim, typeName } = require('./problems.js');
const { within, HookTimeout } = require('./hooks.js');

const SUFFIXES = ['.js', '.mjs', '.cjs'];
const HOOKS = ['pre_freeze', 'pre_stop'];
const DEFAULTS = {
  concurrency: 1, timeout_s: 30, memory_bytes: 256 << 20, output_bytes: 6 << 20, log_bytes: 1 << 20, layers: [],
  env: {}, hooks: {}, namespace: '', function: '', version: '', instance: '',
};
/** Set by `awslambda.streamifyResponse` on a handler that writes its answer to a stream. */
const STREAMS = Symbol.for('fuyun.streams');

/** The author's code, loaded: `handler`, `style` (event, callback or stream), `hooks`, times in ms. */
class App {
  constructor(task) {
    this.task = { ...DEFAULTS, ...task };
    this.codeDir = this.task.code;
    this.hooks = {};
    this.loadMs = 0;
    this.initMs = 0;
  }

  hookLimit(name) {
    return Number(this.task.hooks[`${name}_timeout_s`] ?? (name === 'initializer' ? 30 : 3));
  }

  /** What READY says. */
  ready() {
    const ms = (value) => Math.round(value * 1000) / 1000;
    return {
      mode: 'event', style: this.style, load_ms: ms(this.loadMs), init_ms: ms(this.initMs), forkable: false,
      reason: 'a Node process has threads, which a fork would lose', hooks: Object.keys(this.hooks).sort(),
      node: process.versions.node, compiled_ahead: ahead.use.taken,
    };
  }
}

/** Become what `task` says. LoadProblem when the author's code does not let us. */
async function load(app) {
  const { task } = app;
  const started = performance.now();
  environment(task);
  enter(task);
  ahead.use(task.code);
  app.handler = await resolve(task.handler, app);
  app.style = app.handler[STREAMS] ? 'stream' : app.handler.length >= 3 ? 'callback' : 'event';
  for (const name of HOOKS) {
    if (task.hooks[name]) app.hooks[name] = await resolve(task.hooks[name], app);
  }
  const initializer = task.hooks.initializer ? await resolve(task.hooks.initializer, app) : null;
  const loaded = performance.now();
  app.loadMs = loaded - started;
  if (initializer !== null) await initialize(app, initializer);
  app.initMs = performance.now() - loaded;
}

/** The function's variables, over a fixed base. */
function environment(task) {
  const wanted = {
    PATH: '/usr/local/bin:/usr/bin:/bin', HOME: '/tmp', TMPDIR: '/tmp', LANG: 'C.UTF-8', TZ: 'UTC',
    NODE_PATH: moduleFolders(task.layers).join(':'),
    ...task.env,
    FUYUN_NAMESPACE: task.namespace, FUYUN_FUNCTION: task.function, FUYUN_VERSION: task.version,
    FUYUN_INSTANCE: task.instance, FUYUN_HANDLER: task.handler, FUYUN_MEMORY_BYTES: String(task.memory_bytes),
    FUYUN_TIMEOUT_S: String(task.timeout_s),
  };
  for (const name of Object.keys(process.env)) if (!(name in wanted)) delete process.env[name];
  for (const [name, value] of Object.entries(wanted)) if (process.env[name] !== value) process.env[name] = value;
  if (wanted.NODE_PATH) Module._initPaths();
}

/** Where packages of the layers are: `nodejs/node_modules` or `node_modules` in them, else they themselves. */
function moduleFolders(layers) {
  return layers.map((layer) => {
    const inner = ['nodejs/node_modules', 'node_modules'].map((name) => path.join(layer, name));
    return inner.find((folder) => fs.existsSync(folder)) ?? layer;
  });
}

function enter(task) {
  try {
    process.chdir(task.code);
  } catch (error) {
    throw new LoadProblem('function_load_failed', `the code folder ${task.code} cannot be entered: ${error.code}`);
  }
  process.argv = [process.execPath, task.code];
}

/** The function `name` leads to: FILE.EXPORT, folder/FILE.EXPORT or FILE:EXPORT. */
async function resolve(name, app) {
  const at = name.includes(':') ? name.indexOf(':') : name.lastIndexOf('.');
  const [file, attributes] = [name.slice(0, at), name.slice(at + 1)];
  if (at <= 0 || !attributes) {
    const text = `${JSON.stringify(name)} names no handler; write index.handler or folder/file.handler`;
    throw new LoadProblem('handler_missing', text);
  }
  const found = await importModule(file, app);
  let target = found;
  for (const attribute of attributes.split('.')) {
    const next = pick(target, attribute) ?? (target === found ? pick(found.default, attribute) : undefined);
    if (next === undefined) throw new LoadProblem('handler_missing', missing(file, attribute, found));
    target = next;
  }
  if (typeof target !== 'function') {
    throw new LoadProblem('handler_missing', `${name} is a ${typeof target}, which cannot be called`);
  }
  return target;
}

function pick(target, attribute) {
  return target !== null && (typeof target === 'object' || typeof target === 'function') ? target[attribute] : undefined;
}

async function importModule(name, app) {
  const file = fileOf(name, app.codeDir);
  try {
    if (file.endsWith('.mjs')) return await import(pathToFileURL(file));
    try {
      return Module.createRequire(file)(file);
    } catch (error) {
      if (error?.code !== 'ERR_REQUIRE_ESM' && error?.code !== 'ERR_REQUIRE_ASYNC_MODULE') throw error;
      return await import(pathToFileURL(file));
    }
  } catch (error) {
    const lines = trim(error, app.codeDir);
    app.log?.(lines.join('\n'));
    const text = `importing ${name} failed: ${describe(error).split('\n', 1)[0]}${advice(error)}`;
    throw new LoadProblem('function_load_failed', text, typeName(error), lines);
  }
}

function advice(error) {
  const absent = error?.code === 'MODULE_NOT_FOUND' || error?.code === 'ERR_MODULE_NOT_FOUND';
  if (absent && !/(module|package) '(\.|\/|file:)/.test(error.message)) {
    return '; packages belong into "dependencies" of package.json';
  }
  const esm = error instanceof SyntaxError && /import statement outside|Unexpected token 'export'/.test(error.message);
  return esm ? '; name the file .mjs or set "type": "module" in package.json' : '';
}

function fileOf(name, codeDir) {
  const base = path.resolve(codeDir, name);
  const tries = [...SUFFIXES.map((suffix) => base + suffix), ...SUFFIXES.map((suffix) => path.join(base, `index${suffix}`))];
  const found = tries.find((file) => fs.statSync(file, { throwIfNoEntry: false })?.isFile());
  if (found !== undefined) return found;
  let held = [];
  try {
    held = fs.readdirSync(codeDir).filter((file) => SUFFIXES.includes(path.extname(file))).sort();
  } catch {  // what cannot be listed holds nothing to name
  }
  const listed = held.slice(0, 12).join(', ') || 'no JavaScript file';
  const near = nearest(name, held.map((file) => path.parse(file).name));
  throw new LoadProblem('function_load_failed', `there is no file ${name}.js, .mjs or .cjs in the code; it holds ${listed}${near}`);
}

function missing(file, attribute, found) {
  const names = new Set([...Object.keys(found ?? {}), ...Object.keys(found?.default ?? {})]);
  const callable = [...names].filter((name) => typeof (found[name] ?? found.default?.[name]) === 'function').sort();
  const listed = callable.slice(0, 12).join(', ') || 'no function';
  return `${file} exports no ${JSON.stringify(attribute)}; it exports ${listed}${nearest(attribute, callable)}`;
}

/** "; did you mean …?" for a name within two edits, or one that differs in case. */
function nearest(word, known) {
  const close = known.map((name) => [edits(word.toLowerCase(), name.toLowerCase()), name]).sort((a, b) => a[0] - b[0])[0];
  return close && close[0] <= Math.min(2, word.length - 1) ? `; did you mean ${JSON.stringify(close[1])}?` : '';
}

function edits(one, other) {
  let row = Array.from({ length: other.length + 1 }, (_, index) => index);
  for (let i = 1; i <= one.length; i++) {
    const next = [i];
    for (let j = 1; j <= other.length; j++) {
      next.push(Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (one[i - 1] === other[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[other.length];
}

async function initialize(app, initializer) {
  const limit = app.hookLimit('initializer');
  try {
    await within(limit, () => initializer(app.idleContext));
  } catch (error) {
    if (error instanceof HookTimeout) {
      throw new LoadProblem('function_init_failed', `the initializer did not end within ${limit} s`);
    }
    const lines = trim(error, app.codeDir);
    app.log?.(lines.join('\n'));
    throw new LoadProblem('function_init_failed', `the initializer failed: ${describe(error)}`, typeName(error), lines);
  }
}

module.exports = { App, load, STREAMS };
