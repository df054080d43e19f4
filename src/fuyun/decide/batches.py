"""What a function's answer says about the batch it was called with. Pure.

All of it is done, unless the answer names what is not: `{"failed": [ID, ...]}`, or as AWS Lambda has it
`{"batchItemFailures": [{"itemIdentifier": ID}, ...]}`. Ids are those of the events.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec


def named_failures(body: bytes, ids: Collection[str]) -> frozenset[str]:
    """Ids of the events that the answer says are not done. All of them when it names one that was not in the batch: it
    speaks of something else, and nothing may be lost over a misunderstanding."""
    try:
        answer = msgspec.json.decode(body) if body else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return frozenset()
    if not isinstance(answer, dict):
        return frozenset()
    named = answer.get("failed")
    if named is None and isinstance(answer.get("batchItemFailures"), list):
        named = [item.get("itemIdentifier") if isinstance(item, dict) else None for item in answer["batchItemFailures"]]
    if not isinstance(named, list) or not named:
        return frozenset()
    known = frozenset(ids)
    found = frozenset(item if isinstance(item, str) else "" for item in named)
    return found if found <= known else known
