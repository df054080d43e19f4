"""One file per measured thing; each offers rows to `bench.__main__`."""

from __future__ import annotations

from bench.measure import Row
from bench.rows import (
    accepts,
    burst,
    cold,
    custom,
    footprint,
    image,
    java,
    neighbour,
    node,
    objects,
    queues,
    streams,
    timers,
    warm,
    wasm,
    web,
)

#: In the order of the table; rows that need a quiet platform first.
ROWS: tuple[Row, ...] = (
    *footprint.ROWS,
    *warm.ROWS,
    *neighbour.ROWS,
    *cold.ROWS,
    *custom.ROWS,
    *java.ROWS,
    *node.ROWS,
    *wasm.ROWS,
    *web.ROWS,
    *image.ROWS,
    *streams.ROWS,
    *queues.ROWS,
    *timers.ROWS,
    *objects.ROWS,
    *burst.ROWS,
    *accepts.ROWS,  # what it has accepted waits for weeks
)
