"""The test tools themselves: a leak is seen, a copied site runs, an archive's bytes are stable."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import leaks, running
from tests.waiting import wait_until


def test_a_pending_task_is_seen() -> None:
    loop = asyncio.new_event_loop()
    task = loop.create_task(asyncio.Event().wait(), name="forgotten")
    assert any("forgotten" in text for text in leaks.pending_tasks())
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()
    assert not any("forgotten" in text for text in leaks.pending_tasks())


def test_an_open_descriptor_is_seen(tmp_path: Path) -> None:
    before = leaks.open_descriptors()
    fd = os.open(tmp_path, os.O_RDONLY)
    assert leaks.settled_descriptors(before, set()) == {fd: str(tmp_path)}
    os.close(fd)
    assert leaks.settled_descriptors(before, set()) == {}


def test_an_orphan_is_seen_as_a_child() -> None:
    script = "import subprocess, sys; print(subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL).pid)"
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True)
    orphan = int(done.stdout)
    wait_until(lambda: orphan in leaks.children(), "the orphan to be adopted")
    os.kill(orphan, 9)
    os.waitpid(orphan, 0)
    assert orphan not in leaks.children()


def test_archives_are_stable() -> None:
    assert running.archive({"b": "2", "a": b"1"}) == running.archive({"a": "1", "b": b"2"})


def test_the_account_without_rights_runs_the_command(nobody: running.Account) -> None:
    done = subprocess.run(
        [nobody.python, "-c", "import os, fuyun, uvloop, httptools, sqlalchemy; print(os.getuid(), fuyun.__version__)"],
        env={"PATH": "/usr/bin:/bin", **nobody.env},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        **running._ids(nobody),
    )
    assert done.returncode == 0, done.stderr
    uid, version = done.stdout.split()
    assert version
    assert int(uid) != 0


@pytest.mark.parametrize("answers", [1, 3])
def test_waiting_is_bounded(answers: int) -> None:
    seen: list[int] = []

    def condition() -> bool:
        seen.append(1)
        return len(seen) >= answers

    assert wait_until(condition, "the answers")
    with pytest.raises(TimeoutError, match="a miracle"):
        wait_until(lambda: False, "a miracle", timeout_s=0.05)
