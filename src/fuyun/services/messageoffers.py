"""Queues and topics as functions meet them at their address.

    POST /queues/NAMESPACE/QUEUE/{send,receive,acknowledge,extend}
    POST /topics/NAMESPACE/TOPIC/publish

Bodies and answers are those of the control API. What a function sends is one hop further than its invocation.
"""

from __future__ import annotations

from typing import Any

import msgspec

from fuyun.base import clock, ids
from fuyun.domain.functions import Version
from fuyun.domain.messages import Acknowledge, Extend, NewMessages, Receive, SentMessages, SettledMessages, shown
from fuyun.domain.queues import Outgoing, Settling, outgoing_of
from fuyun.services.offers import Asking
from fuyun.services.queues import Queues
from fuyun.services.topics import Topics

#: A batch of messages of the usual size.
_LIMIT_BYTES = 2 * 2**20


class QueueOffer:
    """Implements `services.offers.Offer`."""

    verbs = frozenset({"send", "receive", "acknowledge", "extend"})
    streaming = frozenset[str]()
    limit_bytes, streamed_bytes = _LIMIT_BYTES, 0

    def __init__(self, queues: Queues) -> None:
        self._queues = queues

    def allowed(self, version: Version) -> tuple[str, ...]:
        """See `Offer`."""
        return version.spec.permissions.queues

    async def answer(self, asking: Asking) -> Any:
        """See `Offer`."""
        namespace, name = asking.version.namespace, asking.name
        if asking.verb == "send":
            messages = _outgoing(asking, "queue")
            return SentMessages(sent=await self._queues.send(namespace, name, messages))
        if asking.verb == "receive":
            asked = asking.read(Receive)
            found = await self._queues.receive(
                namespace, name, asked.max, wait_s=asked.wait_s, visibility_s=asked.visibility_s, left=asking.left
            )
            return {"messages": [shown(message) for message in found]}
        if asking.verb == "acknowledge":
            return await self._settle(asking, asking.read(Acknowledge).receipts, None)
        extend = asking.read(Extend)
        return await self._settle(asking, extend.receipts, extend.visibility_s)

    async def _settle(self, asking: Asking, receipts: list[str], hold_s: float | None) -> SettledMessages:
        settlings = [Settling(receipt=receipt, hold_s=hold_s) for receipt in receipts]
        settled = await self._queues.settle(asking.version.namespace, asking.name, settlings)
        return SettledMessages(
            done=sum(receipt not in settled.refused for receipt in receipts), refused=settled.refused
        )


class TopicOffer:
    """Implements `services.offers.Offer`."""

    verbs = frozenset({"publish"})
    streaming = frozenset[str]()
    limit_bytes, streamed_bytes = _LIMIT_BYTES, 0

    def __init__(self, topics: Topics) -> None:
        self._topics = topics

    def allowed(self, version: Version) -> tuple[str, ...]:
        """See `Offer`."""
        return version.spec.permissions.topics

    async def answer(self, asking: Asking) -> Any:
        """See `Offer`."""
        return await self._topics.publish(asking.version.namespace, asking.name, _outgoing(asking, "topic"))


def _outgoing(asking: Asking, kind: str) -> list[Outgoing]:
    """What is sent follows from the invocation that sends it. LoopDetected."""
    asking.check_hops()
    now_s = clock.wall_s()
    source = f"/{asking.version.namespace}/function/{asking.version.function}"
    found = []
    for new in asking.read(NewMessages).messages:
        made = outgoing_of(new, source, ids.new_id(now_s), now_s)
        event = msgspec.structs.replace(made.event, hops=asking.hops + 1, trail=asking.trail)
        found.append(msgspec.structs.replace(made, event=event))
    return found
