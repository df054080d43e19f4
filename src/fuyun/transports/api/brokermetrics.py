"""Families of triggers of outside brokers for `/metrics`."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from fuyun.base import clock
from fuyun.services.triggers.brokers import BrokerTriggers


class BrokerCollector(Collector):
    """Of the namespace `seen` (`*` all, "" none). Brokers are not asked: it tells what they said last."""

    def __init__(self, brokers: BrokerTriggers, seen: str) -> None:
        self._brokers = brokers
        self._seen = seen

    def collect(self) -> Iterator[Metric]:
        """All families, in a stable order."""
        names = ["namespace", "function", "trigger"]
        connected = GaugeMetricFamily("fuyun_broker_connected", "1 while the trigger has its broker", labels=names)
        away = GaugeMetricFamily("fuyun_broker_away_seconds", "How long it has not had it", labels=names)
        lag = GaugeMetricFamily("fuyun_broker_lag", "Messages without an outcome, where the broker tells", labels=names)
        held = GaugeMetricFamily("fuyun_broker_held", "Messages that were taken and have no outcome", labels=names)
        age = GaugeMetricFamily("fuyun_broker_age_seconds", "Age of the oldest of those", labels=names)
        ended = CounterMetricFamily(
            "fuyun_broker_messages", "Messages since the platform started, by their end", labels=[*names, "how"]
        )
        now_s = clock.wall_s()
        for key, progress in sorted(self._brokers.progress.items(), key=lambda item: item[0]):
            if self._seen not in ("*", key[0]):
                continue
            labels = list(key)
            connected.add_metric(labels, 1.0 if progress.connected_s else 0.0)
            away.add_metric(labels, max(0.0, now_s - progress.problem_s) if progress.problem else 0.0)
            if progress.lag is not None:
                lag.add_metric(labels, progress.lag)
            held.add_metric(labels, len(progress.held))
            age.add_metric(labels, progress.age_s(now_s))
            for how in ("received", "done", "given_up", "dropped", "repeated"):
                ended.add_metric([*labels, how], getattr(progress, how))
        yield from (connected, away, lag, held, age, ended)
