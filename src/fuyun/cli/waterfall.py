"""Where the milliseconds of an invocation went, as lines for people."""

from __future__ import annotations

from collections.abc import Mapping

WIDTH = 40


def waterfall(phases: Mapping[str, float]) -> list[str]:
    """One line per phase that took time: name, milliseconds, and a bar placed where it happened."""
    total = sum(phases.values())
    if total <= 0:
        return []
    lines, before = [], 0.0
    for name, duration in phases.items():
        if duration > 0:
            start = round(before / total * WIDTH)
            length = max(1, round((before + duration) / total * WIDTH) - start)
            bar = " " * min(start, WIDTH - 1) + "━" * min(length, WIDTH)
            lines.append(f"  {name:<6} {duration:>9.2f} ms  {bar}")
        before += duration
    lines.append(f"  {'total':<6} {total:>9.2f} ms")
    return lines
