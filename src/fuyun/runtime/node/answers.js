'use strict';
// What a handler's result stands for: the rules of `runtime/answers.py` (docs/contracts/runtime.md, section "Results").

const TEXT = 'text/plain; charset=utf-8';
const BINARY = 'application/octet-stream';
const LINES = 'application/x-ndjson';
const JSON_TYPE = 'application/json';
/** Headers that describe a connection, not an answer (RFC 9110 section 7.6.1). */
const HOP = new Set(['connection', 'keep-alive', 'proxy-connection', 'transfer-encoding', 'upgrade', 'te', 'trailer']);
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;
const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/;

/** The result cannot be an answer. `code` is bad_response or response_too_large. */
class BadAnswer extends Error {
  constructor(message, code = 'bad_response') {
    super(message);
    this.code = code;
  }
}

/** An answer that comes piece by piece. `headers` null: the first piece decides the content type. */
class Streamed {
  constructor(pieces, status = 200, headers = null) {
    this.pieces = pieces;
    this.status = status;
    this.headers = headers;
  }
}

/** A whole answer. `headers` null: 200 with JSON; `body`: text or bytes. */
class Whole {
  constructor(status, headers, body) {
    this.status = status;
    this.headers = headers;
    this.body = body;
  }
}

/** A view of bytes as a Buffer, or null when the value is none. */
function bytesOf(value) {
  if (Buffer.isBuffer(value)) return value;
  if (ArrayBuffer.isView(value)) return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  if (value instanceof ArrayBuffer || value instanceof SharedArrayBuffer) return Buffer.from(value);
  return null;
}

/** Generators, streams and other iterators; not what merely can be iterated, such as arrays. */
function isIterator(value) {
  if (value === null || typeof value !== 'object') return false;
  return typeof value[Symbol.asyncIterator] === 'function' || typeof value.next === 'function';
}

/** A value as JSON text. BadAnswer names what has no JSON. */
function toJson(value, path) {
  if (value === undefined) return 'null';
  let text;
  try {
    text = JSON.stringify(value);
  } catch (error) {
    throw new BadAnswer(locate(value, path, []) || `${path} cannot be written as JSON: ${error.message}`);
  }
  if (text === undefined) throw new BadAnswer(`${path} is a ${typeof value}, which JSON cannot carry`);
  return text;
}

/** What stops a value from being JSON, in words that start with its path; "" when nothing is found. */
function locate(value, path, above) {
  if (typeof value === 'bigint') return `${path} is a bigint, which JSON cannot carry`;
  if (value === null || typeof value !== 'object') return '';
  if (above.includes(value)) return `${path} contains itself`;
  if (above.length > 200) return `${path.slice(0, 80)}… is nested more than 200 levels deep`;
  if (typeof value.toJSON === 'function') return '';
  above.push(value);
  for (const key of Object.keys(value)) {
    const at = Array.isArray(value) ? `[${key}]` : `[${JSON.stringify(key).slice(0, 80)}]`;
    const found = locate(value[key], path + at, above);
    if (found) return found;
  }
  above.pop();
  return '';
}

function checkSize(size, limit) {
  if (size > limit) {
    const text = `the result is ${size} bytes, over the limit of ${limit}; yield pieces or raise \`output\``;
    throw new BadAnswer(text, 'response_too_large');
  }
}

/** The answer a handler's result stands for. BadAnswer when it stands for none or is over `limit` bytes. */
function shape(result, http, limit) {
  const bytes = bytesOf(result);
  if (bytes !== null) return sized(new Whole(200, [['content-type', BINARY]], bytes), limit);
  if (isIterator(result)) return new Streamed(result);
  if (http && typeof result === 'string') return sized(new Whole(200, [['content-type', TEXT]], result), limit);
  if (http && isResponse(result)) return response(result, limit);
  return sized(new Whole(200, null, toJson(result, 'result')), limit);
}

function sized(answer, limit) {
  const body = answer.body;
  checkSize(typeof body === 'string' ? Buffer.byteLength(body) : body.length, limit);
  return answer;
}

function isResponse(value) {
  return value !== null && typeof value === 'object' && !Array.isArray(value) && 'statusCode' in value;
}

