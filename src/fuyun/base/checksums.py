"""Checksums that object storage speaks of, each with `update` and `digest` as hashlib's.

CRC-32C and CRC-64/NVME are awscrt's: 8 MB of memory, which the platform takes when a client first asks for one of them.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable, Iterable

_BYTES = {"CRC32": 4, "CRC32C": 4, "CRC64NVME": 8}
ALGORITHMS = (*_BYTES, "SHA1", "SHA256")


class Check:
    """One checksum under way."""

    def __init__(self, algorithm: str) -> None:
        """ValueError for one that is not of ALGORITHMS."""
        self.algorithm = algorithm
        self._value = 0
        self._hash = None
        if algorithm in _BYTES:
            self._step = _step_of(algorithm)
        elif algorithm in ALGORITHMS:
            self._hash = hashlib.new(algorithm.lower(), usedforsecurity=False)
        else:
            raise ValueError(f"{algorithm!r} is no checksum; known are {', '.join(ALGORITHMS)}")

    def update(self, data: bytes) -> None:
        """Take the next bytes."""
        if self._hash is not None:
            self._hash.update(data)
        else:
            self._value = self._step(data, self._value)

    def digest(self) -> bytes:
        """Of all bytes so far."""
        if self._hash is not None:
            return self._hash.digest()
        return self._value.to_bytes(_BYTES[self.algorithm], "big")

    @property
    def value(self) -> str:
        """The digest in base64, as S3 writes it."""
        return base64.b64encode(self.digest()).decode()


def composite(algorithm: str, values: Iterable[str]) -> str:
    """The checksum of parts' checksums (base64) in order, as S3 writes it: with the number of parts behind it."""
    check, count = Check(algorithm), 0
    for value in values:
        check.update(base64.b64decode(value))
        count += 1
    return f"{check.value}-{count}"


def combined(algorithm: str, parts: Iterable[tuple[str, int]]) -> str:
    """The checksum of the whole from (checksum in base64, bytes) of its parts in order. Only for CRCs; ValueError."""
    if algorithm not in _BYTES:
        raise ValueError(f"{algorithm} of a whole cannot be made of its parts'")
    from awscrt import checksums

    combine = getattr(checksums, f"combine_{algorithm.lower()}")
    total = 0
    for value, size in parts:
        total = combine(total, int.from_bytes(base64.b64decode(value), "big"), size)
    return base64.b64encode(total.to_bytes(_BYTES[algorithm], "big")).decode()


def _step_of(algorithm: str) -> Callable[[bytes, int], int]:
    if algorithm == "CRC32":
        return zlib.crc32
    from awscrt import checksums

    step: Callable[[bytes, int], int] = getattr(checksums, algorithm.lower())
    return step
