"""Families of queues and of their triggers for `/metrics`."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from fuyun.services.messaging import Messaging
from fuyun.services.queues import Tally


class QueueCollector(Collector):
    """Of the namespace `seen` (`*` all, "" none). `Queues.refresh` is to be awaited before it is asked."""

    def __init__(self, messaging: Messaging, seen: str) -> None:
        self._seen = seen
        self._queues = messaging.queues
        self._triggers = messaging.triggers

    def _sees(self, namespace: str) -> bool:
        return self._seen in ("*", namespace)

    def collect(self) -> Iterator[Metric]:
        """All families, in a stable order."""
        names = ["namespace", "queue"]
        messages = GaugeMetricFamily("fuyun_queue_messages", "Messages that a queue holds", labels=names)
        sizes = GaugeMetricFamily("fuyun_queue_bytes", "Bytes of those messages", labels=names)
        for queue in filter(lambda queue: self._sees(queue.namespace), self._queues.held):
            messages.add_metric([queue.namespace, queue.name], queue.messages)
            sizes.add_metric([queue.namespace, queue.name], queue.bytes)
        moved = CounterMetricFamily(
            "fuyun_queue_moved", "Messages since the platform started, by what became of them", labels=[*names, "how"]
        )
        for key, tally in sorted(self._queues.tallies.items(), key=lambda item: item[0]):
            if not self._sees(key[0]):
                continue
            for how in Tally.__slots__:
                moved.add_metric([*key, how], getattr(tally, how))
        waiting = GaugeMetricFamily(
            "fuyun_queue_receivers", "Receivers and triggers that wait for a message", len(self._queues.lines)
        )
        yield from (messages, sizes, moved, waiting)
        yield from self._progress()

    def _progress(self) -> Iterator[Metric]:
        names = ["namespace", "function", "trigger"]
        running = GaugeMetricFamily("fuyun_trigger_running", "Messages inside the function", labels=names)
        ended = CounterMetricFamily(
            "fuyun_trigger_messages", "Messages since the platform started, by how they ended", labels=[*names, "how"]
        )
        for key, progress in sorted(self._triggers.progress.items(), key=lambda item: item[0]):
            if not self._sees(key[0]):
                continue
            running.add_metric(list(key), progress.running)
            for how in ("done", "failed", "given_up", "dropped"):
                ended.add_metric([*key, how], getattr(progress, how))
        yield from (running, ended)
