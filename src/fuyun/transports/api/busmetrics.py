"""Families of buses for `/metrics`."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from fuyun.services.buses import Buses


class BusCollector(Collector):
    """Reads plain counters; the stores are not asked."""

    def __init__(self, buses: Buses, seen: str) -> None:
        """`seen`: the namespace that is told of; `*` all, "" none."""
        self._buses = buses
        self._seen = seen

    def collect(self) -> Iterator[Metric]:
        """All families, in a stable order."""
        names = ["namespace", "bus"]
        published = CounterMetricFamily("fuyun_bus_published", "Events published", labels=names)
        sizes = CounterMetricFamily("fuyun_bus_published_bytes", "Data of events published", labels=names)
        matched = CounterMetricFamily("fuyun_bus_matched", "Events that a rule took", labels=[*names, "rule"])
        unmatched = CounterMetricFamily("fuyun_bus_unmatched", "Events that no rule took", labels=names)
        for key, tally in sorted(self._buses.tallies.items(), key=lambda item: item[0]):
            if self._seen not in ("*", key[0]):
                continue
            published.add_metric(list(key), tally.published)
            sizes.add_metric(list(key), tally.published_bytes)
            unmatched.add_metric(list(key), tally.unmatched)
            for rule, count in sorted(tally.matched.items()):
                matched.add_metric([*key, rule], count)
        yield from (published, sizes, matched, unmatched)
