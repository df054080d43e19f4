"""Memory that control groups of frozen instances give back: on recorded trees."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from fuyun.runtime.cgroups import GroupV1, GroupV2
from tests.waiting import wait_until


def test_a_group_of_version_2_may_swap_while_its_memory_is_taken_back(tmp_path: Path) -> None:
    folder = tmp_path / "g"
    group = GroupV2(str(folder))
    assert group.reclaim() is False, "before Linux 5.19"
    (folder / "memory.swap.max").write_text("")
    (folder / "memory.current").write_text("8192\n")
    os.mkfifo(folder / "memory.reclaim")
    asked: list[str] = []

    def kernel() -> None:
        wait_until(lambda: (folder / "memory.swap.max").read_text() == "max", "it to be allowed to swap")
        asked.append((folder / "memory.reclaim").read_text())  # until it is opened here, nobody can write to it

    reader = threading.Thread(target=kernel)
    reader.start()
    assert group.reclaim() is True
    reader.join()
    assert asked == ["8192"]
    assert (folder / "memory.swap.max").read_text() == "0"


def test_version_1_takes_memory_back_where_it_can(tmp_path: Path) -> None:
    group = GroupV1({"memory": str(tmp_path / "memory"), "pids": str(tmp_path / "pids")})
    assert group.reclaim() is False
    (tmp_path / "memory/memory.force_empty").write_text("")
    assert group.reclaim() is True
    assert (tmp_path / "memory/memory.force_empty").read_text() == "0"
