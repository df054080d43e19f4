"""Heads of calls: whatever was read before, each is read as JSON would be."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fuyun.runtime.heads import Heads
from fuyun.runtime.wire import META

ids = st.sampled_from(["0" * 32, "f" * 32, "1", "", "a" * 33])
deadlines = st.sampled_from([0, 1, 1_763_800_000_000, 1_763_800_000_001, 10**13])
rests = st.sampled_from(
    [{}, {"path": "/"}, {"path": "/a"}, {"path": "/", "headers": [["host", "ü"]]}, {"path": '","deadline_ms":'}]
)


def payload(head: dict[str, Any], body: bytes = b"") -> tuple[bytes, int]:
    """An INVOKE's payload, and where its head ends."""
    text = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()
    return META.pack(len(text)) + text + body, META.size + len(text)


@given(st.lists(st.tuples(ids, deadlines, rests, st.booleans()), max_size=12))
def test_every_head_is_read_as_json_reads_it(calls: list[tuple[str, int, dict[str, Any], bool]]) -> None:
    heads = Heads()
    for id_, deadline_ms, rest, first in calls:
        known = {"id": id_, "deadline_ms": deadline_ms}
        head = {**known, **rest} if first else {**rest, **known}
        assert heads.read(*payload(head, b'{"n":1}')) == head


def test_what_repeats_is_parsed_once_and_a_call_s_own_fields_stay_its_own() -> None:
    heads = Heads()
    read = [
        heads.read(
            *payload({"id": f"{n:032x}", "deadline_ms": 1_763_800_000_000 + n, "path": "/", "headers": [["a", "b"]]})
        )
        for n in range(4)
    ]
    assert [head["id"] for head in read] == [f"{n:032x}" for n in range(4)]
    assert [head["deadline_ms"] for head in read] == [1_763_800_000_000 + n for n in range(4)]
    assert read[2]["headers"] is read[3]["headers"]
    read[3]["path"] = "/changed"
    assert heads.read(*payload({**read[2], "id": "9" * 32}))["path"] == "/"
