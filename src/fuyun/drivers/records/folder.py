"""Records and log lines in segments on the local disk, written by one thread in batches.

Items are encoded where they are queued, a slice at a time: a thread that does it beside the event loop takes the
interpreter from it hundreds of times a second, which costs more than the encoding (decision 0008).
"""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self, TypeVar

import msgspec

from fuyun.base import ids
from fuyun.domain.invocations import Invocation, LogLine, Row
from fuyun.domain.names import check_name
from fuyun.drivers.disk import translate, translated
from fuyun.drivers.records import segments
from fuyun.drivers.records.segments import Appender, Kind
from fuyun.ports.records import LogPlace, LogSlice, RecordQuery

Item = Invocation | LogLine
Listener = Callable[[Sequence[Item]], None]
_Key = tuple[str, str, float, Kind]  # namespace, function, hours since the epoch, kind
_Batch = tuple[_Key, int, bytes, list[Item]]  # of one segment: how many, as lines, and for its listeners if it has any
T = TypeVar("T", Invocation, LogLine)
_Decode = Callable[[bytes, RecordQuery], tuple[T, float]]  # a line into an item and when it was done; DecodeError

_row = msgspec.json.Decoder(Row).decode
_line = msgspec.json.Decoder(LogLine).decode

#: Items that wait for the disk at most.
QUEUE_ITEMS = 100_000
#: Seconds between two batches; with a follower the shorter one.
FLUSH_S = 0.4
FOLLOW_S = 0.1
#: Items encoded at once: about 0.1 ms of work.
SLICE = 64
#: Bytes one function may hold before its oldest segments go.
BOUND_BYTES = 2**30
#: Completion times of neighbouring lines may be out of order by this much (batches of several threads, clock steps).
SKEW_S = 60.0


