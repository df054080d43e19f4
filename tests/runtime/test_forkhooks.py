"""Hooks that modules register for forks: not run for blanks, run for an author's forks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.runtime.test_interpreters import interpreters
from tests.runtime.test_rehearsal import run

PROGRAM = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from fuyun.runtime import forkhooks
forkhooks.collect()
import random, threading
said = []
for name in "ab":
    os.register_at_fork(
        before=lambda name=name: said.append(name + " before"),
        after_in_parent=lambda name=name: said.append(name + " parent"),
        after_in_child=lambda name=name: said.append(name + " child"),
    )
forkhooks.settle()
os.register_at_fork(after_in_child=lambda: said.append("later"))

def fork():
    del said[:]
    read, write = os.pipe()
    number = random.random()
    state = random.getstate()
    if os.fork() == 0:
        os.write(write, json.dumps([said, random.getstate() == state]).encode())
        os._exit(0)
    os.wait()
    child = json.loads(os.read(read, 1000))
    return [list(said), *child]

found = [fork()]
forkhooks.arm()
found.append(fork())
forkhooks.arm(False)
found.append(fork())
print(json.dumps(found))
"""


@pytest.mark.parametrize("python", interpreters(), ids=lambda path: Path(path).name)
def test_they_run_while_armed_and_in_order(tmp_path: Path, python: str) -> None:
    quiet, armed, again = json.loads(run(tmp_path, python, PROGRAM)[0])
    assert quiet == again == [[], ["later"], True]  # the hook of `random` has not run either
    before = ["b before", "a before"]
    assert armed == [[*before, "a parent", "b parent"], [*before, "a child", "b child", "later"], False]
