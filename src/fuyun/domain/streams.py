"""Streams: ordered partitions of records that are kept for a while and read by offset, and how far a group has read.

A record is an event at a place. Offsets of a partition count from 0 without gaps; its records are in the order of their
offsets, and their times never fall.
"""

from __future__ import annotations

import base64
import re
import zlib
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec

from fuyun.domain.errors import BadRequest, PayloadTooLarge
from fuyun.domain.events import Event, check_event, structured
from fuyun.domain.functions import Wire
from fuyun.domain.names import check_name

MOST_PARTITIONS = 64
#: Of one append, and of one read.
MOST_RECORDS = 500
READ_BYTES = 4 * 2**20
RECORD_BYTES = 2**20
#: Characters of a key, of a producer's name.
MOST_LABEL = 256
#: Seconds a read waits for records at most.
MOST_WAIT_S = 60.0
#: Type of an event that was appended as data alone.
PLAIN_TYPE = "fuyun.stream.record"
#: A table's change feed is a stream of this name before the table's own. Nobody else can make one: names have no dot.
FEED = "table."

_OFFSET = re.compile(r"[0-9]{1,15}")


def _doc(text: str) -> msgspec.Meta:
    return msgspec.Meta(description=text)


class StreamSpec(Wire, frozen=True, kw_only=True):
    """What a stream is. `partitions` and `versioned` never change."""

    partitions: Annotated[int, _doc("how many; records of one key are in one of them")] = 1
    retention_s: Annotated[float, _doc("seconds a record is kept; 0 for ever")] = 7 * 86400.0
    retention_bytes: Annotated[int, _doc("bytes that each partition keeps at most; 0 without limit")] = 0
    versioned: Annotated[
        bool, _doc("records of a key are numbered from 1: appends may expect a version, and a key can be read")
    ] = False
    description: str = ""


class Stream(Wire, frozen=True, kw_only=True):
    """A stream of a namespace. `bytes` is what all its partitions keep."""

    namespace: str
    name: str
    spec: StreamSpec = StreamSpec()
    created_s: float
    revision: int = 1
    bytes: int = 0


class Partition(Wire, frozen=True, kw_only=True):
    """One of a stream's: it keeps the offsets from `start` up to, not including, `end`."""

    number: int
    start: int = 0
    end: int = 0
    bytes: int = 0
    last_s: float = 0.0  # time of the newest record


class Appending(Wire, frozen=True, kw_only=True):
    """A record to append. `expected` is the version its key must be at (0: none yet), in versioned streams. A
    `partition` is chosen by the key, or without one by the event's id, unless given."""

    event: Event
    key: str = ""
    expected: int | None = None
    partition: int | None = None


class NewRecord(Wire, frozen=True, kw_only=True):
    """A record as people write it: any JSON as `data`, or bytes in base64; the platform makes the rest of the event."""

    data: Annotated[Any, _doc("any JSON")] = msgspec.UNSET
    data_base64: Annotated[str, _doc("bytes, in place of data")] = ""
    content_type: Annotated[str, msgspec.Meta(max_length=200, description="of data_base64")] = (
        "application/octet-stream"
    )
    key: Annotated[str, msgspec.Meta(max_length=MOST_LABEL)] = ""
    type: Annotated[str, msgspec.Meta(min_length=1, max_length=MOST_LABEL, description="the event's")] = PLAIN_TYPE
    subject: Annotated[str, msgspec.Meta(max_length=MOST_LABEL, description="the event's; else the key")] = ""
    expected: Annotated[int, msgspec.Meta(ge=0, description="version the key is to be at; 0: none yet")] | None = None
    partition: Annotated[int, msgspec.Meta(ge=0, lt=MOST_PARTITIONS)] | None = None

    def appending(self, source: str, id_: str, now_s: float) -> Appending:
        """What is appended: an event of this id. BadRequest."""
        if self.data is not msgspec.UNSET and self.data_base64:
            raise BadRequest("data and data_base64 are both set", hint="set one of them", path="data_base64")
        try:
            data = base64.b64decode(self.data_base64, validate=True)
        except ValueError as exc:
            raise BadRequest(f"data_base64 is no base64: {exc}", hint="encode the bytes", path="data_base64") from exc
        content_type = self.content_type
        if not self.data_base64:
            content_type = "application/json"
            data = b"" if self.data is msgspec.UNSET else msgspec.json.encode(self.data)
        event = Event(
            id=id_, source=source, type=self.type, subject=self.subject or self.key, time_s=now_s,
            content_type=content_type, data=data,
        )  # fmt: skip
        return Appending(event=check_event(event), key=self.key, expected=self.expected, partition=self.partition)


class Appended(Wire, frozen=True, kw_only=True):
    """Where a record is. `version` is 0 in streams that are not versioned."""

    partition: int
    offset: int
    version: int = 0


class Record(Wire, frozen=True, kw_only=True):
    """A record at its place. `at_s` is when it was appended."""

    partition: int
    offset: int
    key: str = ""
    version: int = 0
    at_s: float
    event: Event


class RecordView(Wire, frozen=True, kw_only=True):
    """A record as it is shown: its event in CloudEvents' JSON format."""

    partition: int
    offset: int
    key: str
    version: int
    at_s: float
    event: dict[str, Any]


