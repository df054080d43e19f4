"""Records in a folder keep the port's contract, and survive kills, torn lines, floods and full disks."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from fuyun.domain.errors import BadRequest, StorageFull
from fuyun.domain.invocations import Row
from fuyun.drivers.records import folder as driver
from fuyun.drivers.records.folder import FolderRecords
from fuyun.drivers.records.segments import list_segments, read_backwards
from fuyun.ports.records import RecordStore
from fuyun.testing.contracts.records import HELLO, RecordStoreContract, query
from fuyun.testing.contracts.samples import NOW_S, invocation, line

REPOSITORY = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.anyio


class TestFolderRecords(RecordStoreContract):
    async def start(self, folder: Path) -> RecordStore:
        return FolderRecords.open(folder)


class TestFolderRecordsInSmallSegments(RecordStoreContract):
    async def start(self, folder: Path) -> RecordStore:
        return FolderRecords.open(folder, segment_bytes=700)


def files_of(root: Path) -> list[Path]:
    return sorted((root / "default" / "hello").glob("*.jsonl"))


async def test_one_segment_an_hour_and_kind(tmp_path: Path) -> None:
    store = FolderRecords.open(tmp_path)
    for count in range(4):
        store.append_nowait(invocation(NOW_S + count * 1000, count))
        store.append_nowait(line("x", NOW_S + count * 1000))
    await store.close()
    assert [path.name for path in files_of(tmp_path)] == [
        "20260131T07-000000.invocations.jsonl", "20260131T07-000000.logs.jsonl",
        "20260131T08-000000.invocations.jsonl", "20260131T08-000000.logs.jsonl",
    ]  # fmt: skip


def test_killed_while_writing(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.drivers.records.writing", str(tmp_path)],
        stdout=subprocess.PIPE, text=True, cwd=REPOSITORY,
    )  # fmt: skip
    assert process.stdout is not None
    for _ in range(30):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    known = [text.strip() for text in process.stdout if text.endswith("\n")]
    process.stdout.close()
    process.wait()

    async def main() -> None:
        store = FolderRecords.open(tmp_path)
        kept = {item.id for item in await store.list_invocations(query(limit=10**6))}
        assert set(known) <= kept
        await store.close()

    asyncio.run(main())


async def test_a_torn_last_line_is_skipped_and_closed(tmp_path: Path) -> None:
    items = [invocation(count=count) for count in range(5)]
    store = FolderRecords.open(tmp_path)
    for item in items[:4]:
        store.append_nowait(item)
    await store.close()
    (path,) = files_of(tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    store = FolderRecords.open(tmp_path)
    assert await store.list_invocations(HELLO) == items[:3]
    assert await store.find_invocation("default", "hello", items[3].id) is None
    store.append_nowait(items[4])
    assert await store.list_invocations(HELLO) == [*items[:3], items[4]]
    await store.close()
    assert path.read_bytes().count(b"\n") == 5


@pytest.mark.parametrize("block", [1, 7, 64, 10**6])
def test_reading_backwards(tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuyun.drivers.records.segments.BLOCK_BYTES", block)
    path = tmp_path / "x"
    for content in (b"", b"a", b"a\n", b"\n\na\nbb\n\nccc", b"x" * 300 + b"\n" + b"y" * 64 + b"\n"):
        path.write_bytes(content)
        assert list(read_backwards(str(path))) == [text for text in content.split(b"\n")[::-1] if text]
    assert list(read_backwards(str(tmp_path / "none"))) == []


async def test_beyond_the_bound_the_oldest_queued_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "QUEUE_ITEMS", 100)
    store = FolderRecords(tmp_path)  # not started: the writer is as slow as can be
    for count in range(250):
        store.append_nowait(line(str(count)))
    assert 150 - 2 * driver.SLICE < store.dropped <= 150  # a slice goes when the bound holds without it
    assert store.problem
    store.start()
    assert [found.text for found in await store.list_logs(HELLO)] == [str(n) for n in range(store.dropped, 250)]
    await store.close()


async def test_what_is_queued_while_the_writer_makes_its_last_round_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderRecords.open(tmp_path)
    rows = [Row.of(invocation(count=count)) for count in range(2)]
    appended, writing, write = threading.Event(), threading.Event(), store._write

    def wait_and_write(*batch: Any) -> None:
        writing.set()
        appended.wait(10)
        write(*batch)

    monkeypatch.setattr(store, "_write", wait_and_write)
    store.append_rows("default", "hello", int(NOW_S), [rows[0]])
    closing = asyncio.ensure_future(store.close())
    await asyncio.to_thread(writing.wait, 10)
    store.append_rows("default", "hello", int(NOW_S), [rows[1]])
    appended.set()
    await closing
    store = FolderRecords.open(tmp_path)
    assert len(await store.list_invocations(HELLO)) == 2
    await store.close()


async def test_a_function_holds_no_more_than_the_bound(tmp_path: Path) -> None:
    store = FolderRecords.open(tmp_path, bound_bytes=40_000, segment_bytes=4_000)
    for count in range(3000):
        store.append_nowait(line(f"{count:05d}"))
        if count % 20 == 0:
            await store.list_logs(query(limit=1))
    await store.prune(0)
    found = await store.list_logs(query(limit=10**6))
    total = sum(path.stat().st_size for path in files_of(tmp_path))
    await store.close()
    assert total <= 40_000
    assert [item.text for item in found] == [f"{count:05d}" for count in range(3000 - len(found), 3000)]
    assert len(found) > 100


async def test_text_that_is_no_unicode_is_kept_as_well_as_can_be(tmp_path: Path) -> None:
    store = FolderRecords.open(tmp_path)
    store.append_nowait(line("before"))
    store.append_nowait(line("half \ud83d of a pair"))
    assert [found.text for found in await store.list_logs(HELLO)] == ["before", "half ? of a pair"]
    await store.close()
    assert store.dropped == 0


@pytest.mark.parametrize("name", ["..", "../x", "a/b", "", "."])
async def test_what_is_no_name_is_no_path(tmp_path: Path, name: str) -> None:
    store = FolderRecords.open(tmp_path / "records")
    (tmp_path / "x").mkdir()
    with pytest.raises(BadRequest):
        await store.forget(name)
    with pytest.raises(BadRequest):
        await store.list_logs(query(namespace=name))
    assert (tmp_path / "x").exists()
    await store.close()


@pytest.mark.parametrize("small_disk", ["64k"], indirect=True)
async def test_a_full_disk_costs_records_and_nothing_else(small_disk: Path) -> None:
    store = FolderRecords.open(small_disk)
    store.append_nowait(line("first"))
    assert len(await store.list_logs(HELLO)) == 1
    for count in range(200):
        store.append_nowait(line("x" * 1000 + str(count)))
        if count % 10 == 0:
            await store.list_logs(query(limit=1))
    kept = await store.list_logs(query(limit=10**6))
    assert store.dropped == 201 - len(kept) > 0
    assert "full" in store.problem
    for segment in list_segments(str(small_disk / "default" / "hello")):
        assert Path(segment.path).read_bytes().endswith(b"}\n"), "a failed append leaves no half line"
    await store.prune(NOW_S + 10**6)
    store.append_nowait(line("after"))
    assert [found.text for found in await store.list_logs(HELLO)] == ["after"]
    assert store.problem == ""
    await store.close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StorageFull, match="read-only"):
        FolderRecords.open(small_disk / "new")


async def test_readers_and_writers_at_once(tmp_path: Path) -> None:
    store = FolderRecords.open(tmp_path, segment_bytes=20_000)
    stop = threading.Event()

    async def read() -> int:
        last = 0
        while not stop.is_set():
            found = await store.list_invocations(query(limit=10**6))
            numbers = [int(item.id[12:], 16) for item in found]
            assert numbers == sorted(set(numbers)), "in order, none twice"
            assert len(numbers) >= last
            last = len(numbers)
        return last

    async def write() -> None:
        for count in range(1, 2001):
            store.append_nowait(invocation(count=count))
            if count % 100 == 0:
                await store.find_invocation("default", "hello", invocation(count=count).id)
        stop.set()

    await asyncio.gather(read(), read(), write())
    assert len(await store.list_invocations(query(limit=10**6))) == 2000
    await store.close()
