"""Queues and topics, as the client sees them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import msgspec

from fuyun.client.calling import Caller
from fuyun.client.http import ANSWER_S, Request, path_of
from fuyun.domain.endpoints import EndpointSpec, EndpointView
from fuyun.domain.functions import Wire
from fuyun.domain.queues import NewMessage, Queue, QueueSpec, Sent, Statistics
from fuyun.domain.topics import Published, Subscription, SubscriptionSpec, Topic


class Delivered(Wire, frozen=True, kw_only=True):
    """A message that was taken out, or looked at. `event` is a CloudEvent in its JSON format."""

    event: dict[str, Any]
    receipt: str
    group: str
    sent_s: float
    receives: int
    origin: str
    lease_until_s: float

    @property
    def body(self) -> bytes:
        """What was sent: JSON as text, or the bytes."""
        if "data_base64" in self.event:
            return base64.b64decode(self.event["data_base64"])
        return msgspec.json.encode(self.event["data"]) if "data" in self.event else b""


class Messaging(Caller):
    """The part of `Platform` that moves messages. All methods are about the client's namespace."""

    def list_queues(self) -> list[Queue]:
        """By name."""
        return self._all(self._queues(), Queue)

    def put_queue(self, name: str, spec: QueueSpec, *, create: bool = False) -> Queue:
        """Create a queue or change its settings; with `create` PreconditionFailed when it is there. QuotaExceeded."""
        headers = {"If-None-Match": "*"} if create else {}
        return self._one(self._send("PUT", self._queues(name), msgspec.to_builtins(spec), headers=headers), Queue)

    def get_queue(self, name: str) -> tuple[Queue, Statistics]:
        """The queue and what its messages wait for. NotFound."""
        found = self._dict(self._send("GET", self._queues(name)))
        return self._convert(found["queue"], Queue), self._convert(found["statistics"], Statistics)

    def delete_queue(self, name: str) -> None:
        """With its messages. Conflict while something names it."""
        self._send("DELETE", self._queues(name))

    def send_messages(self, name: str, messages: Sequence[NewMessage]) -> list[Sent]:
        """Send, all or none. PayloadTooLarge, QuotaExceeded."""
        found = self._dict(self._send("POST", self._queues(name, "messages"), {"messages": messages}))
        return [self._convert(item, Sent) for item in found["sent"]]

    def receive_messages(
        self, name: str, most: int = 1, *, wait_s: float = 0.0, visibility_s: float | None = None
    ) -> list[Delivered]:
        """Take messages out, waiting `wait_s` for the first."""
        body = msgspec.json.encode({"max": most, "wait_s": wait_s, "visibility_s": visibility_s})
        request = Request("POST", self._queues(name, "receive"), body, answer_s=ANSWER_S + wait_s)
        return self._delivered(self._dict(self._http.send(request)))

    def peek_messages(self, name: str, limit: int = 10) -> list[Delivered]:
        """The oldest messages, which stay where they are."""
        path = self._queues(name, "messages")
        return self._delivered(self._dict(self._send("GET", path, query={"limit": str(limit)})))

    def acknowledge(self, name: str, receipts: Sequence[str]) -> dict[str, str]:
        """Messages are done. Receipt -> why not, for those that are not."""
        return self._refused(self._send("POST", self._queues(name, "acknowledge"), {"receipts": receipts}))

    def extend(self, name: str, receipts: Sequence[str], visibility_s: float) -> dict[str, str]:
        """Keep messages so long from now, or (0) return them. Receipt -> why not, for those that are not."""
        body = {"receipts": receipts, "visibility_s": visibility_s}
        return self._refused(self._send("POST", self._queues(name, "extend"), body))

    def purge_queue(self, name: str) -> int:
        """Remove all messages; how many."""
        return int(self._dict(self._send("DELETE", self._queues(name, "messages")))["count"])

    def redrive_queue(self, name: str, to: str = "") -> int:
        """Move messages to the queue `to`, or ("") back to those they were given up in; how many."""
        return int(self._dict(self._send("POST", self._queues(name, "redrive"), {"to": to}))["count"])

    def list_topics(self) -> list[Topic]:
        """By name."""
        return self._all(self._topics(), Topic)

    def put_topic(self, name: str, description: str = "") -> Topic:
        """Create a topic, or change its description. QuotaExceeded."""
        return self._one(self._send("PUT", self._topics(name), {"description": description}), Topic)

    def delete_topic(self, name: str) -> None:
        """With its subscriptions."""
        self._send("DELETE", self._topics(name))

    def publish_messages(self, name: str, messages: Sequence[NewMessage]) -> Published:
        """Hand messages on to every subscription. PayloadTooLarge, QuotaExceeded."""
        return self._one(self._send("POST", self._topics(name, "publish"), {"messages": messages}), Published)

    def list_subscriptions(self, topic: str) -> list[Subscription]:
        """By name. NotFound when the topic is absent."""
        return self._all(self._topics(topic, "subscriptions"), Subscription)

    def subscribe(self, topic: str, name: str, spec: SubscriptionSpec) -> Subscription:
        """Subscribe a target, or replace the subscription of that name."""
        path = self._topics(topic, "subscriptions", name)
        return self._one(self._send("PUT", path, msgspec.to_builtins(spec)), Subscription)

    def unsubscribe(self, topic: str, name: str) -> None:
        """NotFound when absent."""
        self._send("DELETE", self._topics(topic, "subscriptions", name))

    def _queues(self, *parts: str) -> str:
        return path_of("namespaces", self.namespace, "queues", *parts)

    def list_endpoints(self) -> list[EndpointView]:
        """By name."""
        return self._all(self._endpoints(), EndpointView)

    def put_endpoint(self, name: str, spec: EndpointSpec) -> EndpointView:
        """Create an endpoint, or change it; the secret of a new one is told this once. BadRequest, QuotaExceeded."""
        return self._one(self._send("PUT", self._endpoints(name), msgspec.to_builtins(spec)), EndpointView)

    def confirm_endpoint(self, name: str) -> EndpointView:
        """Have it asked again whether it wants events. NotFound."""
        return self._one(self._send("POST", self._endpoints(name, "confirm")), EndpointView)

    def rotate_endpoint(self, name: str) -> EndpointView:
        """Give it another secret, told this once. NotFound."""
        return self._one(self._send("POST", self._endpoints(name, "rotate")), EndpointView)

    def delete_endpoint(self, name: str) -> None:
        """NotFound."""
        self._send("DELETE", self._endpoints(name))

    def _endpoints(self, *parts: str) -> str:
        return path_of("namespaces", self.namespace, "endpoints", *parts)

    def _topics(self, *parts: str) -> str:
        return path_of("namespaces", self.namespace, "topics", *parts)

    def _refused(self, answer: Any) -> dict[str, str]:
        return {str(receipt): str(why) for receipt, why in self._dict(answer)["refused"].items()}

    def _delivered(self, found: dict[str, Any]) -> list[Delivered]:
        return [self._convert(item, Delivered) for item in found["messages"]]
