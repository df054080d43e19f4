"""`make attacks`: runs tests/e2e/test_attacks.py and writes docs/contracts/isolation-results.md from its outcomes."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from fuyun.testing.attacks.attempt import NEVER, all_attempts
from fuyun.testing.attacks.pressure import PRESSURES
from fuyun.testing.attacks.wasi import WASI
from scripts.docs import row

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/contracts/isolation-results.md"
#: Isolation classes, with functions of runtime `python3`; runtimes whose programs make the same attempts in class
#: `sandbox`. A column is for root and rootless, except for class `process`, where they differ.
CLASSES, RUNTIMES = ("sandbox", "oci:crun", "oci:runc"), ("custom", "web", "nodejs", "java")
COLUMNS = (*CLASSES, *RUNTIMES, "process, root", "process, rootless")
#: What is not in the register: it takes two functions.
SHARE = "CPU time"
_NOTE = """<!-- Written by `make attacks` from a run. Change the attempts, then run it again. -->

# What became of every attempt

Each attempt of `src/fuyun/testing/attacks` was made inside instances of class `sandbox`, one that was a blank and one
forked from a template, of the classes `oci:crun` and `oci:runc`, and of class `process`, by a platform started as root
and one started without any right. An outcome is the error the kernel gave, `nothing` (what was looked for is not
there), an error code of the platform, or **done**: it succeeded. Class `process` isolates nothing, so as root it must:
that is what shows that a refusal is the sandbox's. A dash: not tried there, because it would harm the host, because
every kernel refuses it, or, for CPU time, because the same control groups divide it. `not tried`: it would change
the host, and cannot be kept from that without root. The test fails where an outcome is not one that the
attempt states ([contract](isolation.md)).

The columns `custom`, `web`, `nodejs` and `java` are functions of these runtimes in class `sandbox`, as root and
rootless: the same attempts, made by a program that the instance's keeper has started, or that Node or the JVM starts.
Where root and rootless differ, both outcomes are given. What a WebAssembly module can try stands at the end.
"""


def outcome_of(found: Mapping[str, Mapping[str, str]], column: str, name: str) -> str:
    """A cell of the table: one outcome for root and rootless where they agree."""
    places = (column,) if column.startswith("process") else (f"{column}, root", f"{column}, rootless")
    return ", ".join(dict.fromkeys(found.get(place, {}).get(name, "–") for place in places))


def table(found: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """The lines of the page; `found` holds outcomes by column and name."""
    yield from _NOTE.splitlines()
    yield f"\nKernel {platform.release().partition('-')[0]}, {platform.machine()}."
    subject = ""
    for one in all_attempts().values():
        if one.subject != subject:
            subject = one.subject
            yield f"\n## {subject[:1].upper()}{subject[1:]}\n"
            yield row("attempt", "tries to", *COLUMNS, "refused by")
            yield row(*["---"] * (3 + len(COLUMNS)))
        outcomes = [outcome_of(found, column, one.name) for column in COLUMNS]
        yield row(one.name, one.tries, *(f"**{text}**" if text == "done" else text for text in outcomes), one.why)
    yield "\n## Exhaustion\n"
    yield "A neighbour at work beside it answers rightly throughout, and new instances start.\n"
    yield row("attempt", "tries to", *CLASSES, "bounded by")
    yield row(*["---"] * (3 + len(CLASSES)))
    for pressed in PRESSURES.values():
        outcomes = [outcome_of(found, column, pressed.name) for column in CLASSES]
        yield row(pressed.name, pressed.takes, *outcomes, pressed.why)
    outcomes = [outcome_of(found, column, SHARE) for column in CLASSES]
    why = "the control group's weight (rootless: in a delegated one)"
    yield row(SHARE, "starve a neighbour on the same core with 16 processes", *outcomes, why)
    yield "\n## WebAssembly modules\n"
    yield "Each is made twice by a function of runtime `wasm`, whose instance serves on after it.\n"
    yield row("attempt", "tries to", "wasm", "refused by")
    yield row(*["---"] * 4)
    for tried in WASI.values():
        yield row(tried.name, tried.tries, outcome_of(found, "wasm", tried.name), tried.why)


def main() -> int:
    """Run and write; pytest's exit code."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "found.json"
        code = subprocess.run(
            [sys.executable, "-m", "pytest", "tests/e2e/test_attacks.py", "-q"],
            cwd=ROOT, env={**os.environ, "FUYUN_ATTACKS": str(place)}, check=False,
        ).returncode  # fmt: skip
        found = json.loads(place.read_text())
    if code == 0:
        PAGE.write_text("\n".join(table(found)) + "\n", encoding="utf-8")
    tried = sum(len(outcomes) for outcomes in found.values())
    print(f"{tried} attempts, {sum(one.outside != NEVER for one in all_attempts().values())} of them shown to succeed")
    return code


if __name__ == "__main__":
    sys.exit(main())
