"""Promises 2, 3 and 6: whatever is killed while events flow, each reaches exactly one recorded outcome, sources with
order keep it, and work with a key is done once. FUYUN_LOSS="50000 30" (events, kills) is the whole: `make loss`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e import losing
from tests.running import Platform

EVENTS, KILLS = map(int, os.environ.get("FUYUN_LOSS", "600 4").split())

pytestmark = [pytest.mark.e2e, pytest.mark.slow_lane, pytest.mark.timeout(240 + EVENTS / 10 + KILLS * 20)]


def test_nothing_is_lost_and_order_is_kept(start_platform: Callable[..., Platform]) -> None:
    found = losing.play(start_platform(), EVENTS, KILLS, 4, print)
    rows = found.rows()
    print(json.dumps({"kills": found.kills, "sources": rows}, indent=1))
    if "FUYUN_LOSS_RESULTS" in os.environ:
        kept = {"events": sum(row["accepted"] for row in rows), "kills": found.kills, "sources": rows}
        Path(os.environ["FUYUN_LOSS_RESULTS"]).write_text(json.dumps(kept, indent=1) + "\n")

    for source, one in found.producers.items():
        assert len(one.accepted) == one.count
        good = {name for name in one.accepted if not name.endswith("!")}
        poison = set(one.accepted) - good
        assert good <= set(found.effects), f"{source}: {sorted(good - set(found.effects))[:5]} had no outcome"
        assert poison <= set(found.dead), f"{source}: {sorted(poison - set(found.dead))[:5]} had no outcome"
        assert not poison & set(found.effects)
        assert not good & set(found.dead), f"{source}: given up for what it did not do"
        assert max(found.effects[name] for name in good) == 1
        assert {name for name in poison if found.dead[name] > 1} <= one.cut
    for source in ("stream", "fifo"):
        for key, numbers in found.order(source).items():
            assert numbers == sorted(numbers), f"{source} {key} lost its order"
