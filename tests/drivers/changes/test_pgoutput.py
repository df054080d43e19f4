"""What pgoutput says, byte by byte from its documentation; and whatever else might come."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuyun.drivers.changes.pgoutput import Decoder, value_of

BEGIN = b"B" + struct.pack(">QqI", 100, 1_000_000, 7)
COMMIT = b"C" + struct.pack(">BQQq", 0, 100, 108, 1_000_000)
RELATION = (
    b"R" + struct.pack(">I", 5) + b"public\0t\0d" + struct.pack(">H", 2)
    + b"\x01id\0" + struct.pack(">Ii", 23, -1) + b"\0a\0" + struct.pack(">Ii", 25, -1)
)  # fmt: skip


def row(*values: str | None) -> bytes:
    told = [
        b"n" if value is None else b"t" + struct.pack(">I", len(value.encode())) + value.encode() for value in values
    ]
    return struct.pack(">H", len(values)) + b"".join(told)


def insert(number: int) -> bytes:
    return b"I" + struct.pack(">I", 5) + b"N" + row(str(number), None)


def fed(*messages: bytes, skip: int = 0) -> Decoder:
    decoder = Decoder(skip=skip)
    for message in messages:
        decoder.feed(message)
    return decoder


def test_a_transaction() -> None:
    found = fed(BEGIN, RELATION, insert(1), insert(2), COMMIT)
    assert [(change.new, change.key, change.index) for change in found.changes] == [
        ({"id": 1, "a": None}, {"id": 1}, 0), ({"id": 2, "a": None}, {"id": 2}, 1),
    ]  # fmt: skip
    assert (found.changes[0].lsn, found.changes[0].xid, found.changes[0].at_s) == (100, 7, 946_684_801.0)
    assert found.ends == [(2, 108)]


def test_what_is_skipped_has_no_end() -> None:
    both = (BEGIN, RELATION, insert(1), COMMIT, BEGIN, insert(2), COMMIT)
    assert (fed(*both, skip=1).ends, len(fed(*both, skip=1).changes)) == ([(0, 108), (1, 108)], 1)
    assert (fed(*both, skip=2).ends, fed(*both, skip=2).changes) == ([(0, 108)], [])


def test_messages_of_others_are_passed_by() -> None:
    assert fed(BEGIN, b"O" + bytes(8) + b"x\0", b"Y" + bytes(4) + b"s\0n\0", b"M" + bytes(14), COMMIT).changes == []


@pytest.mark.parametrize("message", [b"", b"B", BEGIN[:-1], RELATION[:-3], insert(1)[:-1], b"I" + struct.pack(">I", 9)])
def test_what_is_cut_short_is_an_error(message: bytes) -> None:
    with pytest.raises(ValueError, match="pgoutput"):
        fed(BEGIN, RELATION, message)


@given(
    st.lists(
        st.sampled_from(b"BCRIUDTOYM").flatmap(lambda kind: st.binary(max_size=60).map(lambda b: bytes([kind]) + b))
    )
)
def test_no_bytes_do_more_than_an_error(messages: list[bytes]) -> None:
    decoder = fed(BEGIN, RELATION)
    for message in messages:
        try:
            decoder.feed(message)
        except ValueError:
            continue
    assert fed(BEGIN, RELATION, insert(1)).changes[0].new == {"id": 1, "a": None}


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [(16, "t", True), (16, "f", False), (20, "-9223372036854775808", -(2**63)), (701, "1.5", 1.5), (701, "NaN", "NaN"),
     (700, "-Infinity", "-Infinity"), (1700, "1.50", "1.50"),
     (1184, "2026-01-01 00:00:00+00", "2026-01-01 00:00:00+00")],
)  # fmt: skip
def test_values(kind: int, text: str, value: object) -> None:
    assert value_of(kind, text) == value
