"""Sizes and durations as people write them: `256MiB`, `1.5GB`, `30s`, `2m30s`, `250ms`.

`parse_size` and `parse_duration` accept a number (already bytes or seconds) or a text and raise ValueError with what
was found and what would be accepted; `format_size` and `format_duration` write what the parsers read.
"""

from __future__ import annotations

import re

_SIZES = {
    "": 1, "b": 1,
    "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9, "t": 10**12, "tb": 10**12,
    "ki": 2**10, "kib": 2**10, "mi": 2**20, "mib": 2**20, "gi": 2**30, "gib": 2**30, "ti": 2**40, "tib": 2**40,
}  # fmt: skip
_DURATIONS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")


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
    return int(float(found[1]) * _SIZES[found[2].lower()])


def parse_duration(value: str | int | float) -> float:
    """Seconds. Parts may be joined (`1m30s`); a bare number is seconds."""
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is not a duration; write one like 30s or 5m")
    if isinstance(value, (int, float)):
        if value < 0 or value != value or value in (float("inf"),):
            raise ValueError(f"{value!r} is not a duration; a duration is not negative")
        return float(value)
    text = value.strip().replace(" ", "")
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        try:
            return parse_duration(float(text))
        except ValueError:
            raise ValueError(f"{value!r} is not a duration; write one like 250ms, 30s, 5m or 1h30m") from None
    return float(sum(float(number) * _DURATIONS[unit] for number, unit in parts))


def format_size(size_bytes: int) -> str:
    """The shortest exact binary writing: 268435456 -> `256MiB`; else bytes."""
    for unit, factor in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size_bytes and size_bytes % factor == 0:
            return f"{size_bytes // factor}{unit}"
    return str(size_bytes)


def format_duration(duration_s: float) -> str:
    """The shortest exact writing: 90 -> `90s`, 3600 -> `1h`, 0.25 -> `250ms`."""
    for unit, factor in (("w", 604800), ("d", 86400), ("h", 3600), ("m", 60)):
        if duration_s and duration_s % factor == 0 and duration_s >= factor:
            return f"{int(duration_s // factor)}{unit}"
    if duration_s == int(duration_s):
        return f"{int(duration_s)}s"
    return f"{round(duration_s * 1000, 6):g}ms"