class Slice(Wire, frozen=True, kw_only=True):
    """Records of one partition in their order, and where to go on. `start` and `end` are the partition's."""

    records: tuple[Record, ...] = ()
    next: int
    start: int
    end: int


class Snapshot(Wire, frozen=True, kw_only=True):
    """What a key's records up to `version` add up to, as JSON text."""

    key: str
    version: int
    at_s: float
    data: bytes


class Cursor(Wire, frozen=True, kw_only=True):
    """How far a group has read a partition: `offset` is the next one. Whoever claims it raises `epoch`, and only with
    the newest one may it be moved."""

    partition: int
    offset: int
    epoch: int
    owner: str = ""
    committed_s: float = 0.0


class Position(Wire, frozen=True, kw_only=True):
    """A place in a partition: its first kept record, the place after its last, an offset, or the first record appended
    at `value` seconds or later. An offset that is not kept any more stands for the first that is."""

    where: Literal["start", "end", "offset", "time"] = "start"
    value: float = 0.0


START = Position()
END = Position(where="end")


def at_offset(offset: int) -> Position:
    """The place of an offset."""
    return Position(where="offset", value=offset)


def position_of(text: str) -> Position:
    """`start`, `end`, an offset, or `time:` and seconds since the epoch or an ISO 8601 time. BadRequest."""
    if text in ("start", "end"):
        return END if text == "end" else START
    if _OFFSET.fullmatch(text):
        return at_offset(int(text))
    kind, _, rest = text.partition(":")
    if kind == "time":
        try:
            return Position(where="time", value=_seconds(rest))
        except (ValueError, OverflowError):
            pass
    raise BadRequest(
        f"{text[:80]!r} is no place in a stream",
        hint="write start, end, an offset, time:SECONDS or time:2026-01-31T07:30:00Z", path="from",
    )  # fmt: skip


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        at = datetime.fromisoformat(text)
        found = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    if not 0 <= found < 2**40:
        raise ValueError(text)
    return found


def partition_of(key: str, partitions: int) -> int:
    """The partition of a key: CRC-32 (ISO-HDLC, as in zip) of its UTF-8 bytes, modulo the number of partitions."""
    return zlib.crc32(key.encode("utf-8", "surrogatepass")) % partitions


def check_stream(name: str, spec: StreamSpec) -> None:
    """BadRequest that says which setting of the stream cannot be."""
    check_name("stream", name)
    _within("partitions", spec.partitions, 1, MOST_PARTITIONS)
    if spec.retention_s != 0:
        _within("retention_s", spec.retention_s, 1.0, 100 * 366 * 86400.0)
    if spec.retention_bytes != 0:
        _within("retention_bytes", spec.retention_bytes, 1024, 2**50)
    _within("description", len(spec.description), 0, 1000)


def check_appending(spec: StreamSpec, records: tuple[Appending, ...]) -> None:
    """BadRequest or PayloadTooLarge for what a stream of `spec` does not take; names the record by its place."""
    if not 1 <= len(records) <= MOST_RECORDS:
        raise BadRequest(
            f"{len(records)} records in one append", hint=f"send 1 to {MOST_RECORDS}", path="records",
        )  # fmt: skip
    for place, record in enumerate(records):
        where = f"records[{place}]"
        if len(record.key) > MOST_LABEL:
            raise BadRequest(
                f"{where}: a key of {len(record.key)} characters", hint=f"use at most {MOST_LABEL}", path=where
            )
        if record.partition is not None and not 0 <= record.partition < spec.partitions:
            raise BadRequest(
                f"{where}: there is no partition {record.partition}", path=where,
                hint=f"use 0 to {spec.partitions - 1}, or leave it out",
            )  # fmt: skip
        if len(record.event.data) > RECORD_BYTES:
            raise PayloadTooLarge(
                f"{where}: {len(record.event.data)} bytes of data", limit_bytes=RECORD_BYTES,
                hint=f"keep it at {RECORD_BYTES} bytes, or store an object and append its name",
            )  # fmt: skip
        _check_version(spec, record, where)


def _check_version(spec: StreamSpec, record: Appending, where: str) -> None:
    if not spec.versioned:
        if record.expected is not None:
            raise BadRequest(
                f"{where}: a version is expected of a stream that has none", path=where,
                hint="create the stream with versioned: true",
            )  # fmt: skip
        return
    if not record.key or record.partition is not None:
        raise BadRequest(
            f"{where}: a versioned stream wants a key and chooses the partition by it", path=where,
            hint="set the key, and no partition",
        )  # fmt: skip


def view_of(record: Record) -> RecordView:
    """How it is shown."""
    event: Any = msgspec.Raw(structured(record.event))
    return RecordView(
        partition=record.partition, offset=record.offset, key=record.key, version=record.version, at_s=record.at_s,
        event=event,
    )  # fmt: skip


def _within(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise BadRequest(f"{name} is {value:g}", hint=f"use {least:g} to {most:g}", path=name)


def sequence_of(record: Record) -> str:
    """PARTITION-OFFSET, of fixed width, so that texts of a partition are in order."""
    return f"{record.partition:02d}-{record.offset:015d}"


def placed(record: Record) -> Event:
    """A record's event as a function gets it: with the extension attributes `partitionkey` and `sequence`."""
    found = {"sequence": sequence_of(record)}
    if record.key:
        found["partitionkey"] = record.key
    event: Event = msgspec.structs.replace(record.event, extensions={**record.event.extensions, **found})
    return event
