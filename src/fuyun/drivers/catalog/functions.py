"""`ports.catalog.Catalog` in SQL. Every method is one read snapshot or one transaction of a `Database`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, func, insert, select, tuple_, update

from fuyun.domain.errors import NotFound, PreconditionFailed, QuotaExceeded
from fuyun.domain.functions import Alias, Artifact, Function, FunctionSpec, Version, Weight
from fuyun.domain.tenants import AuditEntry, Quotas
from fuyun.drivers.catalog.counting import next_number
from fuyun.drivers.catalog.tables import aliases, counters, functions, namespaces, versions
from fuyun.drivers.sql.journal import log
from fuyun.drivers.sql.sqlite import Database


class SqlCatalog:
    """Functions, versions and aliases in the tables of the same names."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def put_draft(
        self,
        namespace: str,
        function: str,
        spec: FunctionSpec,
        code: Artifact,
        layers: tuple[Artifact, ...],
        now_s: float,
        entry: AuditEntry | None = None,
    ) -> Version:
        """See `ports.catalog.Catalog.put_draft`."""

        def work(connection: Connection) -> Version:
            revision = next_number(connection, namespace, function, "draft")
            values: dict[str, Any] = {"spec": spec, "code": code, "layers": layers, "created_s": now_s}
            values.update(description="", revision=revision)
            if _find_function(connection, namespace, function) is None:
                _create_function(connection, namespace, function, now_s)
                connection.execute(insert(versions).values(namespace=namespace, function=function, number=0, **values))
            else:
                _touch(connection, namespace, function, now_s)
                connection.execute(update(versions).where(_of(versions, namespace, function, 0)).values(values))
            log(connection, entry)
            return _get_version(connection, namespace, function, 0)

        return await self._db.write(work)

    async def publish(
        self,
        namespace: str,
        function: str,
        description: str,
        now_s: float,
        entry: Callable[[Version], AuditEntry] | None = None,
    ) -> Version:
        """See `ports.catalog.Catalog.publish`."""

        def work(connection: Connection) -> Version:
            last = _get_function(connection, namespace, function).last_version
            draft = _get_version(connection, namespace, function, 0)
            latest = _find_version(connection, namespace, function, last) if last else None
            if latest is not None and latest.revision == draft.revision:
                return latest
            number = next_number(connection, namespace, function, "version")
            connection.execute(
                insert(versions).values(
                    namespace=namespace,
                    function=function,
                    number=number,
                    spec=draft.spec,
                    code=draft.code,
                    layers=draft.layers,
                    created_s=now_s,
                    description=description,
                    revision=draft.revision,
                )
            )
            _touch(connection, namespace, function, now_s, last_version=number)
            made = _get_version(connection, namespace, function, number)
            log(connection, entry(made) if entry is not None else None)
            return made

        return await self._db.write(work)

    async def get_function(self, namespace: str, function: str) -> Function:
        """See `ports.catalog.Catalog.get_function`."""
        return await self._db.read(lambda connection: _get_function(connection, namespace, function))

    async def list_functions(self, namespace: str, after: str = "", limit: int = 100) -> list[Function]:
        """See `ports.catalog.Catalog.list_functions`. `after` is a name; NAMESPACE/NAME when `namespace` is "*"."""
        query = select(functions).order_by(functions.c.namespace, functions.c.name).limit(limit)
        if namespace == "*":
            space, _, name = after.partition("/")
            query = query.where(tuple_(functions.c.namespace, functions.c.name) > (space, name))
        else:
            query = query.where(functions.c.namespace == namespace, functions.c.name > after)
        return await self._db.read(lambda connection: [Function(**row) for row in connection.execute(query).mappings()])

    async def get_version(self, namespace: str, function: str, number: int) -> Version:
        """See `ports.catalog.Catalog.get_version`."""
        return await self._db.read(lambda connection: _get_version(connection, namespace, function, number))

    async def list_versions(self, namespace: str, function: str, after: int = -1, limit: int = 100) -> list[Version]:
        """See `ports.catalog.Catalog.list_versions`."""
        query = (
            select(versions)
            .where(versions.c.namespace == namespace, versions.c.function == function, versions.c.number > after)
            .order_by(versions.c.number)
            .limit(limit)
        )

        def work(connection: Connection) -> list[Version]:
            _get_function(connection, namespace, function)
            return [Version(**row) for row in connection.execute(query).mappings()]

        return await self._db.read(work)

    async def delete_function(self, namespace: str, function: str, entry: AuditEntry | None = None) -> None:
        """See `ports.catalog.Catalog.delete_function`."""

        def work(connection: Connection) -> None:
            _get_function(connection, namespace, function)
            for table in (aliases, versions):
                connection.execute(delete(table).where(table.c.namespace == namespace, table.c.function == function))
            connection.execute(delete(functions).where(_named(namespace, function)))
            log(connection, entry)

        await self._db.write(work)

    async def put_alias(
        self,
        namespace: str,
        function: str,
        name: str,
        weights: tuple[Weight, ...],
        now_s: float,
        sticky_header: str = "",
        expected_revision: int | None = None,
        entry: AuditEntry | None = None,
    ) -> Alias:
        """See `ports.catalog.Catalog.put_alias`."""

        def work(connection: Connection) -> Alias:
            _get_function(connection, namespace, function)
            old = _find_alias(connection, namespace, function, name)
            _check_revision(name, 0 if old is None else old.revision, expected_revision)
            for weight in weights:
                _get_version(connection, namespace, function, weight.version)
            moved = Alias(
                namespace=namespace, function=function, name=name, weights=weights, sticky_header=sticky_header,
                previous=_previous(old, weights), updated_s=now_s,
                revision=next_number(connection, namespace, function, f"alias:{name}"),
            )  # fmt: skip
            values = {field: getattr(moved, field) for field in Alias.__struct_fields__}
            if old is None:
                connection.execute(insert(aliases).values(values))
            else:
                connection.execute(update(aliases).where(_aliased(namespace, function, name)).values(values))
            log(connection, entry)
            return moved

        return await self._db.write(work)

    async def list_aliases(self, namespace: str, function: str) -> list[Alias]:
        """See `ports.catalog.Catalog.list_aliases`."""
        query = (
            select(aliases)
            .where(aliases.c.namespace == namespace, aliases.c.function == function)
            .order_by(aliases.c.name)
        )

        def work(connection: Connection) -> list[Alias]:
            _get_function(connection, namespace, function)
            return [Alias(**row) for row in connection.execute(query).mappings()]

        return await self._db.read(work)

    async def delete_alias(
        self,
        namespace: str,
        function: str,
        name: str,
        expected_revision: int | None = None,
        entry: AuditEntry | None = None,
    ) -> None:
        """See `ports.catalog.Catalog.delete_alias`."""

        def work(connection: Connection) -> None:
            _get_function(connection, namespace, function)
            old = _find_alias(connection, namespace, function, name)
            if old is None:
                raise NotFound(
                    f"function {namespace}/{function} has no alias {name!r}", hint="list its aliases",
                    kind="alias", name=name,
                )  # fmt: skip
            _check_revision(name, old.revision, expected_revision)
            connection.execute(delete(aliases).where(_aliased(namespace, function, name)))
            log(connection, entry)

        await self._db.write(work)


