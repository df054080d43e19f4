"""Rates: a token bucket as a value."""

from __future__ import annotations

import math

import msgspec


class Bucket(msgspec.Struct, frozen=True):
    """A token bucket: `rate_per_s` flow in, at most `burst` stay. `at_s` is on the caller's clock."""

    rate_per_s: float
    burst: float
    tokens: float
    at_s: float


def new_bucket(rate_per_s: float, burst: float, now_s: float) -> Bucket:
    """A full bucket. rate_per_s and burst are positive."""
    return Bucket(rate_per_s, burst, burst, now_s)


def take(bucket: Bucket, now_s: float, tokens: float = 1.0) -> tuple[Bucket, float]:
    """(bucket, 0.0) with the tokens taken, or (bucket, seconds until they will be there); infinity: never, the burst is
    smaller. A clock that stands still or goes back adds nothing."""
    passed_s = max(0.0, now_s - bucket.at_s)
    filled = min(bucket.burst, bucket.tokens + passed_s * bucket.rate_per_s)
    at_s = max(now_s, bucket.at_s)
    if tokens <= filled:
        return Bucket(bucket.rate_per_s, bucket.burst, filled - tokens, at_s), 0.0
    wait_s = (tokens - filled) / bucket.rate_per_s if tokens <= bucket.burst else math.inf
    return Bucket(bucket.rate_per_s, bucket.burst, filled, at_s), wait_s
