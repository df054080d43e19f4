"""`ports.bus.BusStore` in SQL."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, delete, func, insert, select, tuple_, update

from fuyun.decide.quotas import check_buses
from fuyun.domain.bus import Bus, Rule
from fuyun.domain.errors import Conflict, NotFound, PreconditionFailed, QuotaExceeded
from fuyun.domain.tenants import AuditEntry, Quotas
from fuyun.drivers.bus.tables import buses, rules
from fuyun.drivers.sql.journal import log
from fuyun.drivers.sql.sqlite import Database
from fuyun.ports.bus import NO_QUOTAS


class SqlBuses:
    """Buses and rules in the tables `buses` and `bus_rules`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def put_bus(
        self, bus: Bus, entry: AuditEntry | None = None, expect: int | None = None, quotas: Quotas = NO_QUOTAS
    ) -> Bus:
        """See `ports.bus.BusStore.put_bus`."""
        where = (buses.c.namespace == bus.namespace) & (buses.c.name == bus.name)

        def work(connection: Connection) -> Bus:
            values = _settled(connection, buses, where, bus, expect, f"bus {bus.name!r}")
            if values["revision"] == 1:
                mine = select(func.count()).select_from(buses).where(buses.c.namespace == bus.namespace)
                check_buses(quotas, connection.execute(mine).scalar_one() - 1)
            log(connection, entry)
            return Bus(**values)

        return await self._db.write(work)

    async def get_bus(self, namespace: str, name: str) -> Bus:
        """See `ports.bus.BusStore.get_bus`."""
        return await self._db.read(lambda connection: get_bus(connection, namespace, name))

    async def list_buses(self, namespace: str, after: str = "", limit: int = 100) -> list[Bus]:
        """See `ports.bus.BusStore.list_buses`."""
        query = select(buses).order_by(buses.c.namespace, buses.c.name).limit(limit)
        if namespace == "*":
            first, _, second = after.partition("/")
            query = query.where(tuple_(buses.c.namespace, buses.c.name) > tuple_(first, second))
        else:
            query = query.where(buses.c.namespace == namespace, buses.c.name > after)
        return await self._db.read(lambda connection: [Bus(**row) for row in connection.execute(query).mappings()])

    async def delete_bus(self, namespace: str, name: str, entry: AuditEntry | None = None) -> None:
        """See `ports.bus.BusStore.delete_bus`."""

        def work(connection: Connection) -> None:
            get_bus(connection, namespace, name)
            connection.execute(delete(buses).where(buses.c.namespace == namespace, buses.c.name == name))
            log(connection, entry)

        await self._db.write(work)

    async def put_rule(self, rule: Rule, most: int, entry: AuditEntry | None = None, expect: int | None = None) -> Rule:
        """See `ports.bus.BusStore.put_rule`."""
        of_bus = (rules.c.namespace == rule.namespace) & (rules.c.bus == rule.bus)

        def work(connection: Connection) -> Rule:
            get_bus(connection, rule.namespace, rule.bus)
            values = _settled(connection, rules, of_bus & (rules.c.name == rule.name), rule, expect,
                              f"rule {rule.name!r}")  # fmt: skip
            count = connection.execute(select(func.count()).select_from(rules).where(of_bus)).scalar_one()
            if count > most:
                raise QuotaExceeded(
                    f"bus {rule.bus!r} has {most} rules", hint="delete one, or use another bus", quota="rules",
                    limit=most,
                )  # fmt: skip
            log(connection, entry)
            return Rule(**values)

        return await self._db.write(work)

    async def list_rules(self, namespace: str, bus: str) -> list[Rule]:
        """See `ports.bus.BusStore.list_rules`."""
        query = select(rules).order_by(rules.c.namespace, rules.c.bus, rules.c.name)

        def work(connection: Connection) -> list[Rule]:
            found = query
            if namespace != "*":
                get_bus(connection, namespace, bus)
                found = query.where(rules.c.namespace == namespace, rules.c.bus == bus)
            return [Rule(**row) for row in connection.execute(found).mappings()]

        return await self._db.read(work)

    async def delete_rule(self, namespace: str, bus: str, name: str, entry: AuditEntry | None = None) -> None:
        """See `ports.bus.BusStore.delete_rule`."""
        where = (rules.c.namespace == namespace) & (rules.c.bus == bus) & (rules.c.name == name)

        def work(connection: Connection) -> None:
            get_bus(connection, namespace, bus)
            if connection.execute(delete(rules).where(where)).rowcount == 0:
                raise NotFound(
                    f"bus {bus!r} has no rule {name!r}", hint=f"`fuyun bus rules {bus}` lists them",
                    kind="rule", name=name,
                )  # fmt: skip
            log(connection, entry)

        await self._db.write(work)


def get_bus(connection: Connection, namespace: str, name: str) -> Bus:
    """NotFound when absent."""
    query = select(buses).where(buses.c.namespace == namespace, buses.c.name == name)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound(
            f"there is no bus {name!r} in namespace {namespace!r}",
            hint=f"list them with `fuyun bus list`, or create it: fuyun bus create {name}", kind="bus", name=name,
        )  # fmt: skip
    return Bus(**row)


def _settled(
    connection: Connection, table: Table, where: ColumnElement[bool], thing: Bus | Rule, expect: int | None, what: str
) -> dict[str, Any]:
    """Write `thing` as the port says; the values that are in the table now."""
    values = {field: getattr(thing, field) for field in type(thing).__struct_fields__}
    known = connection.execute(select(table.c.revision, table.c.created_s).where(where)).one_or_none()
    if known is None:
        if expect:
            raise NotFound(f"there is no {what}", hint="create it", kind=what.partition(" ")[0], name=thing.name)
        values["revision"] = 1
        connection.execute(insert(table).values(values))
        return values
    if expect == 0:
        raise Conflict(f"{what} exists already", hint="choose another name, or change this one")
    if expect is not None and expect != known.revision:
        raise PreconditionFailed(
            f"{what} is at revision {known.revision}, not {expect}", hint="read it again, then change that",
            etag=f'"{known.revision}"',
        )  # fmt: skip
    values |= {"revision": known.revision + 1, "created_s": known.created_s}
    connection.execute(update(table).where(where).values(values))
    return values
