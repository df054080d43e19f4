"""Numbers that are given once: counters outlive what they count."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select, update

from fuyun.drivers.catalog.tables import counters


def next_number(connection: Connection, namespace: str, function: str, kind: str) -> int:
    """The next number of a counter of `function` (of a layer, for kind "layer"); 1 is the first."""
    where = (counters.c.namespace == namespace) & (counters.c.function == function) & (counters.c.kind == kind)
    if connection.execute(update(counters).where(where).values(value=counters.c.value + 1)).rowcount == 0:
        connection.execute(insert(counters).values(namespace=namespace, function=function, kind=kind, value=1))
        return 1
    return int(connection.execute(select(counters.c.value).where(where)).scalar_one())
