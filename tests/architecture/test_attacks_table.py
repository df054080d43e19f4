"""The table of attacks lists exactly the attempts there are, tried where they should be, and none that got out."""

from __future__ import annotations

import re

from fuyun.testing.attacks.attempt import DONE, NEVER, all_attempts
from fuyun.testing.attacks.pressure import PRESSURES
from fuyun.testing.attacks.wasi import WASI
from scripts import attacks

ATTEMPTS = all_attempts()


def rows() -> dict[str, list[str]]:
    """The table's cells by the attempt's name."""
    found: dict[str, list[str]] = {}
    for line in attacks.PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and cells[0] not in ("attempt", "---"):
            assert cells[0] not in found, f"{cells[0]} is listed twice"
            found[cells[0]] = cells[1:]
    return found


def test_the_table_lists_exactly_what_is_tried() -> None:
    assert list(rows()) == [*ATTEMPTS, *PRESSURES, attacks.SHARE, *WASI], "run `make attacks`"


def test_every_row_says_what_the_attempt_says() -> None:
    listed = rows()
    for name, one in ATTEMPTS.items():
        tries, *outcomes, why = listed[name]
        assert (tries, why) == (one.tries, one.why), "run `make attacks`"
        for outcome in outcomes[:-2]:
            assert set(outcome.split(", ")) <= set(one.refused), name
        if one.outside == NEVER:
            assert outcomes[-2:] == ["–", "–"]
        else:
            assert outcomes[-2] == f"**{DONE}**"
    for name, pressed in PRESSURES.items():
        for outcome in listed[name][1 : 1 + len(attacks.CLASSES)]:
            assert set(outcome.split(", ")) <= set(pressed.met), name
    for name, wasi in WASI.items():
        tries, outcome, why = listed[name]
        assert (tries, why) == (wasi.tries, wasi.why), "run `make attacks`"
        assert set(outcome.split(", ")) <= set(wasi.refused), name


def test_the_suite_is_as_large_as_it_says() -> None:
    assert len(ATTEMPTS) >= 60
    assert len([one for one in ATTEMPTS.values() if one.outside != NEVER]) >= len(ATTEMPTS) // 2
