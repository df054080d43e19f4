"""Which version serves a request: weights of an alias against a point in [0, 100).

A request's point is `point_of` its sticky key, else the next `point_at`. Versions lie on the line in the order of their
numbers, so that moving weight between two of them moves only the keys at their border: a canary that grows from 10 to
50 % keeps every key it had.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TypeVar

from fuyun.domain.errors import Internal
from fuyun.domain.functions import Weight

T = TypeVar("T")

#: 100 times the golden ratio's fraction: multiples of it, modulo 100, fill the line evenly at every scale
#: (Weyl's low-discrepancy sequence), so shares hold exactly over short runs too.
_STEP = 61.80339887498949


def cumulate(weights: Iterable[Weight]) -> list[tuple[float, int]]:
    """(upper end, version) of each version with a weight above 0, by version number; the last end is exactly 100.

    weights: as `domain.functions.check_weights` allows them.
    """
    ends: list[tuple[float, int]] = []
    end = 0.0
    for weight in sorted(weights, key=lambda weight: weight.version):
        if weight.weight > 0:
            end += weight.weight
            ends.append((end, weight.version))
    if ends:
        ends[-1] = (100.0, ends[-1][1])
    return ends


def choose(choices: Sequence[tuple[float, T]], point: float) -> T:
    """The choice whose stretch holds `point`; `choices` are (upper end, choice) with rising ends, the last one 100.

    Raises Internal for a point outside [0, 100) or for no choices.
    """
    if point >= 0:
        for end, choice in choices:
            if point < end:
                return choice
    raise Internal(
        f"no version lies at point {point} of {len(choices)} choices", hint="report this with the request id"
    )


def point_of(key: str, salt: str = "") -> float:
    """The point of a sticky key: uniform over keys, the same in every process and release.

    salt: separates aliases, so that one key is not in the first tenth of all of them.
    """
    data = f"{salt}\0{key}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=6).digest(), "big") * (100.0 / (1 << 48))


def point_at(count: int) -> float:
    """The point of the `count`-th request without a key (count from any start, one counter per alias)."""
    return count * _STEP % 100.0