class FolderRecords:
    """`ports.records.RecordStore`: `<root>/<namespace>/<function>/` holds a function's segments."""

    def __init__(self, root: Path, bound_bytes: int = BOUND_BYTES, segment_bytes: int = segments.SEGMENT_BYTES) -> None:
        self._root = root
        self._bound_bytes = bound_bytes
        self._appender = Appender(root, bound_bytes, segment_bytes)
        self._queue: deque[Item] = deque()  # not encoded yet, fewer than a slice but for moments
        self._encoded: deque[_Batch] = deque()
        self._held = 0  # items in `_encoded`
        self._encoding = threading.Lock()  # guards both; whoever holds it only computes
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()
        self._listeners: dict[tuple[str, str], list[tuple[asyncio.AbstractEventLoop, Listener]]] = {}
        self._wake = threading.Event()
        self._stopping = False
        self.dropped = 0
        self.problem = ""  # why items were dropped last, for the operator; "" while all is well
        self._encoder = msgspec.json.Encoder()
        self._thread = threading.Thread(target=self._run, name="fuyun-records-writer", daemon=True)

    @classmethod
    def open(cls, root: Path, bound_bytes: int = BOUND_BYTES, segment_bytes: int = segments.SEGMENT_BYTES) -> Self:
        """Create the root where missing and start the writer. StorageFull when it cannot be written."""
        with translated(root):
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
        store = cls(root, bound_bytes, segment_bytes)
        store.start()
        return store

    def start(self) -> None:
        """Start the writer; once."""
        self._thread.start()

    def append_nowait(self, item: Item) -> None:
        """See `ports.records.RecordStore.append_nowait`."""
        self._queue.append(item)
        if len(self._queue) >= SLICE:
            self._encode_slice()

    def _encode_slice(self) -> None:
        """Encode the oldest of what is queued; beyond the bound the oldest encoded go."""
        with self._encoding:
            batch: dict[_Key, list[Item]] = defaultdict(list)
            for _ in range(min(SLICE, len(self._queue))):
                item = self._queue.popleft()
                kind: Kind = "invocations" if type(item) is Invocation else "logs"
                batch[(item.namespace, item.function, item.at_s // 3600, kind)].append(item)
            for key, items in batch.items():
                self._keep((key, len(items), self._encode(items), items if key[:2] in self._listeners else []))

    def append_rows(self, namespace: str, function: str, at_s: int, rows: list[Row]) -> None:
        """See `ports.records.RecordStore.append_rows`."""
        told: list[Item] = []
        if (namespace, function) in self._listeners:
            told += [row.record(namespace, function) for row in rows]
        key: _Key = (namespace, function, at_s // 3600, "invocations")
        with self._encoding:
            self._keep((key, len(rows), self._encoder.encode_lines(rows), told))

    def _keep(self, batch: _Batch) -> None:
        """Hold a batch for the writer; beyond the bound the oldest go."""
        self._encoded.append(batch)
        self._held += batch[1]
        while self._held - self._encoded[0][1] >= QUEUE_ITEMS:
            _, count, _, _ = self._encoded.popleft()
            self._held -= count
            self.dropped += count
            self.problem = self.problem or "records come faster than they can be written"

    # --- reading ---------------------------------------------------------------------------------------------------

    async def list_invocations(self, query: RecordQuery) -> list[Invocation]:
        """See `ports.records.RecordStore.list_invocations`."""
        await self._flush()
        return await asyncio.to_thread(self._select, query, "invocations", _record)

    async def list_logs(self, query: RecordQuery) -> list[LogLine]:
        """See `ports.records.RecordStore.list_logs`."""
        await self._flush()
        return await asyncio.to_thread(self._select, query, "logs", _log_line)

    async def read_logs(self, namespace: str, function: str, place: LogPlace | None, limit: int) -> LogSlice:
        """See `ports.records.RecordStore.read_logs`."""
        await self._flush()
        return await asyncio.to_thread(self._read_logs, str(self._folder(namespace, function)), place, limit)

    def _read_logs(self, folder: str, place: LogPlace | None, limit: int) -> LogSlice:
        lines: list[tuple[tuple[str, int], LogLine]] = []
        reached: LogPlace = {}
        with translated(self._root):
            for segment in segments.list_segments(folder, "logs"):
                name = f"{segment.hour}-{segment.part:06d}"
                if place is None:
                    reached[name] = Path(segment.path).stat().st_size
                    continue
                start = place.get(name, 0)
                found, end = segments.read_forwards(segment.path, start, limit - len(lines))
                if end:
                    reached[name] = end
                for at, line in found:
                    try:
                        lines.append(((name, at), _line(line)))
                    except (msgspec.DecodeError, UnicodeDecodeError):  # torn by a crash
                        continue
        return LogSlice(lines=lines, place=reached)

    async def find_invocation(self, namespace: str, function: str, id_: str) -> Invocation | None:
        """See `ports.records.RecordStore.find_invocation`."""
        if not id_:
            return None
        await self._flush()
        found = await asyncio.to_thread(
            self._select,
            RecordQuery(namespace=namespace, function=function, request=id_, limit=1),
            "invocations",
            _record,
        )
        return found[0] if found else None

    def _select(
        self, query: RecordQuery, kind: Kind, decode: Callable[[bytes, RecordQuery], tuple[T, float]]
    ) -> list[T]:
        if query.limit <= 0:
            return []
        folder = str(self._folder(query.namespace, query.function))
        with translated(self._root):
            found = list(self._matching(query, folder, kind, decode))
        found.reverse()
        return found

    def _folder(self, namespace: str, function: str) -> Path:
        """BadRequest for what is no name: no caller's text leads out of the root."""
        folder = self._root / check_name("namespace", namespace)
        return folder / check_name("function", function) if function else folder

    def _matching(self, query: RecordQuery, folder: str, kind: Kind, decode: _Decode[T]) -> Iterator[T]:
        """Newest first, at most `query.limit`."""
        since_s, until_s = _window(query, kind)
        needle = b'"' + query.request.encode() + b'"' if query.request else b""
        left = query.limit
        for segment in reversed(segments.list_segments(folder, kind)):
            if segment.start_s > until_s:
                continue
            if segment.end_s <= since_s:
                return
            for line in segments.read_backwards(segment.path):
                if needle and needle not in line:
                    continue
                try:
                    item, done_s = decode(line, query)
                except (msgspec.DecodeError, UnicodeDecodeError):  # torn by a crash
                    continue
                if done_s < since_s - SKEW_S:
                    break
                if _matches(item, query):
                    yield item
                    left -= 1
                    if not left:
                        return

    # --- following -------------------------------------------------------------------------------------------------

    def follow(self, namespace: str, function: str, listener: Listener) -> Callable[[], None]:
        """See `ports.records.RecordStore.follow`."""
        key = (namespace, function)
        mine = (asyncio.get_running_loop(), listener)
        self._listeners = {**self._listeners, key: [*self._listeners.get(key, []), mine]}
        self._wake.set()

        def stop() -> None:
            rest = [other for other in self._listeners.get(key, []) if other is not mine]
            listeners = {other: calls for other, calls in self._listeners.items() if other != key}
            self._listeners = {**listeners, key: rest} if rest else listeners

        return stop

    # --- retention and end -----------------------------------------------------------------------------------------

    async def forget(self, namespace: str, function: str = "") -> None:
        """See `ports.records.RecordStore.forget`."""
        folder = self._folder(namespace, function)
        await self._flush()
        await asyncio.to_thread(segments.drop_all, folder)

    async def prune(self, before_s: float) -> int:
        """See `ports.records.RecordStore.prune`."""
        with translated(self._root):
            return await asyncio.to_thread(segments.drop_before, self._root, before_s, self._bound_bytes)

    async def close(self) -> None:
        """See `ports.records.RecordStore.close`."""
        self._stopping = True
        self._wake.set()
        await asyncio.to_thread(self._thread.join)

    async def _flush(self) -> None:
        """Return when all that is queued now is in the files."""
        if self._stopping:
            await asyncio.to_thread(self._thread.join)
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._waiting.append((loop, future))
        self._wake.set()
        await future

    # --- on the thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            self._wake.wait(FOLLOW_S if self._listeners else FLUSH_S)
            self._wake.clear()
            stopping = self._stopping
            waiting = [self._waiting.popleft() for _ in range(len(self._waiting))]
            self._write_queued()
            for loop, future in waiting:
                _call(loop, _done, future)
            if stopping and not (self._queue or self._encoded or self._waiting):
                return

    def _write_queued(self) -> None:
        """Everything that is queued now, to the files and the listeners."""
        while self._queue:
            self._encode_slice()
        with self._encoding:
            batches, self._encoded = self._encoded, deque()
            self._held = 0
        # Told first, written second: what a reader finds in a file, its listener has been sent before.
        lines: dict[_Key, bytearray] = defaultdict(bytearray)
        counts: dict[_Key, int] = defaultdict(int)
        for key, count, text, told in batches:
            for loop, listener in self._listeners.get(key[:2], ()) if told else ():
                _call(loop, listener, told)
            lines[key] += text
            counts[key] += count
        for key, joined in lines.items():
            self._write(key, joined, counts[key])

    def _write(self, key: _Key, lines: bytearray, count: int) -> None:
        namespace, function, hour, kind = key
        try:
            self._appender.append(namespace, function, segments.hour_of(hour * 3600), kind, lines)
            self.problem = ""
        except OSError as exc:
            self.dropped += count
            known = translate(exc, self._root)
            self.problem = str(known or exc)
            self._appender.forget()

    def _encode(self, items: list[Item]) -> bytes:
        stored = [Row.of(item) if isinstance(item, Invocation) else item for item in items]
        try:
            return self._encoder.encode_lines(stored)
        except UnicodeEncodeError:  # a text with half a surrogate pair, which JSON in UTF-8 cannot hold
            return self._encoder.encode_lines([_encodable(item) for item in stored])


def _record(line: bytes, query: RecordQuery) -> tuple[Invocation, float]:
    """A stored record and when it was done."""
    row = _row(line)
    return row.record(query.namespace, query.function), row.done_s


def _log_line(line: bytes, query: RecordQuery) -> tuple[LogLine, float]:
    found = _line(line)
    return found, found.at_s


def _window(query: RecordQuery, kind: Kind) -> tuple[float, float]:
    """Wall-clock bounds of what can match; an id tells when its invocation arrived."""
    if not query.request:
        return query.since_s, query.until_s
    try:
        arrived_s = ids.time_of(query.request)
    except ValueError:
        return query.since_s, query.until_s
    until_s = min(query.until_s, arrived_s + 1) if kind == "invocations" else query.until_s
    return max(query.since_s, arrived_s - 1), until_s


def _matches(item: Item, query: RecordQuery) -> bool:
    if not query.since_s <= item.at_s <= query.until_s:
        return False
    if isinstance(item, LogLine):
        return not query.request or item.request == query.request
    return (not query.request or item.id == query.request) and (not query.status or item.status == query.status)


def _encodable(item: Row | LogLine) -> Row | LogLine:
    changed = {
        name: value.encode("utf-8", "replace").decode()
        for name in item.__struct_fields__
        if isinstance(value := getattr(item, name), str)
    }
    return msgspec.structs.replace(item, **changed)


def _call(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *args: object) -> None:
    try:
        loop.call_soon_threadsafe(call, *args)
    except RuntimeError:  # the loop is closed: nobody waits any more
        return


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