/** API Gateway's response, payload format 2.0 (and `multiValueHeaders` of 1.0). */
function response(result, limit) {
  const status = statusOf(result.statusCode, "result['statusCode']");
  const headers = headersOf(result);
  const body = result.body;
  if (isIterator(body) && bytesOf(body) === null) return new Streamed(body, status, typed(headers, BINARY));
  let content = '';
  let kind = TEXT;
  if (body !== undefined && body !== null) {
    const bytes = bytesOf(body);
    if (result.isBase64Encoded) [content, kind] = [fromBase64(body), BINARY];
    else if (typeof body === 'string') content = body;
    else if (bytes !== null) [content, kind] = [bytes, BINARY];
    else [content, kind] = [toJson(body, "result['body']"), JSON_TYPE];
  }
  const complete = body === undefined || body === null ? headers : typed(headers, kind);
  const size = typeof content === 'string' ? Buffer.byteLength(content) : content.length;
  checkSize(size, limit);
  const fixed = complete.filter(([name, value]) => name !== 'content-length' || value === String(size));
  return new Whole(status, fixed, content);
}

function typed(headers, kind) {
  return headers.some(([name]) => name === 'content-type') ? headers : [...headers, ['content-type', kind]];
}

function statusOf(given, where) {
  const status = typeof given === 'string' && /^\d+$/.test(given) ? Number(given) : given;
  if (!Number.isInteger(status) || status < 200 || status > 599) {
    throw new BadAnswer(`${where} is ${String(JSON.stringify(given)).slice(0, 80)}; use a number from 200 to 599`);
  }
  return status;
}

function headersOf(result) {
  const pairs = [];
  for (const field of ['headers', 'multiValueHeaders']) {
    const given = result[field];
    if (given === undefined || given === null) continue;
    if (typeof given !== 'object' || Array.isArray(given)) {
      throw new BadAnswer(`result['${field}'] is a ${kindOf(given)}; use an object of names and values`);
    }
    for (const [name, value] of given instanceof Headers ? given : Object.entries(given)) {
      if (value === undefined || value === null) continue;  // as when a value is conditional
      for (const one of Array.isArray(value) ? value : [value]) pairs.push([name, one]);
    }
  }
  const cookies = result.cookies ?? [];
  if (!Array.isArray(cookies)) {
    throw new BadAnswer(`result['cookies'] is a ${kindOf(cookies)}; use an array of Set-Cookie values`);
  }
  for (const cookie of cookies) pairs.push(['set-cookie', cookie]);
  return cleanHeaders(pairs, "result['headers']");
}

/** Names lower-case, values text, connection headers dropped. BadAnswer for what would break the answer apart. */
function cleanHeaders(pairs, where) {
  const cleaned = [];
  for (const [given, value] of pairs) {
    const name = String(given).toLowerCase();
    const shown = JSON.stringify(String(given)).slice(0, 80);
    if (!TOKEN.test(name)) throw new BadAnswer(`${where} has a header name that HTTP does not allow: ${shown}`);
    if (typeof value !== 'string' && typeof value !== 'number') {
      throw new BadAnswer(`${where}[${shown}] is a ${kindOf(value)}; a header's value is text`);
    }
    const text = String(value);
    if (/[\r\n\0]/.test(text)) {
      throw new BadAnswer(`${where}[${shown}] holds a line break or NUL, which HTTP does not allow`);
    }
    if (!HOP.has(name)) cleaned.push([name, text.trim()]);
  }
  return cleaned;
}

function kindOf(value) {
  return value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value;
}

function fromBase64(body) {
  const text = typeof body === 'string' ? body : '';
  if (typeof body !== 'string' || text.length % 4 !== 0 || !BASE64.test(text)) {
    throw new BadAnswer("result['body'] is not base64 though isBase64Encoded says so");
  }
  return Buffer.from(text, 'base64');
}

/** One yielded value as bytes: text as UTF-8, bytes as they are, anything else as a line of JSON. */
function pieceOf(value, path) {
  if (typeof value === 'string') return Buffer.from(value);
  return bytesOf(value) ?? Buffer.from(`${toJson(value, path)}\n`);
}

/** Status, headers and first bytes of a stream whose first value is `first`; one that is an HTTP response sets status
 * and headers. */
function opening(streamed, first, http) {
  if (streamed.headers !== null) return new Whole(streamed.status, streamed.headers, pieceOf(first, 'chunk 0'));
  if (http && isResponse(first) && bytesOf(first) === null) {
    const found = response({ ...first, body: isIterator(first.body) ? undefined : first.body }, Infinity);
    return new Whole(found.status, found.headers, pieceOf(found.body, 'chunk 0'));
  }
  const kind = typeof first === 'string' ? TEXT : bytesOf(first) !== null ? BINARY : LINES;
  return new Whole(200, [['content-type', kind]], pieceOf(first, 'chunk 0'));
}

module.exports = {
  BadAnswer, Streamed, Whole, bytesOf, shape, pieceOf, opening, statusOf, cleanHeaders, headersOf, BINARY,
};
