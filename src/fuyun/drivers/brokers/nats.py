"""NATS JetStream: messages of a stream, by a durable pull consumer.

https://docs.nats.io/nats-concepts/jetstream/consumers
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import unquote

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo, DeliverPolicy
from nats.js.errors import NotFoundError

from fuyun.base import clock
from fuyun.base.tasks import Scope
from fuyun.domain.brokers import message_event
from fuyun.domain.errors import Unavailable
from fuyun.domain.triggerchecks import moment_s
from fuyun.domain.triggers import NatsTrigger
from fuyun.drivers.brokers.authorities import context_of
from fuyun.ports.brokers import Consumer, Received, Settlement, Source

#: Seconds that connecting, or an answer, may take; between two signs of life.
_ANSWER_S: Final = 10
_PING_S: Final = 10
#: Seconds beyond the wait for an acknowledgement until what was given out is taken to have come again.
_GRACE_S: Final = 2.0


class NatsBroker:
    """Implements `ports.brokers.Broker`."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}  # source -> the highest number that was received

    async def open(self, source: Source) -> Consumer:
        """See `Broker`."""
        trigger = _trigger(source)
        with _told(source):
            closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            client = await _connected(source, closed)
            try:
                stream = client.jetstream(timeout=_ANSWER_S)
                info = await _consumer(stream, source)
                name = trigger.consumer or source.name
                pulling = await stream.pull_subscribe_bind(name, trigger.stream)
                return _StreamConsumer(client, stream, pulling, info, source, closed, self._last)
            except BaseException:
                await _ended(client)
                raise

    async def forget(self, source: Source) -> None:
        """See `Broker`."""
        trigger = _trigger(source)
        self._last.pop(source.name, None)
        if trigger.consumer:
            return
        with _told(source):
            client = await _connected(source, asyncio.get_running_loop().create_future())
            try:
                await client.jetstream(timeout=_ANSWER_S).delete_consumer(trigger.stream, source.name)
            except NotFoundError:
                pass
            finally:
                await _ended(client)


class _StreamConsumer:
    """Implements `ports.brokers.Consumer`."""

    def __init__(
        self, client: Client, stream: JetStreamContext, pulling: JetStreamContext.PullSubscription, info: ConsumerInfo,
        source: Source, closed: asyncio.Future[None], last: dict[str, int],
    ) -> None:  # fmt: skip
        self._client = client
        self._stream = stream
        self._pulling = pulling
        self._source = source
        self._trigger = _trigger(source)
        self._closed = closed
        self._last = last
        self._held: dict[str, Msg] = {}  # by reply
        wait_s = info.config.ack_wait or self._trigger.ack_wait_s
        self.keep_s = wait_s / 3
        # What was given out and not settled is to come first, also when its wait is not over yet.
        self._missing = 0 if self._trigger.consumer else info.num_ack_pending or 0
        self._patience_s = clock.mono_s() + wait_s + _GRACE_S
        self._early: list[Received] = []

    async def receive(self, most: int, wait_s: float) -> list[Received]:
        """See `Consumer`."""
        if self._missing and clock.mono_s() < self._patience_s:
            if len(self._early) >= most:
                await asyncio.sleep(min(wait_s, 0.2))  # there is no room but for what comes again
                return []
            found = await self._fetch(1, min(wait_s, max(0.1, self._patience_s - clock.mono_s())))
            again = [one for one in found if one.again]
            self._early += [one for one in found if not one.again]
            self._missing -= len(again)
            return again
        self._missing = 0
        if self._early:
            found, self._early = self._early[:most], self._early[most:]
            return found
        return await self._fetch(most, wait_s)

    async def _fetch(self, most: int, wait_s: float) -> list[Received]:
        """What the server gives. Ends with the connection."""
        with _told(self._source):
            self._check()
            async with Scope("nats-fetch", lambda error: None) as scope:
                fetching = scope.start(self._pulling.fetch(most, timeout=wait_s), "fetch")
                ends: set[asyncio.Future[Any]] = {fetching, self._closed}
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                if not fetching.done():
                    self._check()
                try:
                    messages: list[Msg] = fetching.result()
                except (NatsTimeoutError, TimeoutError):  # the one or the other, by when the wait ends
                    self._check()
                    return []
        return [self._made(message) for message in messages]

    def _made(self, message: Msg) -> Received:
        self._held[message.reply] = message
        meta = message.metadata
        number = meta.sequence.stream
        time_s = meta.timestamp.timestamp()
        again = (meta.num_delivered or 1) > 1 or number <= self._last.get(self._source.name, 0)
        self._last[self._source.name] = max(number, self._last.get(self._source.name, 0))
        event = message_event(
            id=str(number), source=f"{self._source.address.shown.rstrip('/')}/{self._trigger.stream}",
            type="nats.message", subject=message.subject, time_s=time_s, body=message.data,
            properties={"sequence": str(number), **(message.headers or {})},
        )  # fmt: skip
        return Received(
            receipt=message, event=event, sequence=f"{number}.{int(time_s * 1e6)}", key=message.subject, lasting=True,
            again=again,
        )  # fmt: skip

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        """See `Consumer`. What was refused is terminated, which JetStream tells in an advisory."""
        with _told(self._source):
            self._check()
            for one in settlements:
                message: Msg = one.receipt
                self._held.pop(message.reply, None)
                if not message.is_acked:
                    await (message.term() if one.refused else message.ack())
            await self._client.flush(_ANSWER_S)

    async def keep(self, receipts: Sequence[Any]) -> None:
        """See `Consumer`."""
        with _told(self._source):
            self._check()
            for message in [*receipts, *(one.receipt for one in self._early)]:
                await message.in_progress()

    async def lag(self) -> int | None:
        """See `Consumer`."""
        with _told(self._source):
            self._check()
            name = self._trigger.consumer or self._source.name
            info = await self._stream.consumer_info(self._trigger.stream, name)
        return (info.num_pending or 0) + len(self._early)

    async def close(self) -> None:
        """See `Consumer`."""
        with suppress(Error, OSError, asyncio.TimeoutError):
            if not self._client.is_closed:
                if self._pulling.pending_msgs:
                    for message in await self._pulling.fetch(self._pulling.pending_msgs, timeout=1):
                        self._held[message.reply] = message
                for message in sorted(self._held.values(), key=lambda message: message.metadata.sequence.stream):
                    if not message.is_acked:
                        await message.nak()
                await self._client.flush(_ANSWER_S)
        await _ended(self._client)

    def _check(self) -> None:
        if self._client.is_closed:
            raise Unavailable(f"{self._source.address.shown}: the connection was closed")


