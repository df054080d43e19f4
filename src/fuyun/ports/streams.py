"""Streams and the groups that read them, durably."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fuyun.domain.streams import (
    Appended,
    Appending,
    Cursor,
    Partition,
    Position,
    Record,
    Slice,
    Snapshot,
    Stream,
    StreamSpec,
)
from fuyun.domain.tenants import AuditEntry, Quotas


class StreamStore(Protocol):
    """The truth about streams and their records.

    Every write is one transaction and is on disk when it returns; what it refuses changes nothing. Times are wall-clock
    seconds that the caller gives; a record's is never before that of the one in front of it. A partition's offsets
    have no gaps: a reader that goes on from `Slice.next` sees every record that is kept once, in order. Records leave
    from the front only, by `trim`.

    Raises NotFound (stream, namespace), StorageFull, and what a method adds. An `entry` joins the audit log in the same
    transaction.
    """

    async def put(
        self,
        namespace: str,
        name: str,
        spec: StreamSpec,
        quotas: Quotas,
        now_s: float,
        *,
        expected_revision: int | None = None,
        entry: AuditEntry | None = None,
    ) -> Stream:
        """Create the stream or change its settings; its revision rises by one. `expected_revision` 0 is "must not
        exist"; another value than the current one raises PreconditionFailed. QuotaExceeded for one stream too many,
        Conflict for a change of `partitions` or `versioned`."""
        ...

    async def get(self, namespace: str, name: str) -> tuple[Stream, list[Partition]]:
        """The stream and its partitions by number."""
        ...

    async def list_streams(self, namespace: str, after: str = "", limit: int = 100) -> list[Stream]:
        """A page of the namespace's streams by name."""
        ...

    async def delete(self, namespace: str, name: str, entry: AuditEntry | None = None) -> None:
        """The stream is gone at once, and its name free; what it kept is removed by `trim`."""
        ...

    async def append(
        self,
        namespace: str,
        name: str,
        records: Sequence[Appending],
        quotas: Quotas,
        now_s: float,
        *,
        producer: str = "",
        sequence: int = 0,
    ) -> list[Appended]:
        """All of them in their order, or none. A `producer` counts its appends by a rising `sequence`: the newest one
        sent again changes nothing and is answered as it was; an older one is a Conflict. Conflict also where a key is
        at another version than expected, with the fields `key`, `expected`, `found`. QuotaExceeded for bytes."""
        ...

    async def read(
        self, namespace: str, name: str, partition: int, at: Position, limit: int = 100, most_bytes: int = 2**20
    ) -> Slice:
        """Up to `limit` records from `at` on, of `most_bytes` together; the first one whatever its size. NotFound for a
        partition that is not there."""
        ...

    async def read_key(self, namespace: str, name: str, key: str, after: int = 0, limit: int = 100) -> list[Record]:
        """Records of a key with versions above `after`, in order. Empty where none is kept, or nothing is versioned."""
        ...

    async def put_snapshot(self, namespace: str, name: str, snapshot: Snapshot) -> None:
        """Keep it in place of the key's older one. Conflict for a version that the key has not reached, or one below
        the kept snapshot's."""
        ...

    async def find_snapshot(self, namespace: str, name: str, key: str) -> Snapshot | None:
        """The key's."""
        ...

    async def trim(self, now_s: float, most: int = 1000) -> int:
        """Remove up to `most` records that have outlived their stream's retention, or their stream; how many. Call it
        until it answers 0: each call is a short write."""
        ...


class GroupStore(Protocol):
    """How far groups have read: one `Cursor` for each partition of a stream and group. Same promises as above.

    A group is there as soon as one of its partitions was claimed. Fencing: a claim raises the cursor's epoch, and every
    commit names the epoch it was claimed at; so whoever lost a partition cannot move its cursor.
    """

    async def claim(
        self, namespace: str, name: str, group: str, partition: int, owner: str, start: Position, now_s: float
    ) -> Cursor:
        """Take over a partition. A cursor that is new begins at `start`."""
        ...

    async def commit(
        self, namespace: str, name: str, group: str, partition: int, epoch: int, offset: int, now_s: float
    ) -> None:
        """The next offset to read is `offset`. Conflict when `epoch` is not the cursor's (fields `epoch`, `owner`);
        BadRequest for an offset behind the cursor or beyond the partition's end."""
        ...

    async def reset(
        self, namespace: str, name: str, group: str, to: Position, now_s: float, entry: AuditEntry | None = None
    ) -> list[Cursor]:
        """Put all the group's cursors to a place and raise their epochs, so that their owners claim them anew."""
        ...

    async def list_cursors(self, namespace: str, name: str, group: str = "") -> list[tuple[str, Cursor]]:
        """Group and cursor of every cursor of the stream, or of the group, by group and partition."""
        ...

    async def delete_group(self, namespace: str, name: str, group: str, entry: AuditEntry | None = None) -> None:
        """Forget its cursors. NotFound when there are none."""
        ...
