"""`ports.layers.LayerStore` in SQL."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select

from fuyun.domain.errors import NotFound
from fuyun.domain.functions import Artifact
from fuyun.domain.layers import LayerVersion
from fuyun.domain.tenants import AuditEntry
from fuyun.drivers.catalog.counting import next_number
from fuyun.drivers.catalog.tables import layers, namespaces
from fuyun.drivers.sql.journal import log
from fuyun.drivers.sql.sqlite import Database


class SqlLayers:
    """Layers in the table of that name."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def publish(
        self,
        namespace: str,
        name: str,
        content: Artifact,
        description: str,
        now_s: float,
        entry: AuditEntry | None = None,
    ) -> LayerVersion:
        """See `ports.layers.LayerStore.publish`."""

        def work(connection: Connection) -> LayerVersion:
            if connection.execute(select(namespaces.c.name).where(namespaces.c.name == namespace)).first() is None:
                raise NotFound(
                    f"there is no namespace {namespace!r}", hint="create it first", kind="namespace", name=namespace
                )
            newest = _find(connection, namespace, name, 0)
            if newest is not None and newest.content == content:
                return newest
            made = LayerVersion(
                namespace=namespace, name=name, number=next_number(connection, namespace, name, "layer"),
                content=content, created_s=now_s, description=description,
            )  # fmt: skip
            values = {field: getattr(made, field) for field in LayerVersion.__struct_fields__}
            connection.execute(insert(layers).values(values))
            log(connection, entry)
            return made

        return await self._db.write(work)

    async def get(self, namespace: str, name: str, number: int = 0) -> LayerVersion:
        """See `ports.layers.LayerStore.get`."""
        return await self._db.read(lambda connection: _get(connection, namespace, name, number))

    async def list_layers(self, namespace: str, after: str = "", limit: int = 100) -> list[LayerVersion]:
        """See `ports.layers.LayerStore.list_layers`."""
        newest = (
            select(layers.c.name, func.max(layers.c.number).label("number"))
            .where(layers.c.namespace == namespace, layers.c.name > after)
            .group_by(layers.c.name)
            .order_by(layers.c.name)
            .limit(limit)
            .subquery()
        )
        query = (
            select(layers)
            .join(newest, (layers.c.name == newest.c.name) & (layers.c.number == newest.c.number))
            .where(layers.c.namespace == namespace)
            .order_by(layers.c.name)
        )
        return await self._db.read(
            lambda connection: [LayerVersion(**row) for row in connection.execute(query).mappings()]
        )

    async def list_versions(self, namespace: str, name: str, after: int = 0, limit: int = 100) -> list[LayerVersion]:
        """See `ports.layers.LayerStore.list_versions`."""
        query = select(layers).where(_of(namespace, name), layers.c.number > after)

        def work(connection: Connection) -> list[LayerVersion]:
            _get(connection, namespace, name, 0)
            rows = connection.execute(query.order_by(layers.c.number).limit(limit)).mappings()
            return [LayerVersion(**row) for row in rows]

        return await self._db.read(work)

    async def delete(self, namespace: str, name: str, number: int, entry: AuditEntry | None = None) -> None:
        """See `ports.layers.LayerStore.delete`."""

        def work(connection: Connection) -> None:
            _get(connection, namespace, name, number)
            connection.execute(delete(layers).where(_of(namespace, name), layers.c.number == number))
            log(connection, entry)

        await self._db.write(work)

    async def contents(self, namespace: str) -> frozenset[Artifact]:
        """See `ports.layers.LayerStore.contents`."""
        query = select(layers.c.content).distinct()
        if namespace != "*":
            query = query.where(layers.c.namespace == namespace)
        return await self._db.read(lambda connection: frozenset(connection.execute(query).scalars()))


def _of(namespace: str, name: str) -> ColumnElement[bool]:
    return (layers.c.namespace == namespace) & (layers.c.name == name)


def _find(connection: Connection, namespace: str, name: str, number: int) -> LayerVersion | None:
    query = select(layers).where(_of(namespace, name))
    query = query.where(layers.c.number == number) if number else query.order_by(layers.c.number.desc()).limit(1)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else LayerVersion(**row)


def _get(connection: Connection, namespace: str, name: str, number: int) -> LayerVersion:
    found = _find(connection, namespace, name, number)
    if found is not None:
        return found
    newest = _find(connection, namespace, name, 0) if number else None
    if newest is None:
        raise NotFound(
            f"there is no layer {name!r} in namespace {namespace!r}", hint="list the layers, or publish it",
            kind="layer", name=name,
        )  # fmt: skip
    raise NotFound(
        f"layer {namespace}/{name} has no version {number}; the newest is {newest.number}",
        hint="list its versions, or publish one", kind="layer", name=f"{name}:{number}",
    )  # fmt: skip
