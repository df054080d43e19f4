"""A dispatcher over a fake host and a catalog in memory, in virtual time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from fuyun.domain.errors import FuyunError, NotFound
from fuyun.domain.functions import Alias, Artifact, Function, FunctionSpec, HttpTrigger, Trigger, Version, Weight
from fuyun.domain.invocations import Invocation, LogLine, Row
from fuyun.domain.tenants import Quotas
from fuyun.services.dispatching import Dispatcher
from fuyun.services.flights import LiveFlight
from fuyun.services.measures import Measures
from fuyun.services.requests import Request
from fuyun.services.routes import RouteTable
from fuyun.testing import times
from fuyun.testing.hosts import FakeCall, FakeHost

CODE = Artifact(digest="0" * 64, size_bytes=1)


class MemoryCatalog:
    """What a route table reads; `slow` holds back single reads."""

    def __init__(self) -> None:
        self.versions: dict[tuple[str, str], dict[int, Version]] = {}
        self.aliases: dict[tuple[str, str], dict[str, Alias]] = {}
        self.slow: list[asyncio.Event] = []  # each holds back one listing of versions

    def put(self, name: str, number: int = 0, namespace: str = "default", **spec: Any) -> Version:
        """Store a version; a draft's revision rises."""
        found = self.versions.setdefault((namespace, name), {})
        revision = found[number].revision + 1 if number in found else 1
        version = Version(
            namespace=namespace, function=name, number=number, spec=FunctionSpec(**spec), code=CODE, created_s=0.0,
            revision=revision,
        )  # fmt: skip
        found[number] = version
        return version

    def alias(
        self, name: str, alias: str, weights: dict[int, float], namespace: str = "default", sticky: str = ""
    ) -> None:
        """Store an alias."""
        told = tuple(Weight(version=number, weight=weight) for number, weight in weights.items())
        found = Alias(namespace=namespace, function=name, name=alias, weights=told, sticky_header=sticky)
        self.aliases.setdefault((namespace, name), {})[alias] = found

    def delete(self, name: str, namespace: str = "default") -> None:
        """Remove a function."""
        del self.versions[namespace, name]
        self.aliases.pop((namespace, name), None)

    async def list_functions(self, namespace: str, after: str = "", limit: int = 100) -> list[Function]:
        """See `ports.catalog.Catalog`."""
        names = sorted(self.versions, key="/".join)
        return [
            Function(namespace=space, name=name, last_version=0, created_s=0.0, updated_s=0.0)
            for space, name in names
            if f"{space}/{name}" > after
        ][:limit]

    async def list_versions(self, namespace: str, function: str, after: int = -1, limit: int = 100) -> list[Version]:
        """See `ports.catalog.Catalog`."""
        if (namespace, function) not in self.versions:
            raise NotFound("no such function")
        found = dict(self.versions[namespace, function])
        if self.slow:
            await self.slow.pop(0).wait()
        return [version for number, version in sorted(found.items()) if number > after][:limit]

    async def list_aliases(self, namespace: str, function: str) -> list[Alias]:
        """See `ports.catalog.Catalog`."""
        if (namespace, function) not in self.versions:
            raise NotFound("no such function")
        return [alias for _, alias in sorted(self.aliases.get((namespace, function), {}).items())]


