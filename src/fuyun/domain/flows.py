"""What is said about streams and tables on the wire, at the control API and at the address inside instances."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from fuyun.domain.streams import (
    MOST_LABEL,
    MOST_PARTITIONS,
    MOST_RECORDS,
    MOST_WAIT_S,
    NewRecord,
    RecordView,
    Slice,
    Snapshot,
    view_of,
)
from fuyun.domain.tables import MOST_CHANGES, MOST_ITEMS, MOST_KEYS, Change, Document, Item, KeyValue, Query
from fuyun.domain.wire import Wire

Label = Annotated[str, msgspec.Meta(max_length=MOST_LABEL)]
Number = Annotated[int, msgspec.Meta(ge=0, lt=MOST_PARTITIONS)]
Count = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
From = Annotated[
    str, msgspec.Meta(description="start, end, an offset, or time: and seconds or an ISO 8601 time", max_length=80)
]


class Append(Wire, frozen=True, kw_only=True):
    """Records to append, all or none. A `producer` counts its appends: the newest one sent again changes nothing."""

    records: Annotated[list[NewRecord], msgspec.Meta(min_length=1, max_length=MOST_RECORDS)]
    producer: Label = ""
    sequence: Count = 0


class Reading(Wire, frozen=True, kw_only=True):
    """Which records of a partition; `wait_s` waits for the first."""

    partition: Number = 0
    at: From = msgspec.field(default="start", name="from")
    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST_RECORDS, description="records at most")] = 100
    wait_s: Annotated[float, msgspec.Meta(ge=0, le=MOST_WAIT_S, description="seconds to wait for a record")] = 0.0


class SliceView(Wire, frozen=True, kw_only=True):
    """Records of one partition in order, and where to go on. `start` and `end` are the partition's."""

    records: list[RecordView]
    next: int
    start: int
    end: int


def shown(found: Slice) -> SliceView:
    """How a slice is shown."""
    records = [view_of(record) for record in found.records]
    return SliceView(records=records, next=found.next, start=found.start, end=found.end)


class KeyQuery(Wire, frozen=True, kw_only=True):
    """Which records of a key."""

    key: Label
    after: Annotated[int, msgspec.Meta(ge=0, lt=2**53, description="version of the last one seen")] = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST_RECORDS, description="records at most")] = 100


class SnapshotKey(Wire, frozen=True, kw_only=True):
    """Whose snapshot."""

    key: Label


class PutSnapshot(Wire, frozen=True, kw_only=True):
    """What a key's records up to `version` add up to, any JSON."""

    key: Label
    version: Count
    data: Any


class SnapshotView(Wire, frozen=True, kw_only=True):
    """A snapshot."""

    key: str
    version: int
    at_s: float
    data: Any


def snapshot_view(found: Snapshot) -> SnapshotView:
    """How a snapshot is shown."""
    return SnapshotView(key=found.key, version=found.version, at_s=found.at_s, data=msgspec.Raw(found.data))


class Claim(Wire, frozen=True, kw_only=True):
    """Which partition is taken over, by whom; a cursor that is new begins at `from`."""

    partition: Number = 0
    owner: Label = ""
    start: From = msgspec.field(default="start", name="from")


class Commit(Wire, frozen=True, kw_only=True):
    """The next offset to read, and the epoch of the claim."""

    partition: Number = 0
    epoch: Annotated[int, msgspec.Meta(ge=1, lt=2**53)]
    offset: Count


class Write(Wire, frozen=True, kw_only=True):
    """Changes to make, all or none."""

    changes: Annotated[list[Change], msgspec.Meta(min_length=1, max_length=MOST_CHANGES)]


class ReadItems(Wire, frozen=True, kw_only=True):
    """Keys, each as a document of the key's attributes."""

    keys: Annotated[list[Document], msgspec.Meta(min_length=1, max_length=MOST_KEYS)]


class QueryItems(Wire, frozen=True, kw_only=True):
    """Which items, in the order of their keys or an index's; without a `partition` every item. `match`, a filter over
    attributes, leaves items of the page out: it may be short, and `next` says whether there are more."""

    index: str = ""
    partition: KeyValue | None = None
    prefix: str | None = None
    lower: KeyValue | None = None
    upper: KeyValue | None = None
    descending: bool = False
    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST_ITEMS)] = 100
    match: Any = None
    after: str = ""

    @property
    def query(self) -> Query:
        """What the table is asked."""
        return Query(
            index=self.index, partition=self.partition, prefix=self.prefix, lower=self.lower, upper=self.upper,
            descending=self.descending, limit=self.limit,
        )  # fmt: skip


class FoundItems(Wire, frozen=True, kw_only=True):
    """Items, and what to pass as `after` for the following page; null when this is the last."""

    items: list[Item]
    next: str | None = None
