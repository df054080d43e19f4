"""Ids: unique here, in threads and after a fork; in order of time."""

from __future__ import annotations

import os
import threading

import pytest

from fuyun.base import clock
from fuyun.base.ids import new_id, time_of


def test_an_id_knows_its_time() -> None:
    before_s = clock.wall_s()
    id_ = new_id()
    after_s = clock.wall_s()
    assert before_s - 0.001 <= time_of(id_) <= after_s
    assert len(id_) == 32


def test_ids_of_one_process_differ_and_rise() -> None:
    ids = [new_id() for _ in range(20_000)]
    assert len(set(ids)) == len(ids)
    stamps = [id_[:12] for id_ in ids]
    assert stamps == sorted(stamps)


def test_ids_of_many_threads_differ() -> None:
    made: list[list[str]] = [[] for _ in range(4)]
    threads = [
        threading.Thread(target=lambda mine: mine.extend(new_id() for _ in range(5000)), args=(mine,)) for mine in made
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id_ for mine in made for id_ in mine}) == 20_000


def test_ids_made_after_a_fork_differ_from_the_parents() -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, "\n".join(new_id() for _ in range(100)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        theirs = pipe.read().split("\n")
    os.waitpid(child, 0)
    ours = [new_id() for _ in range(100)]
    assert len({id_[12:22] for id_ in theirs}) == 1
    assert theirs[0][12:22] != ours[0][12:22]
    assert not set(theirs) & set(ours)


@pytest.mark.parametrize("text", ["", "x" * 32, "0x" + "0" * 30, "A" * 32, "0" * 31, "0" * 33, "0" * 32 + "\n"])
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a Fuyun id"):
        time_of(text)
