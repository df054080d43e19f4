"""Where in a partition something is."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, select

from fuyun.domain.errors import NotFound
from fuyun.domain.streams import Position
from fuyun.drivers.sql import streaming
from fuyun.drivers.sql.streaming import partitions, records, streams


def get_partition(connection: Connection, namespace: str, name: str, number: int) -> Row[Any]:
    """The row of a stream's partition. NotFound."""
    joined = (
        select(partitions)
        .join(streams, streams.c.id == partitions.c.stream)
        .where(streams.c.namespace == namespace, streams.c.name == name, partitions.c.number == number)
    )
    found = connection.execute(joined).one_or_none()
    if found is None:
        _, stream = streaming.get(connection, namespace, name)
        raise NotFound(
            f"stream {name!r} has no partition {number}", hint=f"use 0 to {stream.spec.partitions - 1}",
            kind="partition", name=str(number),
        )  # fmt: skip
    return found


def offset_of(connection: Connection, place: Row[Any], at: Position) -> int:
    """The offset that `at` stands for in the partition of the row `place`, within what it keeps."""
    start, end = int(place.start), int(place.end)
    if at.where == "start":
        return start
    if at.where == "end":
        return end
    if at.where == "offset":
        return min(max(int(at.value), start), end)
    # Times never fall and offsets have no gaps: halving finds the first record that is not before.
    low, high = start, end
    while low < high:
        middle = (low + high) // 2
        where = (records.c.partition == place.id) & (records.c.offset == middle)
        if connection.execute(select(records.c.at_s).where(where)).scalar_one() < at.value:
            low = middle + 1
        else:
            high = middle
    return low
