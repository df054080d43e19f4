"""Families of what comes from systems of others and goes to them, for `/metrics`."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
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
        sent = CounterMetricFamily(
            "fuyun_endpoint_events", "Attempts to send events to endpoints, by how they ended",
            labels=["namespace", "endpoint", "how"],
        )  # fmt: skip
        for told, count in sorted(self._outside.endpoints.sent.items()):
            if self._sees(told[0]):
                sent.add_metric(list(told), count)
        yield sent
        yield from self._postgres()

    def _postgres(self) -> Iterator[Metric]:
        names = ["namespace", "function", "trigger"]
        lag = GaugeMetricFamily("fuyun_postgres_lag_bytes", "Log of a database that is still to be read", labels=names)
        kept = GaugeMetricFamily("fuyun_postgres_kept_bytes", "Log that the server keeps for a trigger", labels=names)
        age = GaugeMetricFamily("fuyun_postgres_age_seconds", "Age of the next change", labels=names)
        for one in self._outside.postgres.gauges():
            if self._sees(one.namespace):
                labels = [one.namespace, one.function, one.trigger]
                lag.add_metric(labels, one.lag_bytes)
                kept.add_metric(labels, one.kept_bytes)
                age.add_metric(labels, one.age_s)
        delivered = CounterMetricFamily(
            "fuyun_outside_delivered", "Events of outside sources that triggers are done with",
            labels=["namespace", "function", "how"],
        )  # fmt: skip
        for key, count in sorted(self._outside.batches.outcomes.items()):
            if self._sees(key[0]):
                delivered.add_metric(list(key), count)
        yield from (lag, kept, age, delivered)
