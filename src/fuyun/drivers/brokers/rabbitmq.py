"""RabbitMQ: messages of a queue, acknowledged one by one.

https://www.rabbitmq.com/docs/confirms (consumer acknowledgements, prefetch, requeueing).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final
from urllib.parse import unquote

import aio_pika
import msgspec
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import AMQPError

from fuyun.base import clock, ids
from fuyun.domain.brokers import message_event
from fuyun.domain.errors import Unavailable
from fuyun.domain.triggers import RabbitmqTrigger
from fuyun.drivers.brokers.authorities import context_of
from fuyun.drivers.brokers.inbox import Inbox
from fuyun.ports.brokers import Consumer, Received, Settlement, Source

#: Seconds that connecting, or an answer, may take; of silence after which a connection is taken to be dead.
_ANSWER_S: Final = 15.0
_HEARTBEAT_S: Final = 30
#: What AMQP 0-9-1 allows as a prefetch count.
_MOST_PREFETCH: Final = 65535
_PROPERTIES: Final = (
    "correlation_id", "reply_to", "expiration", "message_id", "type", "user_id", "app_id", "priority",
    "content_encoding",
)  # fmt: skip


class RabbitmqBroker:
    """Implements `ports.brokers.Broker`."""

    async def open(self, source: Source) -> Consumer:
        """See `Broker`."""
        with _told(source):
            connection = await _connected(source)
            try:
                found = _QueueConsumer(connection, source)
                await found.begin()
                return found
            except BaseException:
                await _closed(connection)
                raise

    async def forget(self, source: Source) -> None:
        """See `Broker`: a connection that is gone left nothing there."""


class _QueueConsumer:
    """Implements `ports.brokers.Consumer`."""

    keep_s = math.inf

    def __init__(self, connection: AbstractConnection, source: Source) -> None:
        self._connection = connection
        self._source = source
        assert isinstance(source.trigger, RabbitmqTrigger)
        self._queue = source.trigger.queue
        self._inbox = Inbox()
        self._channel: AbstractChannel | None = None
        self._asking: AbstractChannel | None = None

    async def begin(self) -> None:
        """Have messages sent, as many as may be held."""
        self._connection.close_callbacks.add(self._on_close)
        self._channel = await self._connection.channel(publisher_confirms=False)
        self._channel.close_callbacks.add(self._on_close)
        await self._channel.set_qos(prefetch_count=min(self._source.most, _MOST_PREFETCH), timeout=_ANSWER_S)
        queue = await self._channel.declare_queue(self._queue, passive=True, timeout=_ANSWER_S)
        self._asking = await self._connection.channel(publisher_confirms=False)
        await queue.consume(self._on_message, consumer_tag=self._source.name, timeout=_ANSWER_S)

    def _on_close(self, _of: Any, error: BaseException | None) -> None:
        text = f"{self._source.address.shown}: {error or 'the connection was closed'}"
        self._inbox.fail(Unavailable(text))

    async def _on_message(self, message: AbstractIncomingMessage) -> None:
        self._inbox.put(self._made(message))

    def _made(self, message: AbstractIncomingMessage) -> Received:
        now_s = clock.wall_s()
        properties = {name: _text(getattr(message, name)) for name in _PROPERTIES if getattr(message, name) is not None}
        if "type" in properties:
            properties["amqptype"] = properties.pop("type")
        properties |= {name: _text(value) for name, value in message.headers.items() if value is not None}
        id_ = ids.new_id()
        event = message_event(
            id=(message.message_id or id_)[:256], source=f"{self._source.address.shown.rstrip('/')}/{self._queue}",
            type="rabbitmq.message", subject=message.routing_key or self._queue,
            time_s=message.timestamp.timestamp() if message.timestamp is not None else now_s, body=message.body,
            content_type=message.content_type or "",
            properties={"exchange": message.exchange or "", **properties},
        )  # fmt: skip
        return Received(receipt=message, event=event, sequence=id_, again=bool(message.redelivered))

    async def receive(self, most: int, wait_s: float) -> list[Received]:
        """See `Consumer`."""
        return await self._inbox.take(most, wait_s)

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        """See `Consumer`. What was refused goes to the queue's dead-letter exchange, where it has one."""
        self._inbox.check()
        with _told(self._source):
            for one in settlements:
                message: AbstractIncomingMessage = one.receipt
                await (message.reject(requeue=False) if one.refused else message.ack())

    async def keep(self, receipts: Sequence[Any]) -> None:
        """See `Consumer`: they are this connection's as long as it lasts."""

    async def lag(self) -> int | None:
        """See `Consumer`. Also finds out when the queue was deleted."""
        self._inbox.check()
        assert self._asking is not None
        with _told(self._source):
            queue = await self._asking.declare_queue(self._queue, passive=True, timeout=_ANSWER_S)
        count = queue.declaration_result.message_count
        return None if count is None else count + len(self._inbox)

    async def close(self) -> None:
        """See `Consumer`: what was not settled goes back to its place in the queue."""
        self._connection.close_callbacks.discard(self._on_close)
        await _closed(self._connection)


async def _connected(source: Source) -> AbstractConnection:
    address = source.address
    host = unquote(address.path.removeprefix("/"))
    return await aio_pika.connect(
        host=address.bare_host, port=address.port, login=unquote(address.user) or "guest",
        password=source.password or unquote(address.password) or "guest", virtualhost=host or "/",
        ssl=address.secure, ssl_context=context_of(source), timeout=_ANSWER_S,
        client_properties={"connection_name": source.name}, heartbeat=_HEARTBEAT_S,
    )  # fmt: skip


async def _closed(connection: AbstractConnection) -> None:
    with suppress(AMQPError, OSError, RuntimeError):
        await connection.close()


@contextmanager
def _told(source: Source) -> Iterator[None]:
    try:
        yield
    except (AMQPError, OSError, asyncio.InvalidStateError) as exc:
        text = str(exc) or type(exc).__name__
        raise Unavailable(f"{source.address.shown}: {text}") from exc


def _text(value: Any) -> str:
    """A property as the text of an attribute."""
    if isinstance(value, str):
        return value
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "backslashreplace")
    return msgspec.json.encode(value, enc_hook=str).decode()
