"""`python -m bench [ROW ...]`: measure, print the table, write bench/results/latest.json and latest.md."""

from __future__ import annotations

import argparse
import json
import os
import platform as host
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.measure import Result, repeat
from bench.rows import ROWS
from bench.stage import Stage
from scripts import compiled
from tests import leaks, running

RESULTS = Path(__file__).resolve().parent / "results"


def figure(value: float) -> str:
    """A number with three significant digits, or all of them before the point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def cells(result: Result) -> list[str]:
    """A result as the table shows it."""
    row, middle, ratios = result.row, result.middle, result.ratios
    sign = "≥" if row.better == "higher" else "≤"
    suffix = "" if row.absolute else " ×"
    return [
        row.what,
        f"{figure(middle.ours)} {row.unit}",
        "-" if row.absolute else f"{figure(middle.reference)} {row.unit} ({row.reference})",
        f"{figure(result.median)}{suffix}",
        f"{figure(ratios[0])} … {figure(ratios[-1])}",
        f"{sign} {row.budget:g}{suffix}",
        f"{sign} {row.goal:g}{suffix}",
        result.verdict,
    ]


HEADINGS = ("what", "Fuyun", "reference, same run", "ratio", "spread", "budget", "goal", "reached")


def machine() -> dict[str, Any]:
    """Where it was measured."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        host.machine(),
    )
    return {
        "cpu": cpu, "cores": os.cpu_count(), "kernel": host.release(), "python": host.python_version(),
        "uid": os.getuid(), "load_before": os.getloadavg()[0],
    }  # fmt: skip


def write(results: Sequence[Result], where: dict[str, Any], name: str) -> None:
    """The same figures for machines and for people."""
    RESULTS.mkdir(exist_ok=True)
    document = {"machine": where, "rows": [result.as_json() for result in results]}
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    lines = [
        f"Measured on {where['cores']} cores of {where['cpu']}, Linux {where['kernel']}, Python {where['python']}.",
        "",
    ]
    lines += ["| " + " | ".join(HEADINGS) + " |", "| " + " | ".join("---" for _ in HEADINGS) + " |"]
    lines += ["| " + " | ".join(cells(result)) + " |" for result in results]
    (RESULTS / f"{name}.md").write_text("\n".join(lines) + "\n")


def show(results: Sequence[Result]) -> None:
    """The table on the terminal."""
    table = Table(*HEADINGS)
    for result in results:
        table.add_row(*cells(result), style="red" if result.verdict == "OVER" else "")
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 1 when a row is over its budget."""
    known = [row.name for row in ROWS]
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"which rows: {', '.join(known)} (all by default)")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions per row (default 3)")
    parser.add_argument("--interpreted", action="store_true", help="leave the invoke path as it is without a compiler")
    parser.add_argument("--quick", action="store_true", help="short loads: to try the harness out, not for figures")
    options = parser.parse_args(argv)
    if unknown := set(options.rows) - set(known):
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    where = machine()
    leaks.adopt_orphans()
    results: list[Result] = []
    account = running.own_account()
    if not options.interpreted:
        print("compiling the invoke path ...", file=sys.stderr, flush=True)
        account.env["PYTHONPATH"] = str(compiled.tree())
    with running.running(account, inherits=True) as platform:
        stage = Stage(platform, options.quick)
        for row in ROWS:
            if not options.rows or row.name in options.rows:
                print(f"{row.name} ...", file=sys.stderr, flush=True)
                results.append(repeat(row, stage, 1 if options.quick else options.repeat))
    show(results)
    # Partial and quick runs never replace the figures that the documentation shows.
    partial = options.rows or options.quick or options.interpreted
    write(results, where, "partial.local" if partial else "latest")
    return int(any(result.verdict == "OVER" for result in results))


if __name__ == "__main__":
    sys.exit(main())
