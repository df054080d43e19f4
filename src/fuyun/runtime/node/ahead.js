'use strict';
// Large CommonJS files as V8 has compiled them at their deployment, so that an instance does not parse them again:
// 2 ms instead of 45 for 2 MB (docs/decisions/0015). `node ahead.js CODE CODE' PACKAGES PACKAGES' MEMORY FILE ...` makes
// them for instances that have the folder CODE at CODE'.

const fs = require('node:fs');
const path = require('node:path');
const vm = require('node:vm');
const Module = require('node:module');
const { fitHeap } = require('./heap.js');

/** Folder in the code, and the list of what it holds: {code, files: [[path of the file, its compiled form]]}. */
const PREPARED = 'fuyun-node';
const LIST = 'list.json';
/** A script that V8 did not compile itself cannot import modules (Node 20, V8 11.3): one that may do so is left. */
const IMPORTS = /\bimport\s*(?:\/[/*].*)?\(/;

function scriptOf(content, filename, cachedData) {
  return new vm.Script(Module.wrap(content), { filename, cachedData, columnOffset: -Module.wrapper[0].length });
}

/** Let `require` take what the code in `folder` has compiled. Other versions of V8, and other options of it, refuse what
 * these have made, and compile. The name of a script is in it: at another place than the one it was made for, none is
 * taken. */
function use(folder) {
  let list;
  try {
    list = JSON.parse(fs.readFileSync(path.join(folder, PREPARED, LIST)));
  } catch {
    return;
  }
  if (list.code !== folder) return;
  const known = new Map(list.files);
  const plain = Module.prototype._compile;
  Module.prototype._compile = function compile(content, filename, ...rest) {
    const made = known.get(filename);
    if (made === undefined) return plain.call(this, content, filename, ...rest);
    const script = scriptOf(content, filename, fs.readFileSync(path.join(folder, PREPARED, made)));
    if (!script.cachedDataRejected) use.taken += 1;
    const enter = script.runInThisContext();
    return enter.call(this.exports, this.exports, Module.createRequire(filename), this, filename, path.dirname(filename));
  };
}
use.taken = 0;

/** Compile `files` below the folders `from`, which instances with so much memory have at `to`; the code is the first.
 * What is no CommonJS is left. */
function make(from, to, memoryBytes, files) {
  fitHeap(memoryBytes);
  const made = [];
  for (const file of files) {
    const at = file.startsWith(`${from[0]}/`) ? 0 : 1;
    const name = path.join(to[at], path.relative(from[at], file));
    const content = fs.readFileSync(file, 'utf8');
    if (IMPORTS.test(content)) continue;
    try {
      fs.writeFileSync(path.join(from[0], PREPARED, `${made.length}.bin`), scriptOf(content, name).createCachedData());
      made.push([name, `${made.length}.bin`]);
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
    }
  }
  fs.writeFileSync(path.join(from[0], PREPARED, LIST), JSON.stringify({ code: to[0], files: made }));
}

module.exports = { use };
if (require.main === module) {
  const [code, codeThere, packages, packagesThere, memory, ...files] = process.argv.slice(2);
  make([code, packages], [codeThere, packagesThere], Number(memory), files);
}
