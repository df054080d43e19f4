'use strict';
// Frames between the platform and an instance: the numbers and layouts of `runtime/wire.py`.
// Contract: docs/contracts/runtime.md, section "Frames".

const HEADER_SIZE = 12;
const WINDOW = 256 * 1024;
const MAX_FRAME = 64 * 1024 * 1024;
/** A CHUNK never carries more, so that one large piece does not hold the connection. */
const PIECE = 64 * 1024;
/** A buffered result above this leaves as a stream. */
const LARGEST_RESULT = MAX_FRAME - 1024 * 1024;
const END = 1;

const KIND = Object.freeze({
  SPECIALIZE: 1, INVOKE: 2, BODY: 3, CREDIT: 4, CANCEL: 5, HOOK: 6,
  READY: 16, FAILED: 17, RESULT: 18, HEAD: 19, CHUNK: 20, FINISH: 21, ERROR: 22, LOG: 23, HOOKED: 24,
});

/** A frame whose payload is `size` bytes, not filled in yet. */
function blank(kind, stream, size, flags) {
  const data = Buffer.allocUnsafe(HEADER_SIZE + size);
  data.writeUInt32LE(size, 0);
  data[4] = kind;
  data[5] = flags;
  data[6] = 0;
  data[7] = 0;
  data.writeUInt32LE(stream, 8);
  return data;
}

/** A frame around bytes. */
function frame(kind, stream, payload, flags = 0) {
  const data = blank(kind, stream, payload.length, flags);
  payload.copy(data, HEADER_SIZE);
  return data;
}

/** A frame around a value as JSON. */
function jsonFrame(kind, stream, value, flags = 0) {
  return frame(kind, stream, Buffer.from(JSON.stringify(value)), flags);
}

function putUsage(data, usage) {
  data.writeUInt32LE(usage[0], HEADER_SIZE);
  data.writeUInt32LE(usage[1], HEADER_SIZE + 4);
  data.writeUInt32LE(usage[2], HEADER_SIZE + 8);
}

/** RESULT. `headers` null: 200 with JSON. `body`: text or bytes. */
function resultFrame(stream, usage, status, headers, body) {
  const text = typeof body === 'string';
  const size = text ? Buffer.byteLength(body) : body.length;
  const meta = headers === null ? '' : JSON.stringify([status, headers]);
  const metaSize = Buffer.byteLength(meta);
  const data = blank(KIND.RESULT, stream, 16 + metaSize + size, END);
  putUsage(data, usage);
  data.writeUInt32LE(metaSize, HEADER_SIZE + 12);
  if (metaSize) data.write(meta, HEADER_SIZE + 16);
  if (text) data.write(body, HEADER_SIZE + 16 + metaSize);
  else body.copy(data, HEADER_SIZE + 16 + metaSize);
  return data;
}

/** FINISH. */
function finishFrame(stream, usage) {
  const data = blank(KIND.FINISH, stream, 12, END);
  putUsage(data, usage);
  return data;
}

/** ERROR. */
function errorFrame(stream, usage, problem) {
  const body = Buffer.from(JSON.stringify(problem));
  const data = blank(KIND.ERROR, stream, 12 + body.length, END);
  putUsage(data, usage);
  body.copy(data, HEADER_SIZE + 12);
  return data;
}

/** CREDIT: `size` bytes of room are returned. */
function creditFrame(stream, size) {
  const data = blank(KIND.CREDIT, stream, 4, 0);
  data.writeUInt32LE(size, HEADER_SIZE);
  return data;
}

/** Cuts what arrives into frames. `take(kind, flags, stream, payload)` gets each; its payload is valid only until it
 * returns. RangeError for a frame that is too long. */
class Splitter {
  constructor(take) {
    this.take = take;
    this.parts = [];
    this.held = 0;
    this.wanted = HEADER_SIZE;
  }

  feed(data) {
    if (this.held) {
      this.parts.push(Buffer.from(data));
      this.held += data.length;
      if (this.held < this.wanted) return;
      data = Buffer.concat(this.parts, this.held);
      this.parts = [];
      this.held = 0;
    }
    let at = 0;
    while (data.length - at >= HEADER_SIZE) {
      const size = data.readUInt32LE(at);
      if (size > MAX_FRAME) throw new RangeError(`a frame of ${size} bytes`);
      if (data.length - at - HEADER_SIZE < size) break;
      const start = at + HEADER_SIZE;
      const kind = data[at + 4];
      const flags = data[at + 5];
      const stream = data.readUInt32LE(at + 8);
      at = start + size;
      this.take(kind, flags, stream, data.subarray(start, at));
    }
    const left = data.length - at;
    this.wanted = left >= HEADER_SIZE ? HEADER_SIZE + data.readUInt32LE(at) : HEADER_SIZE;
    if (left) {
      this.parts.push(Buffer.from(data.subarray(at)));
      this.held = left;
    }
  }
}

module.exports = {
  HEADER_SIZE, WINDOW, MAX_FRAME, PIECE, LARGEST_RESULT, END, KIND,
  frame, jsonFrame, resultFrame, finishFrame, errorFrame, creditFrame, Splitter,
};
