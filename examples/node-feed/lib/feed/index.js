'use strict';
// Entries of a feed as server-sent events (HTML Living Standard, section 9.2).

/** One event: its data may have several lines. */
exports.format = (id, data) => `id: ${id}\n${data.split('\n').map((line) => `data: ${line}\n`).join('')}\n`;