async def _consumer(stream: JetStreamContext, source: Source) -> ConsumerInfo:
    """The durable consumer, made when it is the trigger's own and not there yet."""
    trigger = _trigger(source)
    if trigger.consumer:
        shared: ConsumerInfo = await stream.consumer_info(trigger.stream, trigger.consumer)
        return shared
    wanted: dict[str, Any] = {"ack_wait": trigger.ack_wait_s, "max_ack_pending": source.most}
    try:
        info: ConsumerInfo = await stream.consumer_info(trigger.stream, source.name)
    except NotFoundError:
        await stream.stream_info(trigger.stream)  # which says so, when it is the stream that is not there
        config = ConsumerConfig(
            durable_name=source.name, ack_policy=AckPolicy.EXPLICIT, filter_subject=trigger.subject or None,
            **wanted, **_begin(source.start),
        )  # fmt: skip
        made: ConsumerInfo = await stream.add_consumer(trigger.stream, config)
        return made
    if any(getattr(info.config, name) != value for name, value in wanted.items()):
        changed: ConsumerInfo = await stream.add_consumer(trigger.stream, info.config.evolve(**wanted))
        changed.num_ack_pending = info.num_ack_pending
        return changed
    return info


def _begin(start: str) -> dict[str, Any]:
    if start == "end":
        return {"deliver_policy": DeliverPolicy.NEW}
    if start == "start":
        return {"deliver_policy": DeliverPolicy.ALL}
    kind, _, rest = start.partition(":")
    if kind == "sequence":
        return {"deliver_policy": DeliverPolicy.BY_START_SEQUENCE, "opt_start_seq": int(rest)}
    at = datetime.fromtimestamp(moment_s(start), UTC)
    return {"deliver_policy": DeliverPolicy.BY_START_TIME, "opt_start_time": at}


async def _connected(source: Source, closed: asyncio.Future[None]) -> Client:
    address = source.address
    secret = source.password or unquote(address.password)
    who: dict[str, Any] = {}
    if address.user:
        who = {"user": unquote(address.user), "password": secret}
    elif secret:
        who = {"token": secret}

    async def on_close() -> None:
        if not closed.done():
            closed.set_result(None)

    heard: list[Exception] = []

    async def on_error(error: Exception) -> None:
        heard.append(error)  # `NoServersError` does not say why there is none

    try:
        return await nats.connect(
            f"{'tls' if address.secure else 'nats'}://{address.host}:{address.port}", tls=context_of(source),
            name=source.name, allow_reconnect=False, max_reconnect_attempts=1,
            reconnect_time_wait=0, connect_timeout=_ANSWER_S, ping_interval=_PING_S,
            max_outstanding_pings=2, closed_cb=on_close, error_cb=on_error, **who,
        )  # fmt: skip
    except (TimeoutError, OSError, Error) as exc:
        why = heard[-1] if heard else exc
        raise Unavailable(f"{address.shown}: {str(why) or type(why).__name__}") from exc


async def _ended(client: Client) -> None:
    with suppress(Error, OSError, asyncio.TimeoutError):
        await client.close()


def _trigger(source: Source) -> NatsTrigger:
    assert isinstance(source.trigger, NatsTrigger)
    return source.trigger


@contextmanager
def _told(source: Source) -> Iterator[None]:
    try:
        yield
    except NotFoundError as exc:
        thing = exc.description or "there is no such stream or consumer"
        raise Unavailable(f"{source.address.shown}: {thing}", hint="create it, or correct its name") from exc
    except (TimeoutError, Error, OSError) as exc:
        raise Unavailable(f"{source.address.shown}: {str(exc) or type(exc).__name__}") from exc