# --- statements -------------------------------------------------------------------------------------------------


def _named(namespace: str, function: str) -> Any:
    return (functions.c.namespace == namespace) & (functions.c.name == function)


def _aliased(namespace: str, function: str, name: str) -> Any:
    return (aliases.c.namespace == namespace) & (aliases.c.function == function) & (aliases.c.name == name)


def _of(table: Any, namespace: str, function: str, number: int) -> Any:
    return (table.c.namespace == namespace) & (table.c.function == function) & (table.c.number == number)


def _one(connection: Connection, query: Any) -> RowMapping | None:
    return connection.execute(query).mappings().one_or_none()


def _find_function(connection: Connection, namespace: str, function: str) -> Function | None:
    row = _one(connection, select(functions).where(_named(namespace, function)))
    return None if row is None else Function(**row)


def _get_function(connection: Connection, namespace: str, function: str) -> Function:
    found = _find_function(connection, namespace, function)
    if found is None:
        raise NotFound(
            f"there is no function {function!r} in namespace {namespace!r}", hint="list the functions, or deploy it",
            kind="function", name=function,
        )  # fmt: skip
    return found


def _create_function(connection: Connection, namespace: str, function: str, now_s: float) -> None:
    quotas: Quotas | None = connection.execute(
        select(namespaces.c.quotas).where(namespaces.c.name == namespace)
    ).scalar_one_or_none()
    if quotas is None:
        raise NotFound(f"there is no namespace {namespace!r}", hint="create it first", kind="namespace", name=namespace)
    count = select(func.count()).select_from(functions).where(functions.c.namespace == namespace)
    if connection.execute(count).scalar_one() >= quotas.functions:
        raise QuotaExceeded(
            f"namespace {namespace!r} has {quotas.functions} functions, which is its quota",
            hint="delete a function or raise the quota", quota="functions", limit=quotas.functions,
        )  # fmt: skip
    where = (counters.c.namespace == namespace) & (counters.c.function == function) & (counters.c.kind == "version")
    last = connection.execute(select(counters.c.value).where(where)).scalar_one_or_none() or 0
    values = {"namespace": namespace, "name": function, "last_version": last, "created_s": now_s, "updated_s": now_s}
    connection.execute(insert(functions).values(values))


def _touch(connection: Connection, namespace: str, function: str, now_s: float, **values: int) -> None:
    connection.execute(update(functions).where(_named(namespace, function)).values(updated_s=now_s, **values))


def _find_version(connection: Connection, namespace: str, function: str, number: int) -> Version | None:
    row = _one(connection, select(versions).where(_of(versions, namespace, function, number)))
    return None if row is None else Version(**row)


def _get_version(connection: Connection, namespace: str, function: str, number: int) -> Version:
    found = _find_version(connection, namespace, function, number)
    if found is None:
        last = _get_function(connection, namespace, function).last_version
        raise NotFound(
            f"function {namespace}/{function} has no version {number}; the last one published is {last or 'none'}",
            hint="list its versions, or publish one", kind="version", name=str(number),
        )  # fmt: skip
    return found


def _find_alias(connection: Connection, namespace: str, function: str, name: str) -> Alias | None:
    row = _one(connection, select(aliases).where(_aliased(namespace, function, name)))
    return None if row is None else Alias(**row)


def _check_revision(name: str, current: int, expected: int | None) -> None:
    if expected is None or expected == current:
        return
    state = f"is at revision {current}" if current else "does not exist"
    wanted = f"revision {expected} was expected" if expected else "it was expected not to exist"
    raise PreconditionFailed(
        f"alias {name!r} {state}; {wanted}", hint="read the alias again and repeat the change",
        etag=f'"{current}"' if current else "",
    )  # fmt: skip


def _previous(old: Alias | None, weights: tuple[Weight, ...]) -> tuple[Weight, ...]:
    """Where a rollback goes: what the alias was before its weights last changed."""
    if old is None:
        return ()
    return old.previous if old.weights == weights else old.weights
