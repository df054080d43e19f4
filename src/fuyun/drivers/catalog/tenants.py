"""`ports.tenants.TenantStore` in SQL. A change and its audit entry are one transaction."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from fuyun.domain.errors import Conflict, NotFound
from fuyun.domain.tenants import AuditEntry, Key, Namespace, Quotas
from fuyun.drivers.catalog.tables import functions, keys, layers, namespaces, secrets
from fuyun.drivers.sql.journal import audit, log
from fuyun.drivers.sql.sqlite import Database


class SqlTenants:
    """Namespaces, keys, secrets and the audit log in the tables of the same names."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def create_namespace(self, namespace: Namespace, entry: AuditEntry | None = None) -> None:
        """See `ports.tenants.TenantStore.create_namespace`."""

        def work(connection: Connection) -> None:
            if _find_namespace(connection, namespace.name) is not None:
                raise Conflict(f"namespace {namespace.name!r} exists already", hint="choose another name")
            connection.execute(insert(namespaces).values(_values(namespace)))
            log(connection, entry)

        await self._db.write(work)

    async def list_namespaces(self) -> list[Namespace]:
        """See `ports.tenants.TenantStore.list_namespaces`."""
        query = select(namespaces).order_by(namespaces.c.name)
        return await self._db.read(
            lambda connection: [Namespace(**row) for row in connection.execute(query).mappings()]
        )

    async def set_quotas(self, name: str, quotas: Quotas, entry: AuditEntry | None = None) -> Namespace:
        """See `ports.tenants.TenantStore.set_quotas`."""

        def work(connection: Connection) -> Namespace:
            _get_namespace(connection, name)
            connection.execute(
                update(namespaces)
                .where(namespaces.c.name == name)
                .values(quotas=quotas, revision=namespaces.c.revision + 1)
            )
            log(connection, entry)
            return _get_namespace(connection, name)

        return await self._db.write(work)

    async def delete_namespace(self, name: str, entry: AuditEntry | None = None) -> None:
        """See `ports.tenants.TenantStore.delete_namespace`."""

        def work(connection: Connection) -> None:
            _get_namespace(connection, name)
            held = select(functions.c.name).where(functions.c.namespace == name).order_by(functions.c.name).limit(1)
            if (function := connection.execute(held).scalar_one_or_none()) is not None:
                raise Conflict(
                    f"namespace {name!r} still holds functions, {function!r} for one",
                    hint="delete its functions first", function=function,
                )  # fmt: skip
            connection.execute(delete(keys).where(keys.c.namespace == name))
            connection.execute(delete(secrets).where(secrets.c.namespace == name))
            connection.execute(delete(layers).where(layers.c.namespace == name))
            connection.execute(delete(namespaces).where(namespaces.c.name == name))
            log(connection, entry)

        await self._db.write(work)

    async def create_key(self, key: Key, token_sha256: bytes, entry: AuditEntry | None = None) -> None:
        """See `ports.tenants.TenantStore.create_key`."""

        def work(connection: Connection) -> None:
            if key.namespace != "*":
                _get_namespace(connection, key.namespace)
            if connection.execute(select(keys.c.id).where(keys.c.id == key.id)).first() is not None:
                raise Conflict(f"key {key.id!r} exists already", hint="make another id")
            connection.execute(insert(keys).values({**_values(key), "token_sha256": token_sha256}))
            log(connection, entry)

        await self._db.write(work)

    async def list_keys(self) -> list[tuple[Key, bytes]]:
        """See `ports.tenants.TenantStore.list_keys`."""

        def work(connection: Connection) -> list[tuple[Key, bytes]]:
            rows = [dict(row) for row in connection.execute(select(keys).order_by(keys.c.id)).mappings()]
            return [(Key(**row), digest) for row in rows for digest in [row.pop("token_sha256")]]

        return await self._db.read(work)

    async def delete_key(self, key_id: str, entry: AuditEntry | None = None) -> None:
        """See `ports.tenants.TenantStore.delete_key`."""

        def work(connection: Connection) -> None:
            if connection.execute(delete(keys).where(keys.c.id == key_id)).rowcount == 0:
                raise NotFound(f"there is no key {key_id!r}", hint="list the keys", kind="key", name=key_id)
            log(connection, entry)

        await self._db.write(work)

    async def put_secret(
        self, namespace: str, name: str, sealed: bytes | None, entry: AuditEntry | None = None
    ) -> None:
        """See `ports.tenants.TenantStore.put_secret`."""

        def work(connection: Connection) -> None:
            _get_namespace(connection, namespace)
            where = (secrets.c.namespace == namespace) & (secrets.c.name == name)
            gone = connection.execute(delete(secrets).where(where)).rowcount
            if sealed is not None:
                connection.execute(insert(secrets).values(namespace=namespace, name=name, sealed=sealed))
            elif gone == 0:
                raise NotFound(
                    f"there is no secret {name!r} in namespace {namespace!r}", hint="list the secrets",
                    kind="secret", name=name,
                )  # fmt: skip
            log(connection, entry)

        await self._db.write(work)

    async def list_secrets(self, namespace: str) -> dict[str, bytes]:
        """See `ports.tenants.TenantStore.list_secrets`."""
        query = (
            select(secrets.c.name, secrets.c.sealed).where(secrets.c.namespace == namespace).order_by(secrets.c.name)
        )
        return await self._db.read(lambda connection: {row.name: row.sealed for row in connection.execute(query)})

    async def audit(
        self, entry: AuditEntry | None, namespace: str = "*", after: str = "", limit: int = 100
    ) -> list[AuditEntry]:
        """See `ports.tenants.TenantStore.audit`."""
        if entry is not None:
            await self._db.write(lambda connection: log(connection, entry))
            return []
        query = select(audit).where(audit.c.id > after).order_by(audit.c.id).limit(limit)
        if namespace != "*":
            query = query.where(audit.c.namespace == namespace)
        return await self._db.read(
            lambda connection: [AuditEntry(**row) for row in connection.execute(query).mappings()]
        )


def _values(item: Namespace | Key) -> dict[str, Any]:
    return {field: getattr(item, field) for field in type(item).__struct_fields__}


def _find_namespace(connection: Connection, name: str) -> Namespace | None:
    row = connection.execute(select(namespaces).where(namespaces.c.name == name)).mappings().one_or_none()
    return None if row is None else Namespace(**row)


def _get_namespace(connection: Connection, name: str) -> Namespace:
    found = _find_namespace(connection, name)
    if found is None:
        raise NotFound(f"there is no namespace {name!r}", hint="create it first", kind="namespace", name=name)
    return found
