'use strict';
// console, process.stdout and process.stderr as LOG frames that belong to the invocation that wrote them
// (docs/contracts/runtime.md, section "Logs"). Lines leave as they are completed.

const { Console } = require('node:console');
const { Writable } = require('node:stream');
const { StringDecoder } = require('node:string_decoder');
const { KIND, jsonFrame } = require('./frames.js');

const NAMES = ['stdout', 'stderr'];
/** Longest text of one LOG frame, in characters; a longer line is cut into several. */
const PIECE = 32 * 1024;
/** Methods of `console` whose lines carry a level. */
const LEVELS = { debug: 'debug', info: 'info', warn: 'warning', error: 'error' };

/** Turns text into LOG frames. An owner is a call, or `idle` between calls: `stream`, `logLeft`, `logCut`, `partial`. */
class Spool {
  constructor(limit, send, find) {
    this.limit = limit;
    this.send = send;
    this.find = find;
    this.idle = { stream: 0, logLeft: limit, logCut: false, partial: null };
  }

  /** Text of stdout (0) or stderr (1). */
  write(index, text) {
    const owner = this.find() ?? this.idle;
    owner.partial ??= ['', ''];
    const lines = (owner.partial[index] + text).split('\n');
    let rest = lines.pop();
    if (rest.length > PIECE) {
      lines.push(rest);
      rest = '';
    }
    owner.partial[index] = rest;
    if (lines.length) this.#emit(owner, NAMES[index], '', lines);
  }

  /** One record with a level, which may have several lines. */
  record(level, text, owner = this.find() ?? this.idle) {
    this.#emit(owner, 'log', level, [text]);
  }

  /** The owner's unfinished lines leave. */
  finish(owner) {
    const partial = owner.partial;
    owner.partial = null;
    partial?.forEach((text, index) => text && this.#emit(owner, NAMES[index], '', [text]));
  }

  /** An invocation starts: what is written between invocations has its whole limit again. */
  renew() {
    this.idle.logLeft = this.limit;
    this.idle.logCut = false;
  }

  #emit(owner, name, level, lines) {
    for (const line of lines) {
      for (let start = 0; start === 0 || start < line.length; start += PIECE) {
        if (owner.logCut) return;
        const text = line.length > PIECE ? line.slice(start, start + PIECE) : line;
        owner.logLeft -= Buffer.byteLength(text) + 1;
        if (owner.logLeft < 0) {
          owner.logCut = true;
          const notice = `log cut: more than ${this.limit} bytes; raise \`log\` to keep more`;
          this.send(jsonFrame(KIND.LOG, owner.stream, { s: name, l: 'warning', t: notice }));
          return;
        }
        this.send(jsonFrame(KIND.LOG, owner.stream, { s: name, l: level, t: text }));
      }
    }
  }
}

/** Stands in for process.stdout and process.stderr. `sink` gets the text. */
class LogStream extends Writable {
  #decoder = new StringDecoder('utf8');
  #sink;

  constructor(index, sink) {
    super({ decodeStrings: false });
    this.fd = index + 1;
    this.isTTY = false;
    this.#sink = sink;
  }

  _write(chunk, encoding, done) {
    this.#sink(typeof chunk === 'string' ? chunk : this.#decoder.write(chunk));
    done();
  }

  /** A program that closes its standard output still has a log. */
  end(chunk, encoding, done) {
    if (chunk !== undefined && chunk !== null && typeof chunk !== 'function') this.write(chunk, encoding);
    const last = [chunk, encoding, done].find((given) => typeof given === 'function');
    if (last) process.nextTick(last);
    return this;
  }

  destroy() { return this; }
}

/** Put `spool` behind process.stdout, process.stderr and console. */
function install(spool) {
  let level = '';
  const streams = NAMES.map((name, index) => new LogStream(index, (text) => {
    if (level) spool.record(level, text.endsWith('\n') ? text.slice(0, -1) : text);
    else spool.write(index, text);
  }));
  NAMES.forEach((name, index) => {
    Object.defineProperty(process, name, { value: streams[index], configurable: true, enumerable: true });
  });
  const made = new Console({ stdout: streams[0], stderr: streams[1], colorMode: false });
  for (const [method, name] of Object.entries(LEVELS)) {
    const plain = made[method];
    made[method] = function (...args) {
      level = name;
      try {
        plain.apply(this, args);
      } finally {
        level = '';
      }
    };
  }
  for (const key of Object.keys(made)) console[key] = made[key];
  console.Console = Console;
}

module.exports = { Spool, install };
