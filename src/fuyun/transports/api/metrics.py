"""`/metrics` for Prometheus. Counters are kept as plain integers (`services/measures.py`) and read when scraped."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, GCCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.responses import Response

import fuyun
from fuyun.domain.errors import Forbidden, Unavailable
from fuyun.services.gauges import Gauges, S3Traffic, StartBudget, merged
from fuyun.services.measures import BUCKETS_S, Durations, Measures, Tally
from fuyun.transports.api.brokermetrics import BrokerCollector
from fuyun.transports.api.busmetrics import BusCollector
from fuyun.transports.api.calls import Call
from fuyun.transports.api.flowmetrics import FlowCollector
from fuyun.transports.api.outsidemetrics import OutsideCollector
from fuyun.transports.api.queuemetrics import QueueCollector
from fuyun.transports.api.table import KEY_OR_NONE, Endpoint, Success

_STATES = ("starting", "ready", "busy", "draining")


class PlatformCollector(Collector):
    """Turns the platform's plain counters into metric families at scrape time: of the functions of the namespace
    `seen` (`*` all, "" none), and of the platform as a whole."""

    def __init__(self, measures: Measures, gauges: Callable[[], Gauges], seen: str) -> None:
        self._measures = measures
        self._gauges = gauges
        self._seen = seen

    def collect(self) -> Iterator[Metric]:
        """All families, in a stable order."""
        yield from self._counters()
        yield self._durations()
        yield from self._now(self._gauges())

    def _tallies(self) -> list[tuple[tuple[str, str], Tally]]:
        """Of functions that ran, by name."""
        tallies = self._measures.tallies.items()
        return sorted(
            (item for item in tallies if item[1].invocations and self._sees(item[0][0])), key=lambda item: item[0]
        )

    def _sees(self, namespace: str) -> bool:
        return self._seen in ("*", namespace)

    def _counters(self) -> Iterator[Metric]:
        invocations = CounterMetricFamily(
            "fuyun_invocations", "Invocations that ended", labels=["namespace", "function", "status", "start"]
        )
        cold = CounterMetricFamily(
            "fuyun_cold_starts", "Invocations that waited for a new instance", labels=["namespace", "function", "start"]
        )
        starts: dict[tuple[str, str, str], int] = {}
        for (namespace, function), tally in self._tallies():
            for (status, start), count in sorted(tally.invocations.items()):
                invocations.add_metric([namespace, function, status, start], count)
                if start not in ("warm", "none"):
                    key = (namespace, function, start)
                    starts[key] = starts.get(key, 0) + count
        for cold_labels, count in starts.items():
            cold.add_metric(list(cold_labels), count)
        billed = CounterMetricFamily(
            "fuyun_billed_gb_seconds", "Memory limit times run time, in GB-seconds", labels=["namespace", "function"]
        )
        for labels, tally in self._tallies():
            billed.add_metric(list(labels), tally.billed_gb_s)
        yield from (invocations, cold, billed)

    def _durations(self) -> Metric:
        family = HistogramMetricFamily(
            "fuyun_invocation_duration_seconds",
            "Arrival of the request to the last byte of its answer",
            labels=["namespace", "function"],
        )
        for labels, tally in self._tallies():
            family.add_metric(list(labels), _cumulated(tally.durations), sum_value=tally.durations.sum_s)
        return family

    def _now(self, gauges: Gauges) -> Iterator[Metric]:
        names = ["namespace", "function", "version"]
        instances = GaugeMetricFamily("fuyun_instances", "Instances by state", labels=[*names, "state"])
        queue = GaugeMetricFamily("fuyun_queue_length", "Requests waiting for an instance", labels=names)
        inflight = GaugeMetricFamily("fuyun_inflight", "Requests inside instances", labels=names)
        for pool in merged(tuple(pool for pool in gauges.pools if self._sees(pool.namespace))):
            labels = [pool.namespace, pool.function, pool.version]
            for state in sorted({*_STATES, *pool.states}):
                instances.add_metric([*labels, state], pool.states.get(state, 0))
            queue.add_metric(labels, pool.queue)
            inflight.add_metric(labels, pool.inflight)
        yield from (instances, queue, inflight)
        yield GaugeMetricFamily("fuyun_gateway_connections", "Open gateway connections", gauges.gateway_connections)
        yield CounterMetricFamily(
            "fuyun_records_dropped", "Records and log lines discarded unwritten", gauges.records_dropped
        )
        refused = CounterMetricFamily(
            "fuyun_network_refused",
            "Connections, packets and names that a function's network policy refused",
            labels=["namespace", "function", "protocol"],
        )
        for told, count in sorted(gauges.network_refused.items()):
            if self._sees(told[0]):
                refused.add_metric(list(told), count)
        yield refused
        yield from _budget(gauges.budget)
        yield from _deliveries(gauges, self._sees)
        yield from _s3(gauges.s3)
        build = GaugeMetricFamily("fuyun_build_info", "Always 1; its label is the version", labels=["version"])
        build.add_metric([fuyun.__version__], 1)
        yield build


def _deliveries(gauges: Gauges, sees: Callable[[str], bool]) -> Iterator[Metric]:
    names = ["namespace", "target"]
    waiting = GaugeMetricFamily("fuyun_deliveries_waiting", "Deliveries that wait", labels=names)
    running = GaugeMetricFamily("fuyun_deliveries_running", "Deliveries that run", labels=names)
    late = GaugeMetricFamily("fuyun_deliveries_late_seconds", "How long the first has been due", labels=names)
    for lane in gauges.lanes:
        if not sees(lane.namespace):
            continue
        labels = [lane.namespace, lane.target]
        waiting.add_metric(labels, lane.waiting)
        running.add_metric(labels, lane.running)
        late.add_metric(labels, lane.late_s)
    ended = CounterMetricFamily(
        "fuyun_deliveries", "Attempts of deliveries, by the state they led to", labels=[*names, "state"]
    )
    for told, count in sorted(gauges.outcomes.items()):
        if sees(told[0]):
            ended.add_metric(list(told), count)
    yield from (waiting, running, late, ended)


def _budget(budget: StartBudget) -> Iterator[Metric]:
    evictions = CounterMetricFamily(
        "fuyun_evictions", "Templates and zygotes of layers given up for want of memory", labels=["kind"]
    )
    for kind, count in sorted(budget.evicted.items()):
        evictions.add_metric([kind], count)
    yield evictions
    yield GaugeMetricFamily("fuyun_start_memory_bytes", "Memory of templates and zygotes of layers", budget.held_bytes)
    yield GaugeMetricFamily(
        "fuyun_start_memory_limit_bytes", "What they may hold: template_budget_bytes", budget.limit_bytes
    )


def _s3(traffic: S3Traffic) -> Iterator[Metric]:
    operations = CounterMetricFamily("fuyun_s3_operations", "Requests to S3 that were let in", labels=["operation"])
    for name, count in sorted(traffic.operations.items()):
        operations.add_metric([name], count)
    yield operations
    yield CounterMetricFamily("fuyun_s3_received_bytes", "Bytes of objects that were sent here", traffic.received_bytes)
    yield CounterMetricFamily("fuyun_s3_sent_bytes", "Bytes of objects that were fetched", traffic.sent_bytes)


def _cumulated(durations: Durations) -> list[tuple[str, float]]:
    bounds = [*(repr(bound) for bound in BUCKETS_S), "+Inf"]
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip(bounds, durations.counts, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets


async def _scrape(call: Call) -> Response:
    seen = ""
    if call.asking is not None:
        seen = call.asking.namespace
        call.asking.require("read", seen)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(PlatformCollector(call.services.measures, call.services.gauges, seen))
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    with contextlib.suppress(Unavailable):  # while the store goes down: what was known last
        await call.services.messaging.queues.refresh()
    registry.register(QueueCollector(call.services.messaging, seen))
    registry.register(BrokerCollector(call.services.brokers, seen))
    registry.register(FlowCollector(call.services.flows, seen))
    registry.register(BusCollector(call.services.buses, seen))
    registry.register(OutsideCollector(call.services.outside, seen))
    return Response(generate_latest(registry), media_type=None, headers={"content-type": CONTENT_TYPE_LATEST})


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/metrics",
        run=_scrape,
        summary="Metrics in the Prometheus text format: of the platform, and of the functions that a key may read",
        permission=KEY_OR_NONE,
        tag="health",
        successes=(Success(media=("text/plain",), description="metrics"),),
        errors=(Forbidden,),
    ),
)
