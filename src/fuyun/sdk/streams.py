"""Streams of the namespace, at the platform's address inside the instance.

Standard library only. The function's `permissions.streams` name the streams it may use. A place in a stream is `start`,
`end`, an offset, or `time:` and seconds since the epoch or an ISO 8601 time.
"""

from __future__ import annotations

from base64 import b64decode, b64encode

from fuyun.sdk.calling import CallRefused, ask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, Optional, Union


class Record:
    """A record at its place: `partition`, `offset`, `key`, `version` (0 where none is counted), `at_s`, and its
    `event`, a CloudEvent in its JSON format."""

    __slots__ = ("at_s", "event", "key", "offset", "partition", "version")

    def __init__(self, told: Mapping[str, Any]) -> None:
        self.partition: int = told["partition"]
        self.offset: int = told["offset"]
        self.key: str = told["key"]
        self.version: int = told["version"]
        self.at_s: float = told["at_s"]
        self.event: dict[str, Any] = told["event"]

    @property
    def data(self) -> Any:
        """What was appended: parsed JSON, or bytes; None where there is none."""
        if "data_base64" in self.event:
            return b64decode(self.event["data_base64"])
        return self.event.get("data")

    def __repr__(self) -> str:
        return f"Record(partition={self.partition}, offset={self.offset}, key={self.key!r})"


def new_record(
    data: Any, *, key: str = "", type: str = "", subject: str = "", expected: Optional[int] = None
) -> dict[str, Any]:
    """A record as `append_all` takes it. `data`: what JSON can carry, or bytes. `expected`: the version that the key is
    to be at (0: none yet), in versioned streams."""
    body: dict[str, Any] = {"data_base64": b64encode(data).decode()} if isinstance(data, bytes) else {"data": data}
    body.update({name: value for name, value in (("key", key), ("type", type), ("subject", subject)) if value})
    if expected is not None:
        body["expected"] = expected
    return body


def append(stream: str, data: Any, **options: Any) -> tuple[int, int]:
    """Append one record (options as `new_record` has them); its partition and offset. It is on disk when this returns.
    CallRefused with the code `conflict` when the key is at another version than expected."""
    told = append_all(stream, [new_record(data, **options)])[0]
    return told["partition"], told["offset"]


def append_all(
    stream: str, records: Iterable[Mapping[str, Any]], *, producer: str = "", sequence: int = 0
) -> list[dict[str, Any]]:
    """Append up to 500 of `new_record`, all or none; `partition`, `offset` and `version` of each. With a `producer`
    that counts its appends by a rising `sequence`, the newest one sent again changes nothing."""
    body = {"records": list(records), "producer": producer, "sequence": sequence}
    told: list[dict[str, Any]] = ask("streams", stream, "append", body)
    return told


def read(
    stream: str, partition: int = 0, at: Union[str, int] = "start", *, limit: int = 100, wait_s: float = 0.0
) -> tuple[list[Record], int]:
    """Records of a partition from a place on, waiting `wait_s` for the first, and the offset to go on at."""
    asked = {"partition": partition, "from": str(at), "limit": limit, "wait_s": wait_s}
    told = ask("streams", stream, "read", asked, wait_s=wait_s)
    return [Record(one) for one in told["records"]], told["next"]


def history(stream: str, key: str, *, after: int = 0) -> list[Record]:
    """All records of a key of a versioned stream with versions above `after`, in order."""
    found: list[Record] = []
    while True:
        page = ask("streams", stream, "history", {"key": key, "after": after, "limit": 500})
        found += [Record(one) for one in page]
        if len(page) < 500:
            return found
        after = found[-1].version


def snapshot(stream: str, key: str) -> tuple[int, Any]:
    """The version and the data of a key's newest snapshot; 0 and None when there is none."""
    try:
        told = ask("streams", stream, "snapshot", {"key": key})
    except CallRefused as error:
        if error.code == "not_found" and "no snapshot" in error.detail:
            return 0, None
        raise
    return told["version"], told["data"]


def keep_snapshot(stream: str, key: str, version: int, data: Any) -> None:
    """Keep what a key's records up to `version` add up to. CallRefused for a version it has not reached."""
    ask("streams", stream, "keep", {"key": key, "version": version, "data": data})


__all__ = ["Record", "append", "append_all", "history", "keep_snapshot", "new_record", "read", "snapshot"]
