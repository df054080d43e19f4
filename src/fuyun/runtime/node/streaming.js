'use strict';
// Handlers that write their answer to a stream, as AWS Lambda's `awslambda.streamifyResponse` has them.

const { Writable } = require('node:stream');
const { BINARY, bytesOf, cleanHeaders, headersOf, statusOf } = require('./answers.js');
const { STREAMS } = require('./loader.js');

/** The second argument of a streaming handler. Nothing leaves before the first write. */
class ResponseStream extends Writable {
  constructor(desk, call) {
    super({ highWaterMark: 64 * 1024 });
    this.desk = desk;
    this.call = call;
    this.status = 200;
    this.headers = [];
    this.begun = false;
  }

  /** The content type, until the first write. */
  setContentType(kind) {
    const set = cleanHeaders([['content-type', kind]], 'responseStream');
    this.headers = [...this.headers.filter(([name]) => name !== 'content-type'), ...set];
  }

  begin() {
    if (this.begun) return;
    this.begun = true;
    const typed = this.headers.some(([name]) => name === 'content-type');
    this.desk.head(this.call, this.status, typed ? this.headers : [...this.headers, ['content-type', BINARY]]);
  }

  _write(chunk, encoding, done) {
    this.begin();
    this.desk.write(this.call, chunk).then(
      (listened) => done(listened ? null : new Error('the caller is gone')), done);
  }

  _final(done) {
    this.begin();
    done();
  }
}

/** `awslambda.HttpResponseStream`. */
const HttpResponseStream = {
  /** `stream` with a status, headers and cookies. */
  from(stream, metadata = {}) {
    if (!(stream instanceof ResponseStream)) throw new TypeError('HttpResponseStream.from takes the responseStream');
    stream.status = statusOf(metadata.statusCode ?? 200, "metadata['statusCode']");
    stream.headers = headersOf(metadata);
    return stream;
  },
};

/** Run a streaming handler; resolves when its answer is complete. */
async function runStreaming(desk, call, event, context) {
  const stream = new ResponseStream(desk, call);
  const ended = new Promise((resolve, reject) => {
    stream.on('finish', resolve);
    stream.on('error', reject);
    stream.on('close', () => (stream.errored ? undefined : resolve()));
  });
  ended.catch(() => {});  // told below, unless the handler fails first
  await desk.app.handler(event, stream, context);
  await ended;
}

/** The global `awslambda`. */
const awslambda = {
  streamifyResponse(handler) {
    const marked = (event, stream, context) => handler(event, stream, context);
    marked[STREAMS] = true;
    return marked;
  },
  HttpResponseStream,
};

module.exports = { awslambda, runStreaming };
