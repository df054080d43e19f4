'use strict';
// What went wrong, as the platform is told: codes of `domain/errors.py`, the author's frames, no others.
// A Problem is {"code", "message", "error_type", "traceback": [line, ...]}.

const path = require('node:path');
const { fileURLToPath } = require('node:url');

const MESSAGE_CHARS = 8192;
const TRACEBACK_LINES = 80;
const CAUSES = 8;
const RUNTIME = __dirname + path.sep;

/** Start-up failed. `code` is function_load_failed, handler_missing or function_init_failed. */
class LoadProblem extends Error {
  constructor(code, message, errorType = '', traceback = []) {
    super(message);
    this.problem = problem(code, message, errorType, traceback);
  }
}

/** A Problem, within its limits. */
function problem(code, message, errorType = '', traceback = []) {
  const text = message.length > MESSAGE_CHARS ? `${message.slice(0, MESSAGE_CHARS)}…` : message;
  return { code, message: text, error_type: errorType, traceback };
}

/** The name of an error's class, also where a subclass has set no `name`; of other values their type. */
function typeName(error) {
  if (!isError(error)) return typeof error;
  const own = safely(() => String(error.name), '');
  const made = safely(() => String(error.constructor.name), '');
  return (own === 'Error' || !own ? made || own : own) || 'Error';
}

/** `Type: text`, also when its getters throw. */
function describe(error) {
  const name = typeName(error);
  const text = safely(() => (isError(error) ? String(error.message) : String(error)), '<it cannot be written as text>');
  return text ? `${name}: ${text}` : name;
}

/** The Problem of what came out of the author's code. */
function raised(error, codeDir) {
  const range = isError(error) && /^(Array buffer allocation failed|Invalid string length)/.test(describe(error));
  return problem(range ? 'function_out_of_memory' : 'function_raised', describe(error), typeName(error),
    trim(error, codeDir));
}

/** The stack as lines: the author's frames, and the innermost one where the error arose in a library; causes below. */
function trim(error, codeDir) {
  const lines = [];
  let at = error;
  const seen = new Set();
  for (let depth = 0; depth < CAUSES && at !== undefined && !seen.has(at); depth++) {
    seen.add(at);
    if (depth) lines.push('', 'Caused by:');
    lines.push(...describe(at).split('\n'), ...framesOf(at, codeDir));
    at = isError(at) ? safely(() => at.cause, undefined) : undefined;
  }
  if (lines.length > TRACEBACK_LINES) {
    const half = TRACEBACK_LINES / 2;
    const cut = lines.length - TRACEBACK_LINES;
    lines.splice(half, cut, `  ... ${cut} lines left out ...`);
  }
  return lines.map((line) => line.slice(0, 1000));
}

function framesOf(error, codeDir) {
  const stack = isError(error) ? safely(() => String(error.stack), '') : '';
  const found = [];
  for (const line of stack.split('\n')) {
    if (!/^\s+at /.test(line)) continue;
    const file = fileOf(line);
    if (file === '' || file.startsWith(RUNTIME)) continue;
    found.push([line, file.startsWith(codeDir.replace(/\/*$/, '/')) && !file.includes('/node_modules/')]);
  }
  return found.filter(([, own], index) => own || index === 0).map(([line]) => line.replaceAll('file://', ''));
}

/** The file a line of a stack names; "" for Node's own. */
function fileOf(line) {
  const place = /\(([^()]+)\)\s*$/.exec(line)?.[1] ?? line.replace(/^\s+at (async )?/, '');
  const file = place.replace(/:\d+(:\d+)?$/, '');
  if (file.startsWith('file://')) return safely(() => fileURLToPath(file), '');
  return path.isAbsolute(file) ? file : '';
}

function isError(value) {
  return value instanceof Error || Object.prototype.toString.call(value) === '[object Error]';
}

function safely(action, otherwise) {
  try {
    return action();
  } catch {
    return otherwise;
  }
}

module.exports = { LoadProblem, problem, raised, trim, describe, typeName };
