"""Families of what comes from systems of others and goes to them, for `/metrics`."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from fuyun.services.outside import Outside


class OutsideCollector(Collector):
    """Of the namespace `seen` (`*` all, "" none). Reads plain counters."""

    def __init__(self, outside: Outside, seen: str) -> None:
        self._outside = outside
        self._seen = seen

    def _sees(self, namespace: str) -> bool:
        return self._seen in ("*", namespace)

    def collect(self) -> Iterator[Metric]:
        """All families, in a stable order."""
        received = CounterMetricFamily(
            "fuyun_webhook_requests", "Requests to webhooks, by what became of them",
            labels=["namespace", "function", "trigger", "how"],
        )  # fmt: skip
        for key, count in sorted(self._outside.webhooks.received.items()):
            if self._sees(key[0]):
                received.add_metric(list(key), count)
        yield received
