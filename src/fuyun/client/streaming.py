"""Streams, as the client sees them."""

from __future__ import annotations

import base64
from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Any

import msgspec

from fuyun.client.calling import Caller
from fuyun.client.http import ANSWER_S, Request, path_of
from fuyun.domain.functions import Wire
from fuyun.domain.streams import Appended, Cursor, NewRecord, Partition, RecordView, Stream, StreamSpec


class StreamState(Wire, frozen=True, kw_only=True):
    """A stream and its partitions."""

    stream: Stream
    partitions: list[Partition]


class Records(Wire, frozen=True, kw_only=True):
    """Records of one partition in order; `next` is where to go on. `start` and `end` are the partition's."""

    records: list[RecordView]
    next: int
    start: int
    end: int


class Group(Wire, frozen=True, kw_only=True):
    """A group: its cursors, how many records are before them, and how old the next of those is in seconds."""

    group: str
    cursors: list[Cursor]
    lag: int
    age_s: float


class Streaming(Caller):
    """The part of `Platform` that reads and writes streams. All methods are about the client's namespace.

    A place in a stream is `start`, `end`, an offset, or `time:` and seconds since the epoch or an ISO 8601 time.
    """

    def list_streams(self) -> list[Stream]:
        """By name; those called `table.NAME` are change feeds."""
        return self._all(self._streams(), Stream)

    def get_stream(self, stream: str) -> StreamState:
        """NotFound when absent."""
        return self._one(self._send("GET", self._streams(stream)), StreamState)

    def put_stream(self, stream: str, spec: StreamSpec, *, create: bool = False) -> Stream:
        """Create a stream or change its retention. `create`: PreconditionFailed when there is one. Conflict for what
        cannot change, QuotaExceeded."""
        headers = {"If-None-Match": "*"} if create else {}
        return self._one(self._send("PUT", self._streams(stream), spec, headers=headers), Stream)

    def delete_stream(self, stream: str) -> None:
        """With its records and groups. NotFound."""
        self._send("DELETE", self._streams(stream))

    def append(
        self, stream: str, records: Sequence[NewRecord], *, producer: str = "", sequence: int = 0
    ) -> list[Appended]:
        """All or none. With a `producer` that counts its appends, the newest one sent again changes nothing. Conflict
        where a key is at another version than expected."""
        body = {"records": records, "producer": producer, "sequence": sequence}
        answer = self._send("POST", self._streams(stream, "records"), body).json()
        return [self._convert(item, Appended) for item in answer]

    def read_stream(
        self, stream: str, partition: int = 0, at: str = "start", limit: int = 100, wait_s: float = 0.0
    ) -> Records:
        """Records of a partition from a place on; waits up to `wait_s` for the first."""
        query = {"partition": str(partition), "from": at, "limit": str(limit), "wait_s": repr(wait_s)}
        path = self._streams(stream, "records")
        return self._one(self._http.send(Request("GET", path, query=query, answer_s=ANSWER_S + wait_s)), Records)

    def tail_stream(self, stream: str, at: str = "end") -> Generator[RecordView, None, None]:
        """Records of all partitions from a place on, then those to come, until the iterator is closed."""
        headers, query = {"Accept": "application/x-ndjson"}, {"from": at, "follow": "1"}
        request = Request("GET", self._streams(stream, "records"), query=query, headers=headers, answer_s=None)
        with closing(self._http.lines(request)) as lines:
            for line in lines:
                yield self._convert(line, RecordView)

    def read_key(self, stream: str, key: str, after: int = 0) -> list[RecordView]:
        """All records of a key of a versioned stream with versions above `after`."""
        found: list[RecordView] = []
        while True:
            query = {"key": key, "after": str(after), "limit": "500"}
            items, following = self._items(self._send("GET", self._streams(stream, "history"), query=query), RecordView)
            found.extend(items)
            if not following:
                return found
            after = int(following)

    def put_snapshot(self, stream: str, key: str, version: int, data: Any) -> None:
        """Keep what a key's records up to `version` add up to. Conflict for a version it has not reached."""
        self._send("PUT", self._streams(stream, "snapshot"), {"key": key, "version": version, "data": data})

    def get_snapshot(self, stream: str, key: str) -> tuple[int, Any]:
        """A key's newest snapshot and its version. NotFound when there is none."""
        found = self._dict(self._send("GET", self._streams(stream, "snapshot"), query={"key": key}))
        return int(found["version"]), found["data"]

    def list_groups(self, stream: str) -> list[Group]:
        """Groups that read the stream, by name."""
        return [self._convert(item, Group) for item in self._send("GET", self._streams(stream, "groups")).json()]

    def claim(self, stream: str, group: str, partition: int = 0, owner: str = "", at: str = "start") -> Cursor:
        """Take over a partition for a group; a cursor that is new begins at `at`."""
        body = {"partition": partition, "owner": owner, "from": at}
        return self._one(self._send("POST", self._streams(stream, "groups", group, "claim"), body), Cursor)

    def commit(self, stream: str, group: str, cursor: Cursor, offset: int) -> None:
        """The next offset to read of the partition that `cursor` was claimed for. Conflict when another has it now."""
        body = {"partition": cursor.partition, "epoch": cursor.epoch, "offset": offset}
        self._send("POST", self._streams(stream, "groups", group, "commit"), body)

    def reset_group(self, stream: str, group: str, at: str = "start") -> list[Cursor]:
        """Put a group to a place in every partition."""
        answer = self._send("POST", self._streams(stream, "groups", group, "reset"), {"from": at}).json()
        return [self._convert(item, Cursor) for item in answer]

    def delete_group(self, stream: str, group: str) -> None:
        """Forget how far it has read. NotFound."""
        self._send("DELETE", self._streams(stream, "groups", group))

    def _streams(self, *segments: str) -> str:
        return path_of("namespaces", self.namespace, "streams", *segments)


def data_of(record: RecordView) -> bytes:
    """What was appended: JSON as text, or the bytes."""
    if "data_base64" in record.event:
        return base64.b64decode(record.event["data_base64"])
    return msgspec.json.encode(record.event["data"]) if "data" in record.event else b""
