"""Sizes and durations as people write them: `256MiB`, `1.5GB`, `30s`, `2m30s`, `250ms`.

`parse_size` and `parse_duration` accept a number (already bytes or seconds) or a text and raise ValueError with what
was found and what would be accepted; `format_size` and `format_duration` write what the parsers read.
"""

from __future__ import annotations

import math
import re

_SIZES = {
    "": 1, "b": 1,
    "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9, "t": 10**12, "tb": 10**12,
    "ki": 2**10, "kib": 2**10, "mi": 2**20, "mib": 2**20, "gi": 2**30, "gib": 2**30, "ti": 2**40, "tib": 2**40,
}  # fmt: skip
_DURATIONS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_NUMBER = r"([0-9]{1,18}(?:\.[0-9]{1,30})?)"
_SIZE = re.compile(rf"\s*{_NUMBER}\s*([A-Za-z]*)\s*")
_PART = re.compile(rf"\s*{_NUMBER}\s*(ms|s|m|h|d|w)\s*")


def parse_size(value: str | int | float) -> int:
    """Bytes. Decimal (kB, MB) and binary (KiB, MiB) units; a bare number is bytes."""
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is not a size; write one like 256MiB or 1GB")
    if isinstance(value, (int, float)):
        if value < 0 or value != value or value in (float("inf"),):
            raise ValueError(f"{value!r} is not a size; a size is not negative")
        return int(value)
    found = _SIZE.fullmatch(value)
    if found is None or found[2].lower() not in _SIZES:
        raise ValueError(f"{value!r} is not a size; write one like 256MiB, 1.5GB or 1048576")
    factor = _SIZES[found[2].lower()]
    return int(float(found[1]) * factor) if "." in found[1] else int(found[1]) * factor


def parse_duration(value: str | int | float) -> float:
    """Seconds. Parts may be joined (`1m30s`); a bare number is seconds."""
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is not a duration; write one like 30s or 5m")
    if isinstance(value, (int, float)):
        if value < 0 or value != value or value in (float("inf"),):
            raise ValueError(f"{value!r} is not a duration; a duration is not negative")
        return float(value)
    parts = _PART.findall(value)
    if not parts or _PART.sub("", value):
        try:
            return parse_duration(float(value))
        except ValueError:
            raise ValueError(f"{value!r} is not a duration; write one like 250ms, 30s, 5m or 1h30m") from None
    return sum(float(number) / 1000 if unit == "ms" else float(number) * _DURATIONS[unit] for number, unit in parts)


def format_size(size_bytes: int) -> str:
    """The shortest exact binary writing: 268435456 -> `256MiB`; else bytes."""
    for unit, factor in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size_bytes and size_bytes % factor == 0:
            return f"{size_bytes // factor}{unit}"
    return str(size_bytes)


def format_duration(duration_s: float) -> str:
    """A writing that reads well: 90 -> `90s`, 3600 -> `1h`, 0.25 -> `250ms`, 1.5 -> `1.5s`. Exact from 0.1 ms up."""
    if not math.isfinite(duration_s):
        return f"{duration_s:g}s"  # for messages: no parser takes it
    for unit, factor in (("w", 604800), ("d", 86400), ("h", 3600), ("m", 60)):
        if duration_s and duration_s % factor == 0 and duration_s >= factor:
            return f"{int(duration_s // factor)}{unit}"
    if duration_s < 1 and (thousandths := round(duration_s * 1000)) and thousandths / 1000 == duration_s:
        return f"{thousandths}ms"
    text = repr(float(duration_s))
    if "e" in text:
        text = f"{duration_s:.18f}"
    return text.rstrip("0").rstrip(".") + "s" if "." in text else text + "s"
