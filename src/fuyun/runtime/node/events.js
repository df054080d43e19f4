'use strict';
// What a handler gets as its event: the shapes of `runtime/events.py` (docs/contracts/runtime.md, section "Events").

const TEXT_TYPES = new Set([
  'application/json', 'application/xml', 'application/javascript', 'application/x-javascript', 'application/graphql',
  'application/x-www-form-urlencoded', 'application/yaml', 'application/x-yaml', 'application/x-ndjson',
  'application/toml', 'application/sql', 'image/svg+xml',
]);
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const two = (number) => String(number).padStart(2, '0');
let clock = [0, ''];

/** The payload of an `event` invocation is not JSON. */
class BadPayload extends Error {}

/** The value of a JSON body; {} when there is none. */
function payload(body) {
  if (!body.length) return {};
  try {
    return JSON.parse(decoder.decode(body));
  } catch (error) {
    throw new BadPayload(`the payload is not JSON: ${error.message}`);
  }
}

/** The event of an HTTP request. */
function httpEvent(head, body, task) {
  const { headers, cookies } = join(head.headers);
  const query = head.query || '';
  const now = Date.now();
  const [text, encoded] = body.length ? bodyOf(headers, body) : ['', false];
  return {
    version: '2.0',
    routeKey: '$default',
    rawPath: head.path,
    rawQueryString: query,
    cookies,
    headers,
    queryStringParameters: query ? queryParameters(query) : {},
    pathParameters: {},
    stageVariables: {},
    requestContext: {
      accountId: task.namespace || '',
      apiId: head.function || '',
      domainName: headers.host || '',
      http: {
        method: head.method,
        path: (head.base || '') + head.path,
        protocol: 'HTTP/1.1',
        sourceIp: head.source || '',
        userAgent: headers['user-agent'] || '',
      },
      requestId: head.id,
      routeKey: '$default',
      stage: '$default',
      time: commonLogTime(Math.floor(now / 1000)),
      timeEpoch: now,
    },
    body: text,
    isBase64Encoded: encoded,
  };
}

/** A plain object, whatever the names are: "__proto__" is a name like any other. */
function put(target, name, value) {
  if (name === '__proto__') {
    Object.defineProperty(target, name, { value, enumerable: true, writable: true, configurable: true });
  } else {
    target[name] = value;
  }
}

/** Headers with repeated ones joined by commas, and the cookies, one each. */
function join(pairs) {
  const headers = {};
  const cookies = [];
  for (const [name, value] of pairs) {
    if (name === 'cookie') cookies.push(...value.split('; '));
    else put(headers, name, Object.hasOwn(headers, name) ? `${headers[name]},${value}` : value);
  }
  return { headers, cookies };
}

function unquote(text) {
  const spaced = text.replaceAll('+', ' ');
  try {
    return decodeURIComponent(spaced);
  } catch {  // not UTF-8, or a stray %: byte by byte, as browsers do
    return new URLSearchParams(`x=${spaced}`).get('x');
  }
}

/** Names and values of a query string, decoded; a repeated name's values are joined by commas. */
function queryParameters(query) {
  const found = {};
  for (const pair of query.split('&')) {
    if (!pair) continue;
    const at = pair.indexOf('=');
    const name = unquote(at < 0 ? pair : pair.slice(0, at));
    const value = at < 0 ? '' : unquote(pair.slice(at + 1));
    put(found, name, Object.hasOwn(found, name) ? `${found[name]},${value}` : value);
  }
  return found;
}

/** Whether a media type carries text. No type at all counts as text. */
function isText(contentType) {
  const essence = contentType.split(';', 1)[0].trim().toLowerCase();
  return !essence || essence.startsWith('text/') || TEXT_TYPES.has(essence) || /\+(json|xml|yaml)$/.test(essence);
}

function bodyOf(headers, body) {
  if (isText(headers['content-type'] || '') && (headers['content-encoding'] || 'identity') === 'identity') {
    try {
      return [decoder.decode(body), false];
    } catch {  // bytes after all
    }
  }
  return [body.toString('base64'), true];
}

/** `07/Mar/2026:19:03:58 +0000`, made once a second. */
function commonLogTime(seconds) {
  if (clock[0] !== seconds) {
    const t = new Date(seconds * 1000);
    const day = `${two(t.getUTCDate())}/${MONTHS[t.getUTCMonth()]}/${t.getUTCFullYear()}`;
    clock = [seconds, `${day}:${two(t.getUTCHours())}:${two(t.getUTCMinutes())}:${two(t.getUTCSeconds())} +0000`];
  }
  return clock[1];
}

module.exports = { BadPayload, payload, httpEvent };
