"""The invoke path's owner: chooses a version, hands to its pool, batches records. Implements `invoking.Invoker`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, final

import structlog

from fuyun.base import clock
from fuyun.base.tasks import Scope
from fuyun.decide import provisioning, routing
from fuyun.domain.errors import FuyunError, NotFound, Unavailable
from fuyun.domain.functions import Version
from fuyun.domain.invocations import Row
from fuyun.domain.tenants import Quotas
from fuyun.ports.instances import InstanceHost
from fuyun.ports.records import RecordStore
from fuyun.services.flights import LiveFlight
from fuyun.services.gauges import Gauges, PoolGauge
from fuyun.services.invoking import Responder
from fuyun.services.measures import Measures
from fuyun.services.members import Tenant
from fuyun.services.pools import Pool
from fuyun.services.requests import Request
from fuyun.services.routes import Route, RouteTable
from fuyun.services.turns import Turns

_log = structlog.get_logger("fuyun.dispatch")

#: Seconds between two looks at timeouts and queues while anything runs or waits; timeouts are that exact.
_TICK_S: Final = 0.05
#: Seconds between two decisions of the autoscaler.
_SCALE_S: Final = 1.0
#: At the end, how long instances that were killed have to be gone.
_LAST_S: Final = 2.0
#: Finished invocations leave in batches of about so many, at most so late.
_BATCH: Final = 64
_BATCH_S: Final = 0.05


@final
class Dispatcher:
    """One per node. Implements `invoking.Invoker`."""

    def __init__(
        self,
        table: RouteTable,
        host: InstanceHost,
        records: RecordStore,
        measures: Measures,
        *,
        quotas_of: Callable[[str], Quotas],
        environment: Callable[[Version], Awaitable[dict[str, str]]],
        queue_length: int = 1000,
        queue_wait_s: float = 30.0,
    ) -> None:
        """`quotas_of(namespace)`: NotFound when it is gone. `environment(version)`: its variables, secrets open."""
        self.host = host
        self.queue_length = queue_length
        self.queue_wait_s = queue_wait_s
        self.scope = Scope("pools", lambda error: _log.error("pool task failed", exc_info=error))
        self.log = records.append_nowait
        self._table = table
        self._records = records
        self.tally = measures.tally
        self._quotas_of = quotas_of
        self.environment = environment
        self._pools: dict[str, Pool] = {}
        self._retired: list[Pool] = []
        self._tenants: dict[str, Tenant] = {}
        self._done: list[LiveFlight] = []
        self._ticker: asyncio.TimerHandle | None = None
        self._scaled_s = 0.0
        self._flusher: asyncio.TimerHandle | None = None
        self._closing = False
        self._turns = Turns(self._submit)
        self._loop = asyncio.get_running_loop()  # asked for once: it costs a system call

    def match(self, path: str) -> Route:
        """The route of a gateway path (see `invoking.Invoker`)."""
        return self._table.match(path)

    def resolve(self, namespace: str, function: str, qualifier: str) -> Route:
        """The route of a name (see `invoking.Invoker`)."""
        return self._table.resolve(namespace, function, qualifier)

    # --- the catalog changes

    async def open(self) -> None:
        """Read the catalog and make the pools."""
        await self._table.open()
        self._attach()

    async def reload(self, namespace: str, function: str) -> None:
        """A function, its versions or aliases changed: new requests meet the new state, running ones end in peace."""
        await self._table.load(namespace, function)
        self._attach()

    def _attach(self) -> None:
        self._turns.hurry()
        wanted = self._table.versions()
        for key in [key for key in self._pools if key not in wanted]:
            pool = self._pools.pop(key)
            pool.retire()
            self._retired.append(pool)
            self.host.forget(key)
        for key, (version, pinned) in wanted.items():
            pool = self._pools.get(key) or self._pool(version)
            self._pools[key] = pool
            pool.pinned = pinned
        self.provision(clock.wall_s())
        for route in self._table.routes():
            route.pools = [(end, self._pools[version.key]) for end, version in route.choices]
        self.wake()

    def provision(self, wall_s: float) -> None:
        """Let every pool keep the instances that its version's windows ask for at `wall_s`."""
        for pool in self._pools.values():
            if pool.version.spec.provisioned:
                pool.spec = provisioning.scheduled(pool.version.spec, wall_s)
        self.wake()

    def _pool(self, version: Version) -> Pool:
        tenant = self._tenants.get(version.namespace)
        try:
            quotas = self._quotas_of(version.namespace)
        except NotFound:  # deleted under our hands: nothing of it runs any more
            quotas = Quotas(functions=0, concurrency=0, instances=0, memory_bytes=0, storage_bytes=0)
        if tenant is None:
            tenant = self._tenants[version.namespace] = Tenant(quotas)
        else:  # a namespace may have been made anew under its old name
            tenant.quotas = quotas
            tenant.gate.limit = quotas.concurrency
        return Pool(version, tenant, self)

    def _requota(self) -> None:
        """Follow changed quotas; forget namespaces that are gone."""
        for namespace, tenant in list(self._tenants.items()):
            try:
                tenant.quotas = self._quotas_of(namespace)
            except NotFound:
                if not tenant.instances:
                    del self._tenants[namespace]
                continue
            tenant.gate.limit = tenant.quotas.concurrency

    # --- requests

    def begin(
        self,
        route: Route,
        request: Request,
        body: bytes,
        end: bool,
        responder: Responder,
    ) -> LiveFlight:
        """Start an invocation (see `invoking.Invoker.begin`)."""
        pools = route.pools
        pool = pools[0][1] if len(pools) == 1 else self._choose(route, request.headers)
        error: FuyunError | None = None
        if pool.retired:
            pool, error = self._fresh(route, request.headers, pool)
        flight = LiveFlight(pool, route.alias, route.base, responder, request, body, end)
        if self._closing:
            error = Unavailable("the platform is going down", hint="retry in a few seconds", retry_after_s=2)
        if error is not None:
            pool.refuse_soon(flight, error)
        elif not self._turns.take(flight):
            self._submit(flight)
        return flight

    def _submit(self, flight: LiveFlight) -> None:
        flight.pool.submit(flight)
        if self._ticker is None:
            self.wake()

    def _fresh(self, route: Route, headers: list[tuple[str, str]], stale: Pool) -> tuple[Pool, FuyunError | None]:
        """The pool for a request whose route was looked up before a deployment replaced it."""
        try:
            return self._choose(self.resolve(route.namespace, route.function, route.qualifier), headers), None
        except NotFound as error:
            return stale, error

    @staticmethod
    def _choose(route: Route, headers: list[tuple[str, str]]) -> Pool:
        if route.sticky_header:
            for name, value in headers:
                if name == route.sticky_header:
                    return routing.choose(route.pools, routing.point_of(value, f"{route.function}:{route.qualifier}"))
        route.turn += 1
        return routing.choose(route.pools, routing.point_at(route.turn))

    def finished(self, flight: LiveFlight) -> None:
        """A flight is over: give back what it held, keep it for the next batch of records."""
        if flight.admitted:
            flight.pool.release()
        self._done.append(flight)
        if len(self._done) == _BATCH:
            self._loop.call_soon(self._flush)
        elif self._flusher is None:
            self._flusher = self._loop.call_later(_BATCH_S, self._flush)

    def _flush(self) -> None:
        if self._flusher is not None:
            self._flusher.cancel()
            self._flusher = None
        done, self._done = self._done, []
        batches: dict[tuple[Pool, int], list[Row]] = {}  # by pool and hour of arrival
        for flight in done:
            pool, billed_gb_s = flight.pool, flight.billed_gb_s
            pool.tally.count(flight.status, flight.start_kind, flight.duration_ns / 1e9, billed_gb_s)
            key = (pool, int(flight.at_s) // 3600)
            rows = batches.get(key)
            if rows is None:
                batches[key] = [flight.row(billed_gb_s)]
            else:
                rows.append(flight.row(billed_gb_s))
        for (pool, hour), rows in batches.items():
            self._records.append_rows(pool.version.namespace, pool.version.function, hour * 3600, rows)

    # --- time

    def wake(self) -> None:
        """Make sure that time is looked after."""
        if not self._closing:
            self._tick_in(_TICK_S)

    def _tick_in(self, delay_s: float) -> None:
        if self._ticker is None:
            self._ticker = self._loop.call_later(delay_s, self._tick)

    def _tick(self) -> None:
        self._ticker = None
        now_ns, now_s = clock.mono_ns(), clock.mono_s()
        scale = now_s - self._scaled_s >= _SCALE_S
        busy = alive = False
        for pool in self._all():
            if pool.busy or pool.alive:
                alive = True
                if pool.busy:
                    busy = True
                    pool.observe(now_s)
                    pool.expire(now_ns)
            if scale:
                pool.scale(now_s)
            alive = alive or pool.lacking
        if scale:
            self._scaled_s = now_s
            self._requota()
            self._bury()
        # Answering what waited too long may have woken it already: never two timers. The timer is looked at in a method
        # of its own: here compiled code takes it for None still, because it was set to that above.
        if (alive or busy or self._retired) and not self._closing:
            self._tick_in(_TICK_S if busy else _SCALE_S)

    def _bury(self) -> None:
        """Forget retired pools that have nothing left, and what the host kept for them since."""
        for pool in [pool for pool in self._retired if not pool.busy and not pool.alive]:
            self._retired.remove(pool)
            self.host.forget(pool.version.key)

    # --- what is seen of it

    def gauges(self, gateway_connections: int = 0) -> Gauges:
        """For `/metrics` and `status`."""
        rows = []
        for pool in self._pools.values():
            if not pool.members and not pool.busy:
                continue
            busy = sum(1 for member in pool.members.values() if member.state.inflight)
            rows.append(
                PoolGauge(
                    namespace=pool.version.namespace, function=pool.version.function, version=pool.version.qualifier,
                    states={"ready": len(pool.members) - busy, "busy": busy, "starting": pool.starting},
                    queue=len(pool.queue), inflight=len(pool.running),
                )
            )  # fmt: skip
        return Gauges(pools=tuple(rows), gateway_connections=gateway_connections, records_dropped=self._records.dropped)

    def scaling(self) -> list[dict[str, Any]]:
        """The autoscaler's last word per pool."""
        return [
            {
                "version": key,
                "desired": pool.desired.instances,
                "panic": pool.desired.panic,
                "reason": pool.desired.reason,
            }
            for key, pool in self._pools.items()
            if pool.desired is not None
        ]

    @property
    def idle(self) -> bool:
        """Whether no request runs or waits."""
        return not any(pool.running or pool.queue for pool in self._all())

    async def close(self, timeout_s: float) -> None:
        """Refuse what waits, let what runs end for up to `timeout_s`, then stop every instance."""
        deadline = clock.mono_s() + timeout_s
        while not self.idle and clock.mono_s() < deadline:
            await self._pass_time()
        self._turns.hurry()
        self._closing = True
        error = Unavailable("the platform is going down", hint="retry in a few seconds", retry_after_s=2)
        for pool in self._all():
            pool.fail_waiting(error)
            pool.retire()
        if self._ticker is not None:
            self._ticker.cancel()
        while any(pool.alive for pool in self._all()) and clock.mono_s() < deadline:
            await self._pass_time()
        for pool in self._all():
            pool.end(error)
        deadline = clock.mono_s() + _LAST_S
        while any(pool.alive for pool in self._all()) and clock.mono_s() < deadline:
            await self._pass_time()
        await self.scope.close()
        self._flush()

    def _all(self) -> tuple[Pool, ...]:
        return (*self._pools.values(), *self._retired)

    async def _pass_time(self) -> None:
        """A moment, and what it ends."""
        now_ns = clock.mono_ns()
        for pool in self._all():
            pool.expire(now_ns)
        await asyncio.sleep(0.02)
