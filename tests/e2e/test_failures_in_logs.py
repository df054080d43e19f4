"""A call that its function could not report is found in the log, with what to do, also while somebody follows it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.running import Platform
from tests.waiting import wait_until

pytestmark = pytest.mark.e2e

MIB = 2**20
ENDS = {
    "function_timed_out": ("import time\n\ndef handler(event, context):\n    time.sleep(60)\n", {"timeout_s": 0.5}),
    "function_out_of_memory": (
        "def handler(event, context):\n    held = []\n    while True:\n        held.append(bytearray(b'x' * 2**23))\n",
        {"memory_bytes": 64 * MIB},
    ),
    "function_exited": ("import os\n\ndef handler(event, context):\n    os._exit(3)\n", {}),
}


@contextmanager
def following(platform: Platform, name: str) -> Iterator[subprocess.Popen[str]]:
    """`fuyun logs NAME -f --json`."""
    process = platform.begin_cli("logs", name, "-f", "--json", "--since", "1h")
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("code", ENDS)
def test_a_failed_call_is_in_the_log(either_platform: Platform, code: str) -> None:
    source, spec = ENDS[code]
    name = code.replace("_", "-")
    either_platform.deploy(name, "def handler(event, context):\n    print('before')\n", **spec)
    good = either_platform.invoke(name, {})
    assert good.is_success
    either_platform.deploy(name, source, **spec)
    with following(either_platform, name) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["text"] == "before"  # it follows
        problem = either_platform.invoke(name, {}).json()
        assert problem["code"] == code
        line = json.loads(process.stdout.readline())
    assert (line["request"], line["level"]) == (problem["request_id"], "error")
    if code == "function_out_of_memory" and line["stream"] == "log":
        # Without control groups the limit is the process's own, and Python raises: the traceback says it.
        assert "MemoryError" in line["text"]
        either_platform.remove(name)
        return
    assert line["stream"] == "platform"
    assert line["text"].startswith(f"{code}: ")
    assert problem["detail"] in line["text"]
    assert problem.get("hint", "") in line["text"]
    wait_until(lambda: code in either_platform.cli("logs", name).stdout.decode(), "the line to be kept")
    told = either_platform.cli("logs", name, "--request", problem["request_id"]).stdout.decode()
    assert told.count(f"{code}: ") == 1
    assert code not in either_platform.cli("logs", name, "--request", good.headers["fuyun-request-id"]).stdout.decode()
    either_platform.remove(name)
