"""Redis: entries of streams by consumer groups, elements of lists by a list of what is being worked on.

https://redis.io/docs/latest/commands/xreadgroup/ and /blmove/ ("Pattern: Reliable queue").
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

import msgspec
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from fuyun.base import clock, ids
from fuyun.domain.brokers import message_event
from fuyun.domain.errors import Unavailable
from fuyun.domain.triggerchecks import moment_s
from fuyun.domain.triggers import RedisTrigger
from fuyun.ports.brokers import Consumer, Received, Settlement, Source

#: Seconds a reply may take beyond what its command waits for.
_REPLY_S: Final = 10.0
#: A consumer of a shared group that was silent for so long is taken to be dead: its entries go to others.
_DEAD_S: Final = 60.0
#: Elements of a list that are asked for at once.
_MOST_MOVES: Final = 100
_ENDS: Final = {"left": "LEFT", "right": "RIGHT"}
_LAST_SEQUENCE: Final = 2**64 - 1

_Fields: TypeAlias = dict[bytes, bytes]


class RedisBroker:
    """Implements `ports.brokers.Broker`."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], str] = {}  # (source, stream) -> id that was received last

    async def open(self, source: Source) -> Consumer:
        """See `Broker`."""
        trigger = _trigger(source)
        client = _client(source)
        try:
            with _told(source):
                if trigger.list:
                    found = _ListConsumer(client, source)
                    await found.begin()
                    return found
                await self._make_group(client, source)
                return _StreamConsumer(client, source, self._last)
        except BaseException:
            await client.aclose()
            raise

    async def forget(self, source: Source) -> None:
        """See `Broker`."""
        trigger = _trigger(source)
        client = _client(source)
        try:
            with _told(source):
                if trigger.list:
                    end = _ENDS[trigger.pop]
                    while await client.lmove(_taken(source), trigger.list, "RIGHT", end) is not None:
                        pass
                elif not trigger.group:
                    await client.xgroup_destroy(trigger.stream, source.name)
        except Unavailable as error:
            if "no such key" not in error.detail and "requires the key to exist" not in error.detail:
                raise
        finally:
            await client.aclose()
        self._last.pop((source.name, trigger.stream), None)

    async def _make_group(self, client: Redis, source: Source) -> None:
        trigger = _trigger(source)
        begin = _begin(source.start)
        if (last := self._last.get((source.name, trigger.stream))) is not None:
            # The group was there before: Redis lost it, and the stream perhaps with it.
            begin = last if await _reaches(client, trigger.stream, last) else "0"
        try:
            await client.xgroup_create(trigger.stream, _group(source), begin, mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise


class _StreamConsumer:
    """Implements `ports.brokers.Consumer` on a stream."""

    def __init__(self, client: Redis, source: Source, last: dict[tuple[str, str], str]) -> None:
        self._client = client
        self._source = source
        self._trigger = _trigger(source)
        self._last = last
        self._names = (self._trigger.stream, _group(source), source.name)
        self._own: str | None = "0"  # entries of ours that were not settled, up to where they are read
        self._shared = bool(self._trigger.group)
        self._look_s = 0.0  # when to look for entries of the dead
        self.keep_s = _DEAD_S / 3 if self._shared else math.inf

    async def receive(self, most: int, wait_s: float) -> list[Received]:
        """See `Consumer`."""
        stream, group, consumer = self._names
        with _told(self._source):
            while self._own is not None:
                found = await self._client.xreadgroup(group, consumer, {stream: self._own}, count=most)
                entries = _entries(found)
                self._own = entries[-1][0] if entries else None
                if received := await self._received(entries, True):
                    return received
            if self._shared and clock.mono_s() >= self._look_s and (received := await self._of_the_dead(most)):
                return received
            longest_s = min(wait_s, max(0.1, self._look_s - clock.mono_s())) if self._shared else wait_s
            found = await self._client.xreadgroup(
                group, consumer, {stream: ">"}, count=most, block=max(1, int(longest_s * 1000))
            )
            entries = _entries(found)
            if entries:
                self._last[self._source.name, stream] = entries[-1][0]
            return await self._received(entries, False)

    async def _of_the_dead(self, most: int) -> list[Received]:
        stream, group, consumer = self._names
        found = await self._client.xautoclaim(stream, group, consumer, int(_DEAD_S * 1000), "0-0", count=most)
        entries = [(id_.decode(), fields) for id_, fields in found[1]]
        if len(entries) < most:
            self._look_s = clock.mono_s() + _DEAD_S / 2
        return await self._received(entries, True)

    async def _received(self, entries: Sequence[tuple[str, _Fields | None]], again: bool) -> list[Received]:
        """What can be handed over. An entry that was removed from its stream meanwhile is not there any more."""
        if gone := [id_ for id_, fields in entries if not fields]:
            await self._client.xack(*self._names[:2], *gone)
        return [self._made(id_, fields, again) for id_, fields in entries if fields]

    def _made(self, id_: str, fields: _Fields, again: bool) -> Received:
        name = self._trigger.field.encode()
        rest: dict[str, str] = {}
        if name and name in fields:
            body = fields[name]
            rest = {_text(key): _text(value) for key, value in fields.items() if key != name}
        else:
            body = msgspec.json.encode({_text(key): _value(value) for key, value in fields.items()})
        event = message_event(
            id=id_, source=f"{self._source.address.shown.rstrip('/')}/{self._trigger.stream}", type="redis.entry",
            subject=self._trigger.stream, time_s=int(id_.partition("-")[0]) / 1000, body=body,
            properties={"sequence": id_, **rest},
        )  # fmt: skip
        return Received(receipt=id_, event=event, sequence=id_, lasting=True, again=again)

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        """See `Consumer`."""
        if settlements:
            with _told(self._source):
                await self._client.xack(*self._names[:2], *(one.receipt for one in settlements))

    async def keep(self, receipts: Sequence[Any]) -> None:
        """See `Consumer`."""
        if receipts:
            with _told(self._source):
                await self._client.xclaim(*self._names, 0, list(receipts), justid=True)

    async def lag(self) -> int | None:
        """See `Consumer`. Redis tells since version 7, and not while entries were removed from the middle."""
        with _told(self._source):
            try:
                groups = await self._client.xinfo_groups(self._names[0])
            except ResponseError:  # it may be forbidden
                return None
        for group in groups:
            if group["name"] == self._names[1].encode():
                lag = group.get("lag")
                return lag if isinstance(lag, int) else None
        return None

    async def close(self) -> None:
        """See `Consumer`: entries that were not settled stay this consumer's."""
        await self._client.aclose()


class _ListConsumer:
    """Implements `ports.brokers.Consumer` on a list. What it takes moves to a list of its own at once."""

    keep_s = math.inf

    def __init__(self, client: Redis, source: Source) -> None:
        self._client = client
        self._source = source
        self._trigger = _trigger(source)
        self._move = (self._trigger.list, _taken(source), _ENDS[self._trigger.pop], "RIGHT")
        self._before: list[bytes] = []  # taken before, and not settled

    async def begin(self) -> None:
        """Find what was taken and not settled."""
        self._before = _values(await self._client.lrange(self._move[1], 0, -1))

    async def receive(self, most: int, wait_s: float) -> list[Received]:
        """See `Consumer`."""
        if self._before:
            found, self._before = self._before[:most], self._before[most:]
            return [self._made(value, True) for value in found]
        source, taken, end, other = self._move
        with _told(self._source):
            first = await self._client.blmove(source, taken, max(0.1, wait_s), end, other)  # type: ignore[arg-type]
            if first is None:
                return []
            more: list[Any] = []
            if most > 1:
                pipeline = self._client.pipeline(transaction=False)
                for _ in range(min(most - 1, _MOST_MOVES)):
                    pipeline.lmove(*self._move)
                more = await pipeline.execute()
        return [self._made(value, False) for value in _values((first, *more))]

    def _made(self, value: bytes, again: bool) -> Received:
        id_ = ids.new_id()
        event = message_event(
            id=id_, source=f"{self._source.address.shown.rstrip('/')}/{self._trigger.list}", type="redis.element",
            subject=self._trigger.list, time_s=clock.wall_s(), body=value,
        )  # fmt: skip
        return Received(receipt=value, event=event, sequence=id_, again=again)

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        """See `Consumer`. Of elements that are equal any may go."""
        with _told(self._source):
            pipeline = self._client.pipeline(transaction=True)
            for one in settlements:
                pipeline.lrem(self._move[1], 1, one.receipt)
            await pipeline.execute()

    async def keep(self, receipts: Sequence[Any]) -> None:
        """See `Consumer`: nobody else looks into the list of what was taken."""

    async def lag(self) -> int | None:
        """See `Consumer`."""
        with _told(self._source):
            found: int = await self._client.llen(self._trigger.list)
        return found + len(self._before)

    async def close(self) -> None:
        """See `Consumer`: elements that were not settled are found at the next opening."""
        await self._client.aclose()


def _trigger(source: Source) -> RedisTrigger:
    assert isinstance(source.trigger, RedisTrigger)
    return source.trigger


def _group(source: Source) -> str:
    return _trigger(source).group or source.name


def _taken(source: Source) -> str:
    """The list of what was taken, in the same slot of a cluster as the list it was taken from."""
    name = _trigger(source).list
    return f"{name if '{' in name else '{' + name + '}'}:{source.name}"


def _client(source: Source) -> Redis:
    address = source.address
    return Redis(
        host=address.bare_host, port=address.port, db=int(address.path.strip("/") or 0),
        username=unquote(address.user) or None, password=source.password or unquote(address.password) or None,
        ssl=address.secure, ssl_ca_data=source.authorities or None, socket_timeout=20.0 + _REPLY_S,
        socket_connect_timeout=_REPLY_S, retry=Retry(NoBackoff(), 0), client_name=source.name, protocol=2,
    )  # fmt: skip


@contextmanager
def _told(source: Source) -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as exc:
        raise Unavailable(f"{source.address.shown}: {str(exc) or type(exc).__name__}") from exc


def _entries(found: Any) -> list[tuple[str, _Fields | None]]:
    return [(id_.decode(), fields) for _, entries in found or () for id_, fields in entries]


def _values(found: Sequence[Any]) -> list[bytes]:
    return [value for value in found if isinstance(value, bytes)]


def _begin(start: str) -> str:
    """The id after which a new group begins."""
    if start == "end":
        return "$"
    if start == "start":
        return "0"
    kind, _, rest = start.partition(":")
    at = rest if kind == "id" else str(int(moment_s(start) * 1000))
    ms, _, number = at.partition("-")
    if int(number or 0):
        return f"{ms}-{int(number) - 1}"
    return f"{int(ms) - 1}-{_LAST_SEQUENCE}" if int(ms) else "0"


async def _reaches(client: Redis, stream: str, id_: str) -> bool:
    """Whether the stream has ever come as far as `id_`."""
    try:
        told = await client.xinfo_stream(stream)
    except ResponseError:
        return False
    newest = told["last-generated-id"]
    return _place(newest.decode() if isinstance(newest, bytes) else str(newest)) >= _place(id_)


def _place(id_: str) -> tuple[int, int]:
    ms, _, number = id_.partition("-")
    return int(ms), int(number or 0)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


def _value(value: bytes) -> Any:
    """A field's value in JSON: its text, or {"base64": ...} for bytes that are none."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": value}  # as which msgspec writes bytes
