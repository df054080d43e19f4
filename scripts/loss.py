"""`make loss`: 50,000 events through every source of the platform's own while its parts are killed 30 times; what came
of it goes to docs/contracts/loss-results.md."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/contracts/loss-results.md"
SIZE = "50000 30"
_INTRO = """# Loss test: results

Written by `make loss` ([how](../../tests/e2e/losing.py)). Each event is handed over until it is acknowledged, one
in 211 makes its function fail for good, and parts are killed with SIGKILL while events flow. Every acknowledged
event must have exactly one outcome: done, or given up to a dead letter. A call is repeated when a part died before
its end was recorded; an effect with an idempotency key (the event's name) must not be.

{events} events; killed: {kills}. The queue with order and the stream kept the order of each key.

| source | accepted | done | given up | lost | repeated calls | repeated effects |
|---|---|---|---|---|---|---|
"""


def page(found: dict[str, Any]) -> str:
    """The page that tells what was found."""
    kills = ", ".join(f"{part} {count}" for part, count in sorted(found["kills"].items()))
    intro = _INTRO.format(events=found["events"], kills=kills)
    lines = intro.splitlines()
    for row in found["sources"]:
        lost = row["accepted"] - row["done"] - row["given_up"]
        cells = (row["source"], row["accepted"], row["done"], row["given_up"], lost)
        lines.append("| " + " | ".join(map(str, (*cells, row["repeated_calls"], row["repeated_effects"]))) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run it; its exit status."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.json"
        environment = {**os.environ, "FUYUN_LOSS": SIZE, "FUYUN_LOSS_RESULTS": str(results)}
        command = [sys.executable, "-m", "pytest", "-q", "-s", "tests/e2e/test_loss.py"]
        status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        if status == 0:
            PAGE.write_text(page(json.loads(results.read_text())), encoding="utf-8")
            print(f"wrote {PAGE.relative_to(ROOT)}")
    return status


if __name__ == "__main__":
    sys.exit(main())
