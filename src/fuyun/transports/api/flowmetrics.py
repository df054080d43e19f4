"""Families of streams, of tables and of their triggers for `/metrics`."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from fuyun.services.flows import Flows


class FlowCollector(Collector):
    """Reads plain counters; the stores are not asked."""

    def __init__(self, flows: Flows, seen: str) -> None:
        """`seen`: the namespace that is told of; `*` all, "" none."""
        self._flows = flows
        self._seen = seen

    def _sees(self, namespace: str) -> bool:
        return self._seen in ("*", namespace)

    def collect(self) -> Iterator[Metric]:
        """All families, in a stable order."""
        yield from self._streams()
        yield from self._tables()
        yield from self._triggers()

    def _streams(self) -> Iterator[Metric]:
        names = ["namespace", "stream"]
        appended = CounterMetricFamily("fuyun_stream_appended", "Records appended", labels=names)
        sizes = CounterMetricFamily("fuyun_stream_appended_bytes", "Data of records appended", labels=names)
        read = CounterMetricFamily("fuyun_stream_read", "Records read, by triggers and by others", labels=names)
        for key, tally in sorted(self._flows.streams.tallies.items()):
            if not self._sees(key[0]):
                continue
            appended.add_metric(list(key), tally.appended)
            sizes.add_metric(list(key), tally.appended_bytes)
            read.add_metric(list(key), tally.read)
        yield from (appended, sizes, read)

    def _tables(self) -> Iterator[Metric]:
        names = ["namespace", "table"]
        written = CounterMetricFamily("fuyun_table_written", "Changes of items", labels=names)
        read = CounterMetricFamily("fuyun_table_read", "Items read", labels=names)
        expired = CounterMetricFamily("fuyun_table_expired", "Items removed after their time", labels=names)
        for key, tally in sorted(self._flows.tables.tallies.items()):
            if not self._sees(key[0]):
                continue
            written.add_metric(list(key), tally.written)
            read.add_metric(list(key), tally.read)
            expired.add_metric(list(key), tally.expired)
        yield from (written, read, expired)

    def _triggers(self) -> Iterator[Metric]:
        names = ["namespace", "stream", "group", "partition"]
        lag = GaugeMetricFamily("fuyun_stream_lag", "Records before a trigger's cursor, as it last saw", labels=names)
        age = GaugeMetricFamily("fuyun_stream_age_seconds", "Age of the next of them", labels=names)
        for one in self._flows.triggers.gauges():
            if not self._sees(one.namespace):
                continue
            labels = [one.namespace, one.stream, one.group, str(one.partition)]
            lag.add_metric(labels, one.lag)
            age.add_metric(labels, one.age_s)
        delivered = CounterMetricFamily(
            "fuyun_stream_delivered", "Records that triggers are done with", labels=["namespace", "function", "how"]
        )
        for key, count in sorted(self._flows.batches.outcomes.items()):
            if self._sees(key[0]):
                delivered.add_metric(list(key), count)
        yield from (lag, age, delivered)
