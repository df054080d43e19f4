// Streams numbered events while it makes them, or answers with a summary: GET /feed/?count=3, GET /feed/summary.
import { setTimeout as pause } from 'node:timers/promises';
import feed from 'feed';

async function* entries(count, signal) {
  yield { statusCode: 200, headers: { 'content-type': 'text/event-stream', 'cache-control': 'no-store' } };
  for (let id = 1; id <= count && !signal.aborted; id++) {
    yield feed.format(id, `entry ${id}\nof ${count}`);
    await pause(10);
  }
}

export const handler = async (event, context) => {
  const count = Math.min(Number(event.queryStringParameters?.count ?? 3) || 3, 100);
  console.log('serving %d entries', count);
  if (event.rawPath?.endsWith('/summary')) return { count, node: process.versions.node.split('.')[0] };
  return entries(count, context.signal);
};
