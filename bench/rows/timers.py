"""How late timers fire: from the time they are set for to the first line of a warm function."""

from __future__ import annotations

import statistics
import time

from bench.measure import Row, Sample
from bench.stage import Stage

TIMERS = 20
_CODE = """
import time
from datetime import datetime

def handler(event, context):
    late_s = time.time() - datetime.fromisoformat(event["time"].replace("Z", "+00:00")).timestamp()
    context.streams.append("bench-late", late_s * 1000)
"""


def lateness(stage: Stage) -> Sample:
    """Twenty timers of one function, all due in the same moment of every second."""
    platform = stage.platform
    url = f"{platform.api}/v1/namespaces/default/streams/bench-late"
    platform.http.put(url, json={}).raise_for_status()
    timers = [{"name": f"t{number}", "timer": {"every_s": 1}} for number in range(TIMERS)]
    platform.deploy(
        "bench-late",
        _CODE,
        triggers=timers,
        permissions={"streams": ["bench-late"]},
        concurrency=TIMERS,
        min_instances=1,
    )
    try:
        time.sleep(stage.seconds(12))  # the measurement itself: the timers fire meanwhile
        found: list[float] = []
        at = 0
        while page := platform.http.get(f"{url}/records", params={"from": at, "limit": 500}).raise_for_status().json():
            if not page["records"]:
                break
            found += [one["event"]["data"] for one in page["records"]]
            at = page["next"]
    finally:
        platform.remove("bench-late")
        platform.http.delete(url)
    found = sorted(found[TIMERS:])  # the first tick may meet a cold start
    return Sample(statistics.median(found), 0.0, {"p99_ms": found[len(found) * 99 // 100], "fired": len(found)})


ROWS = (
    Row(
        name="timer-late", what=f"lateness of timers p50, {TIMERS} at once, tick to the function's first line",
        reference="-", unit="ms", budget=100.0, goal=20.0, better="lower", measure=lateness, absolute=True,
    ),
)  # fmt: skip
