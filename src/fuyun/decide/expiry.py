"""What of a bucket expires by its lifecycle rules: pure, over one key's versions at a time.

Days are counted as S3 counts them: from when a version was written to the next midnight UTC after so many days
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from fuyun.domain.bucketrules import LifecycleRule
from fuyun.domain.objects import Object, Upload

_DAY_S = 86400.0


def due_s(since_s: float, days: int) -> float:
    """The midnight at which what began at `since_s` has been there for `days`."""
    return math.ceil((since_s + days * _DAY_S) / _DAY_S) * _DAY_S


def _concerns(rule: LifecycleRule, found: Object) -> bool:
    size = found.size_bytes
    return (
        rule.enabled
        and found.key.startswith(rule.prefix)
        and rule.tags.items() <= found.details.tags.items()
        and (rule.larger_than_bytes is None or size > rule.larger_than_bytes)
        and (rule.smaller_than_bytes is None or size < rule.smaller_than_bytes)
    )


def expired(rules: Iterable[LifecycleRule], versions: Sequence[Object], now_s: float) -> list[Object]:
    """Those of a key's versions (newest first, all of them) that are to go: the newest by a delete that names no
    version, others for good."""
    rules = [rule for rule in rules if rule.enabled]
    gone: list[Object] = []
    for place, found in enumerate(versions):
        if any(_goes(rule, versions, place, now_s) for rule in rules if found.marker or _concerns(rule, found)):
            gone.append(found)
    return gone


def _goes(rule: LifecycleRule, versions: Sequence[Object], place: int, now_s: float) -> bool:
    found = versions[place]
    if place:
        replaced_s = versions[place - 1].created_s
        return bool(
            rule.noncurrent_days
            and place > rule.newer_noncurrent
            and found.key.startswith(rule.prefix)
            and now_s >= due_s(replaced_s, rule.noncurrent_days)
        )
    if found.marker:
        return rule.lone_markers and len(versions) == 1 and found.key.startswith(rule.prefix)
    if rule.date_s is not None and now_s >= rule.date_s:
        return True
    return bool(rule.days) and now_s >= due_s(found.created_s, rule.days)


def abandoned(rules: Iterable[LifecycleRule], upload: Upload, now_s: float) -> bool:
    """Whether an upload has been open for too long."""
    return any(
        rule.enabled
        and rule.upload_days
        and upload.key.startswith(rule.prefix)
        and now_s >= due_s(upload.created_s, rule.upload_days)
        for rule in rules
    )
