"""MQTT: messages of topics, over a session that the broker keeps while nobody is connected.

https://docs.oasis-open.org/mqtt/mqtt/v5.0/ sections 3.1.2.11.2 (session expiry), 4.4 (delivery again), 4.6 (order).

Everything is subscribed to at QoS 1, also for publishers of QoS 2: of that, the receiver's half would have to be on the
disk here before it is answered, and an event is delivered at least once anyway.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from aiomqtt import Client, Message, MqttError, ProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from fuyun.base import clock, ids
from fuyun.base.tasks import Scope
from fuyun.domain.brokers import message_event
from fuyun.domain.errors import Unavailable
from fuyun.domain.triggers import MqttTrigger
from fuyun.drivers.brokers.authorities import context_of
from fuyun.drivers.brokers.inbox import Inbox
from fuyun.ports.brokers import Consumer, Received, Settlement, Source

#: Seconds that an answer may take, and of silence until a sign of life is asked for.
_ANSWER_S: Final = 10.0
_KEEPALIVE_S: Final = 30
#: Codes of SUBACK from here on are refusals (MQTT 5.0, section 3.9.3).
_REFUSED: Final = 0x80
_MOST_UNANSWERED: Final = 65535


class MqttBroker:
    """Implements `ports.brokers.Broker`."""

    async def open(self, source: Source) -> Consumer:
        """See `Broker`."""
        found = _SessionConsumer(source)
        with _told(source):
            await found.begin()
        return found

    async def forget(self, source: Source) -> None:
        """See `Broker`: a new session in place of the old one, which ends at once."""
        with _told(source):
            async with _client(source, anew=True):
                pass


@dataclass(slots=True)
class _Unsettled:
    """A message whose sender waits for an acknowledgement."""

    mid: int
    qos: int
    done: bool = False


class _SessionConsumer:
    """Implements `ports.brokers.Consumer`. Acknowledgements go out in the order in which the messages came (MQTT 5.0,
    section 4.6)."""

    keep_s = math.inf

    def __init__(self, source: Source) -> None:
        self._source = source
        self._client = _client(source)
        self._inbox = Inbox()
        self._unsettled: deque[_Unsettled] = deque()
        self._scope = Scope("mqtt", self._broken)
        self._entered = False

    async def begin(self) -> None:
        """Connect, go on with the session, and subscribe in case it is new."""
        trigger = _trigger(self._source)
        await self._client.__aenter__()
        self._entered = True
        self._scope.start(self._listen(), "listen")
        try:
            for topic in trigger.topics:
                if trigger.version == "5":
                    # 1: what is retained comes once, with the first subscription (section 3.8.3.1).
                    codes = await self._client.subscribe(topic, options=SubscribeOptions(qos=1, retainHandling=1))
                else:
                    codes = await self._client.subscribe(topic, qos=1)
                for code in codes:
                    value = getattr(code, "value", code)
                    if value >= _REFUSED or value == 0:
                        raise Unavailable(
                            f"{self._source.address.shown}: the broker does not grant a subscription of {topic!r} at "
                            f"QoS 1: {code}",
                            hint="allow it there, or correct the topic",
                        )
        except BaseException:
            await self.close()
            raise

    async def _listen(self) -> None:
        try:
            async for message in self._client.messages:
                self._inbox.put(self._made(message))
        except MqttError as error:
            self._broken(error)

    def _broken(self, error: BaseException) -> None:
        self._inbox.fail(Unavailable(f"{self._source.address.shown}: {error}"))

    def _made(self, message: Message) -> Received:
        receipt = _Unsettled(message.mid, message.qos)
        if message.qos:
            self._unsettled.append(receipt)
        topic = message.topic.value
        body = bytes(message.payload)
        told, media = _properties(message)
        id_ = ids.new_id()
        event = message_event(
            id=id_, source=self._source.address.shown.rstrip("/"), type="mqtt.message", subject=topic,
            time_s=clock.wall_s(), body=body, content_type=media, properties=told,
        )  # fmt: skip
        return Received(receipt=receipt, event=event, sequence=id_, key=topic)

    async def receive(self, most: int, wait_s: float) -> list[Received]:
        """See `Consumer`."""
        return await self._inbox.take(most, wait_s)

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        """See `Consumer`."""
        self._inbox.check()
        for one in settlements:
            one.receipt.done = True
        with _told(self._source):
            while self._unsettled and self._unsettled[0].done:
                first = self._unsettled.popleft()
                self._client._client.ack(first.mid, first.qos)

    async def keep(self, receipts: Sequence[Any]) -> None:
        """See `Consumer`: they are this session's."""

    async def lag(self) -> int | None:
        """See `Consumer`: a broker does not tell."""
        self._inbox.check()
        return None

    async def close(self) -> None:
        """See `Consumer`: the session stays, and has what was not settled."""
        await self._scope.close()
        if self._entered:
            self._entered = False
            with suppress(MqttError, OSError):
                await self._client.__aexit__(None, None, None)


def _client(source: Source, anew: bool = False) -> Client:
    trigger, address = _trigger(source), source.address
    options: dict[str, Any] = {"protocol": ProtocolVersion.V311, "clean_session": anew}
    if trigger.version == "5":
        wanted = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        wanted.SessionExpiryInterval = 0 if anew else int(trigger.session_s)
        wanted.ReceiveMaximum = max(1, min(source.most, _MOST_UNANSWERED))
        options = {"protocol": ProtocolVersion.V5, "clean_start": anew, "properties": wanted}
    client = Client(
        address.bare_host, address.port, username=unquote(address.user) or None,
        password=source.password or unquote(address.password) or None, identifier=_identifier(source),
        tls_context=context_of(source), keepalive=_KEEPALIVE_S, timeout=_ANSWER_S, **options,
    )  # fmt: skip
    client._client.manual_ack_set(True)  # paho's, which aiomqtt stands on: a message is acknowledged by `settle` alone
    return client


def _identifier(source: Source) -> str:
    """23 characters, which every server allows (MQTT 3.1.1, section 3.1.3.1). Other topics are another session: the
    subscriptions of the old one would go on in it."""
    text = "\n".join((source.name, *sorted(_trigger(source).topics)))
    return f"fuyun{hashlib.sha256(text.encode()).hexdigest()[:18]}"


def _properties(message: Message) -> tuple[Mapping[str, str], str]:
    """What a message says of itself, and its content type."""
    told = {"qos": str(message.qos), "retain": "true" if message.retain else "false"}
    found = message.properties
    for name in ("ResponseTopic", "CorrelationData"):
        value = getattr(found, name, None)
        if value is not None:
            told[name] = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    for name, value in getattr(found, "UserProperty", None) or ():
        told.setdefault(str(name), str(value))
    return told, str(getattr(found, "ContentType", "") or "")


def _trigger(source: Source) -> MqttTrigger:
    assert isinstance(source.trigger, MqttTrigger)
    return source.trigger


@contextmanager
def _told(source: Source) -> Iterator[None]:
    try:
        yield
    except (MqttError, OSError) as exc:
        raise Unavailable(f"{source.address.shown}: {str(exc) or type(exc).__name__}") from exc
