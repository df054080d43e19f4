"""Killed at any moment, and on a full disk: what was accepted is there until it was acknowledged, in every queue it was
published to; what was acknowledged does not come back."""

from __future__ import annotations

import signal
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fuyun.base import clock
from fuyun.domain.errors import StorageFull
from fuyun.domain.topics import Topic
from fuyun.testing.contracts.queues import PLENTY
from fuyun.testing.contracts.topics import subscribe
from tests import launching
from tests.drivers.queues.places import opened

REPOSITORY = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.anyio


@contextmanager
def moving(folder: Path, limit_bytes: int = 0, **env: str) -> Iterator[launching.Process]:
    with launching.begin("tests.drivers.queues.moving", str(folder), str(limit_bytes), **env) as process:
        yield process


async def furnish(folder: Path) -> None:
    async with opened(folder) as places:
        for name in ("q", "r", "s"):
            await places.create(name, visibility_s=3600)
        await places.topics.put(Topic(namespace="default", name="t", created_s=0.0), PLENTY)
        await subscribe(places, "r", "queue:r")
        await subscribe(places, "s", "queue:s")


def told(lines: list[str]) -> dict[str, set[str]]:
    """Word -> what was said after it."""
    found: dict[str, set[str]] = defaultdict(set)
    for line in lines:
        word, _, id_ = line.strip().partition(" ")
        found[word].add(id_)
    return found


async def check(folder: Path, said: dict[str, set[str]]) -> None:
    async with opened(folder) as places:
        kept = {name: await places.queues.peek("default", name, 10**6) for name in ("q", "r", "s")}
        ids = {name: [message.id for message in messages] for name, messages in kept.items()}
        assert all(len(found) == len(set(found)) for found in ids.values())
        left = set(ids["q"])
        assert said["sent"] - said["got"] <= left, "accepted and never given out: it is there"
        assert {id_ for id_ in said["sent"] if id_.endswith("b")} <= left, "never acknowledged: it is there"
        assert not said["done"] & left, "acknowledged: it is gone"
        assert {id_[:-1] for id_ in left if id_.endswith("b")} <= left | said["got"], "a batch came whole"
        assert ids["r"] == ids["s"], "a publication is in every queue or in none"
        assert said["published"] <= set(ids["r"])
        for name, messages in kept.items():
            queue, statistics = await places.queues.get("default", name, clock.wall_s())
            assert queue.messages == len(messages) == statistics.ready + statistics.in_flight
        first = {message.id: message for message in kept["q"]}
        for again in await places.receive(10**6, at_s=clock.wall_s() + 3601):
            assert again.receives == first[again.id].receives + 1, "how often it was given out survives, too"
            left.discard(again.id)
        assert not left, "what was with a receiver comes again"


@pytest.mark.parametrize("crash", ["", "catalog.before_commit:30", "catalog.after_commit:30"])
async def test_killed_while_messages_move(tmp_path: Path, crash: str) -> None:
    await furnish(tmp_path)
    with moving(tmp_path, FUYUN_CRASH_AT=crash) as process:
        assert process.stdout is not None
        lines = []
        if not crash:
            lines = [process.stdout.readline() for _ in range(300)]
            process.send_signal(signal.SIGKILL)
        # What the pipe still holds was acknowledged too; the last line may be torn.
        lines += [line for line in process.stdout if line.endswith("\n")]
        assert process.wait(30) == -signal.SIGKILL
    said = told(lines)
    assert said["sent"]
    assert said["published"]
    assert said["done"] or crash
    await check(tmp_path, said)


async def test_files_that_may_not_grow_refuse_new_messages_and_keep_the_old(tmp_path: Path) -> None:
    await furnish(tmp_path)
    with moving(tmp_path, 900_000) as process:
        assert process.stdout is not None
        lines = list(process.stdout)
        assert process.wait(30) == 0
    said = told(lines)
    assert len(said["sent"]) > 20
    assert all("storage_full" in text and "free space" in text for text in said["!"])
    assert said["!"]
    await check(tmp_path, said)


@pytest.mark.parametrize("small_disk", ["8000k"], indirect=True)
async def test_a_full_disk_keeps_what_it_took_and_goes_on_when_there_is_room(small_disk: Path) -> None:
    await furnish(small_disk)
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 4_500_000)
    async with opened(small_disk) as places:
        sent: list[str] = []

        async def fill() -> None:
            for _ in range(200):
                batch = [f"m{len(sent) + number}" for number in range(50)]
                sent.extend(one.id for one in await places.send(*batch, data=b"1" * 1000))

        with pytest.raises(StorageFull):
            await fill()
        assert len(sent) >= 100
        assert await places.held() == sent
        ballast.unlink()
        got: list[str] = []
        while batch := await places.receive(50):
            got += [message.id for message in batch]
            assert await places.settle(*(message.receipt for message in batch)) == {}
        assert got == sent
        assert len(await places.send("again")) == 1
