"""How many asynchronous invocations are accepted durably, beside rows that SQLite commits one by one."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import time

from bench.measure import Row, Sample
from bench.stage import HELLO, STATE, Stage

CONNECTIONS = 64
#: They wait, so that only accepting them is measured.
_HEADERS = ("fuyun-invocation-type: async", "fuyun-delay: 30d")


def commits_per_second(times: int) -> float:
    """Single-row commits of one connection, with the platform's own journal mode and fsync policy, on its disk."""
    STATE.mkdir(parents=True, exist_ok=True)
    path = STATE / "commits.db"
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=WAL").close()
        connection.execute("PRAGMA synchronous=FULL").close()
        connection.execute("CREATE TABLE rows (text TEXT)")
        began_s = time.perf_counter()
        for _ in range(times):
            connection.execute("INSERT INTO rows VALUES ('hello')")
        return times / (time.perf_counter() - began_s)
    finally:
        connection.close()
        for file in STATE.glob("commits.db*"):
            file.unlink()


def accepts(stage: Stage) -> Sample:
    """Requests per second that are answered with 202."""
    tool = shutil.which("wrk")
    if tool is None:
        raise RuntimeError("wrk is not installed; `make tools` installs it")
    platform = stage.platform
    platform.deploy("bench-accepts", HELLO)
    try:
        reference = commits_per_second(stage.times(2000))
        headers = [part for text in (f"authorization: Bearer {platform.key}", *_HEADERS) for part in ("-H", text)]
        seconds = round(stage.seconds(5))
        done = subprocess.run(
            [tool, "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", *headers, platform.url("bench-accepts")],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        if "Non-2xx" in done:
            raise RuntimeError(f"some were refused:\n{done}")
        found = re.search(r"Requests/sec:\s+([\d.]+)", done)
        assert found is not None, done
    finally:
        platform.remove("bench-accepts")
    return Sample(float(found[1]), reference)


ROWS = (
    Row(
        name="accepts", what=f"asynchronous invocations accepted durably, {CONNECTIONS} connections",
        reference="single-row commits of SQLite, same journal mode and fsync", unit="1/s", budget=3.0, goal=10.0,
        better="higher", measure=accepts,
    ),
)  # fmt: skip
