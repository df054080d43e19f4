"""How many asynchronous invocations are accepted durably, beside rows that SQLite commits one by one."""

from __future__ import annotations

import sqlite3
import time

from bench.measure import Row, Sample
from bench.rows.warm import wrk
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
    platform = stage.platform
    platform.deploy("bench-accepts", HELLO)
    try:
        reference = commits_per_second(stage.times(2000))
        key = f"authorization: Bearer {platform.key}"
        ours = wrk(platform.url("bench-accepts"), CONNECTIONS, stage.seconds(5), (key, *_HEADERS))
    finally:
        platform.remove("bench-accepts")
    return Sample(ours, reference)


ROWS = (
    Row(
        name="accepts", what=f"asynchronous invocations accepted durably, {CONNECTIONS} connections",
        reference="single-row commits of SQLite, same journal mode and fsync", unit="1/s", budget=3.0, goal=10.0,
        better="higher", measure=accepts,
    ),
)  # fmt: skip
