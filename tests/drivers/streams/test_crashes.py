"""Killed at any moment, streams and tables hold every write they acknowledged, no half of one, and feeds that agree."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fuyun.domain.errors import StorageFull
from fuyun.domain.streams import START, Record, StreamSpec
from fuyun.domain.tables import Query
from fuyun.domain.tenants import Quotas
from fuyun.drivers.sql.sqlite import Database
from fuyun.drivers.streams.store import SqlStreams
from fuyun.drivers.tables.store import SqlTables
from fuyun.testing.contracts.samples import NOW_S
from fuyun.testing.contracts.streams import record
from tests import launching

REPOSITORY = Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.anyio


def written(folder: Path, lanes: int, lines: int = 0, limit_bytes: int = 0, **env: str) -> list[str]:
    """What a process acknowledged until it was killed after so many lines, or ended by itself (0)."""
    writing = launching.begin("tests.drivers.streams.writing", str(folder), str(lanes), str(limit_bytes), **env)
    with writing as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(lines)]
        if lines:
            process.send_signal(signal.SIGKILL)
        # What the pipe still holds was acknowledged too; the last line may be torn.
        said += [line for line in process.stdout if line.endswith("\n")]
        assert process.wait(30) == (0 if limit_bytes else -signal.SIGKILL)
    return [line.strip() for line in said]


async def all_records(streams: SqlStreams, name: str) -> dict[int, list[Record]]:
    _, parts = await streams.get("default", name)
    found: dict[int, list[Record]] = {}
    for part in parts:
        records = (await streams.read("default", name, part.number, START, 10**6, 2**40)).records
        assert [one.offset for one in records] == list(range(part.start, part.end)), "no gaps"
        assert part.bytes > 0 or not records
        found[part.number] = list(records)
    return found


async def check(folder: Path, acknowledged: list[str], lanes: int) -> None:
    database = await Database.open(folder / "fuyun.db")
    try:
        streams, tables = SqlStreams(database), SqlTables(database)
        found = await all_records(streams, "s")
        held = {(number, one.offset): one.event.data.decode() for number, records in found.items() for one in records}
        starts = {number: records[0].offset for number, records in found.items() if records}
        for line in acknowledged:
            if line.startswith("append"):
                _, number, offset, text = line.split()
                gone = int(offset) < starts.get(int(number), 10**9)
                assert gone or held[int(number), int(offset)] == text
        for records in found.values():  # of each key whole appends, in order
            for lane in range(lanes):
                own = [one for one in records if one.key == f"k{lane}"]
                versions = [one.version for one in own]
                assert versions == list(range(versions[0], versions[0] + len(versions))) if versions else True
                assert not versions or versions[-1] % 3 == 0
        items = (await tables.query("default", "t", Query(limit=1000), NOW_S)).items
        now = {one.item["id"]: one.item["n"] for one in items}
        for line in acknowledged:
            if line.startswith("change"):
                _, key, n = line.split()
                assert now[key] >= int(n)
        for lane in range(lanes):
            assert now.get(f"{lane}-a") == now.get(f"{lane}-b"), "both or none"
        replayed: dict[str, Any] = {}
        for records in (await all_records(streams, "table.t")).values():
            for one in records:
                told = msgspec.json.decode(one.event.data)
                assert told.get("old", {}).get("n") == replayed.get(one.key, {}).get("n")
                replayed[one.key] = told["new"]
        assert {one["id"]: one["n"] for one in replayed.values()} == now
        for lane in range(lanes):
            query = Query(index="by-n", partition=now[f"{lane}-a"]) if f"{lane}-a" in now else None
            assert query is None or len((await tables.query("default", "t", query, NOW_S)).items) >= 2
    finally:
        await database.close()


async def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    said = written(tmp_path, 8, lines=300)
    await check(tmp_path, said, 8)


@pytest.mark.parametrize(
    "point", ["catalog.before_commit:31", "catalog.after_commit:31", "tables.changed:20", "streams.trimmed:2"]
)
async def test_at_every_point_of_a_write(tmp_path: Path, point: str) -> None:
    said = written(tmp_path, 2, FUYUN_CRASH_AT=point)
    assert len(said) > 10
    await check(tmp_path, said, 2)


async def test_files_that_may_not_grow_refuse_new_writes_and_keep_the_old(tmp_path: Path) -> None:
    said = written(tmp_path, 3, limit_bytes=700_000)
    refusals = [line for line in said if line.startswith("!")]
    assert len(refusals) == 3
    assert all("storage_full" in line and "free space" in line for line in refusals)
    await check(tmp_path, [line for line in said if not line.startswith("!")], 3)


async def fill(streams: SqlStreams) -> int:
    """Append until it is refused; how many were taken."""
    for taken in range(1000):
        try:
            await streams.append("default", "s", [record("x" * 20_000)], Quotas(), NOW_S)
        except StorageFull:
            return taken
    raise AssertionError("the disk never filled up")


@pytest.mark.parametrize("small_disk", ["1500k"], indirect=True)
async def test_a_full_disk_refuses_appends_until_there_is_room(small_disk: Path) -> None:
    database = await Database.open(small_disk / "fuyun.db")
    try:
        streams = SqlStreams(database)
        await streams.put("default", "s", StreamSpec(), Quotas(), NOW_S)
        ballast = small_disk / "ballast"
        ballast.write_bytes(b"x" * 300_000)
        taken = await fill(streams)
        found = await streams.read("default", "s", 0, START, 10**6, 2**40)
        assert [one.offset for one in found.records] == list(range(taken))
        ballast.unlink()
        assert (await streams.append("default", "s", [record("later")], Quotas(), NOW_S))[0].offset == taken
    finally:
        await database.close()