class Kept:
    """Records, in memory."""

    def __init__(self) -> None:
        self.items: list[Invocation | LogLine] = []
        self.dropped = 0

    def append_nowait(self, item: Invocation | LogLine) -> None:
        """See `ports.records.RecordStore`."""
        self.items.append(item)

    def append_rows(self, namespace: str, function: str, at_s: int, rows: list[Row]) -> None:
        """See `ports.records.RecordStore`."""
        found = [row.record(namespace, function) for row in rows]
        assert {item.at_s // 3600 * 3600 for item in found} == {at_s}
        self.items.extend(found)

    @property
    def invocations(self) -> list[Invocation]:
        """Only these."""
        return [item for item in self.items if isinstance(item, Invocation)]

    @property
    def lines(self) -> list[LogLine]:
        """Only these."""
        return [item for item in self.items if isinstance(item, LogLine)]


class Caller:
    """The responder of one request: what it got, and that it got exactly one end."""

    def __init__(self) -> None:
        self.flight: LiveFlight | None = None
        self.value: Any = None
        self.error: FuyunError | None = None
        self.chunks: list[bytes] = []
        self.credit = 0
        self.ends = 0
        self.at_s = 0.0  # when it ended
        self.auto_sent = True
        self.left = False

    @property
    def done(self) -> bool:
        """Whether it has been answered."""
        return self.ends > 0

    def leave(self) -> None:
        """Go away."""
        assert self.flight is not None
        self.left = True
        self.flight.cancel()

    def _end(self) -> None:
        self.ends += 1
        assert self.ends == 1, "two answers to one request"
        assert not self.left, "an answer to somebody who is gone"
        self.at_s = asyncio.get_running_loop().time()
        assert self.flight is not None, "answered before `begin` returned"
        if self.auto_sent:
            self.flight.sent(200 if self.error is None else 500, 2)

    def on_result(self, status: int, headers: list[tuple[str, str]] | None, body: bytes) -> None:
        self.value = json.loads(body)
        self._end()

    def on_head(self, status: int, headers: list[tuple[str, str]]) -> None:
        assert not self.ends

    def on_body(self, chunk: bytes) -> None:
        self.chunks.append(chunk)

    def on_end(self) -> None:
        self._end()

    def on_fail(self, error: FuyunError) -> None:
        self.error = error
        self._end()

    def on_credit(self, size_bytes: int) -> None:
        self.credit += size_bytes


class Platform:
    """A dispatcher and all that is around it."""

    def __init__(self, auto_s: float | None = 0.0, **options: Any) -> None:
        self.catalog = MemoryCatalog()
        self.host = FakeHost(auto_s)
        self.records = Kept()
        self.quotas: dict[str, Quotas] = {"default": Quotas()}
        self.measures = Measures()
        self.secrets: dict[str, str] = {}
        self.broken: FuyunError | None = None  # what asking for the environment ends in
        self.dispatcher = Dispatcher(
            RouteTable(self.catalog),  # type: ignore[arg-type]
            self.host, self.records, self.measures,  # type: ignore[arg-type]
            quotas_of=self._quotas_of, environment=self._environment, **options,
        )  # fmt: skip
        self.callers: list[Caller] = []

    def _quotas_of(self, namespace: str) -> Quotas:
        if namespace not in self.quotas:
            raise NotFound("no such namespace")
        return self.quotas[namespace]

    async def _environment(self, version: Version) -> dict[str, str]:
        if self.broken is not None:
            raise self.broken
        return dict(self.secrets)

    async def deploy(self, name: str = "f", number: int = 0, namespace: str = "default", **spec: Any) -> Version:
        """Store a version and tell the dispatcher."""
        version = self.catalog.put(name, number, namespace, **spec)
        await self.dispatcher.reload(namespace, name)
        return version

    def call(
        self, name: str = "f", qualifier: str = "", namespace: str = "default", body: bytes = b"{}", end: bool = True,
        **headers: str,
    ) -> Caller:  # fmt: skip
        """Begin a request."""
        caller = Caller()
        self.callers.append(caller)
        route = self.dispatcher.resolve(namespace, name, qualifier)
        caller.flight = self.dispatcher.begin(
            route, Request("event", "POST", "/", "", list(headers.items()), "", "http"), body, end, caller
        )
        return caller

    async def inside(self, count: int) -> list[FakeCall]:
        """Wait until that many calls are inside instances."""
        for _ in range(1000):
            if len(self.host.calls) >= count:
                return self.host.calls
            await asyncio.sleep(0.001)
        raise AssertionError(f"{len(self.host.calls)} calls inside, not {count}")

    def pool(self, name: str = "f", number: int = 0) -> Any:
        """The pool of a version."""
        return self.dispatcher._pools[self.catalog.versions["default", name][number].key]

    def assert_quiet(self) -> None:
        """Everything was answered and given back, and recorded once."""
        assert all(caller.ends == 1 or (caller.left and not caller.ends) for caller in self.callers)
        for tenant in self.dispatcher._tenants.values():
            assert tenant.gate.used == 0
        counted = sum(tenant.instances for tenant in self.dispatcher._tenants.values())
        assert counted == len(self.host.instances)
        for pool in self.dispatcher._all():
            assert pool.gate.used == 0
            assert not pool.queue
            assert not pool.running
            assert sorted(member.instance.id for member in pool.free) == sorted(pool.members)
        ids = [item.id for item in self.records.invocations]
        assert sorted(ids) == sorted(caller.flight.id for caller in self.callers if caller.flight)


def play(scene: Callable[[Platform], Awaitable[None]], auto_s: float | None = 0.0, **options: Any) -> Platform:
    """Run a scene in virtual time; afterwards nothing is left over."""

    async def main() -> Platform:
        # What fails in a callback would only be logged.
        failed: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: failed.append(context))
        platform = Platform(auto_s, **options)
        await platform.dispatcher.open()
        try:
            await scene(platform)
            await asyncio.sleep(0.2)
            platform.assert_quiet()
        finally:
            await platform.dispatcher.close(5.0)
        assert platform.host.instances == []
        assert failed == []
        return platform

    return times.run(main())


async def short_calls(p: Platform) -> None:
    """One instance whose calls are short, and one call inside."""
    await p.deploy(max_instances=1, timeout_s=5.0)
    p.call()
    (call,) = await p.inside(1)
    call.answer(run_us=100)
    p.call(body=b"0")
    await p.inside(1)


def http(path: str, **fields: Any) -> tuple[Trigger, ...]:
    """One HTTP trigger."""
    return (Trigger(http=HttpTrigger(path=path, **fields)),)
