"""What is remembered of an invocation."""

from __future__ import annotations

import msgspec
import pytest

from fuyun.domain.invocations import PHASES, Invocation, LogLine, Waterfall


def test_the_waterfall_has_its_phases_in_order() -> None:
    assert Waterfall.__struct_fields__ == PHASES
    assert Waterfall() == Waterfall(queue=0, place=0, start=0, init=0, run=0, send=0)


def record(**more: object) -> Invocation:
    fields: dict[str, object] = {
        "id": "0" * 32, "at_s": 1.5, "namespace": "n", "function": "f", "version": 3, "status": "ok",
        "start_kind": "template", "waterfall": {"run": 2.5}, "duration_ms": 3.0, **more,
    }  # fmt: skip
    return msgspec.convert(fields, Invocation)


def test_a_record_survives_the_disk_unchanged() -> None:
    before = record(error="", alias="live", billed_gb_s=0.25)
    assert msgspec.json.decode(msgspec.json.encode(before), type=Invocation) == before


@pytest.mark.parametrize(
    ("field", "value"), [("status", "fine"), ("start_kind", "hot"), ("version", "3"), ("colour", "red"), ("id", None)]
)
def test_a_record_of_another_shape_is_refused(field: str, value: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        record(**{field: value})


def test_a_log_line_keeps_any_text() -> None:
    line = LogLine(at_s=1.0, namespace="n", function="f", version=0, instance="i", text="tab\t\x00\u2028 ü")
    assert msgspec.json.decode(msgspec.json.encode(line), type=LogLine) == line
