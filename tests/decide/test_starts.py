"""The start ladder and its templates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuyun.decide.starts import LARGE_BYTES, Choice, Rung, choose_rung, evict, worth_spare, worth_template
from fuyun.domain.functions import StartPolicy

ALL: tuple[Rung, ...] = ("template", "blank", "zygote", "none")
MIB = 2**20


@pytest.mark.parametrize(
    ("available", "policy", "rung"),
    [
        (ALL, "auto", "template"),
        (ALL, "template", "template"),
        (ALL, "blank", "blank"),
        (("spare", *ALL), "plain", "none"),
        (("blank", "zygote"), "auto", "blank"),
        (("blank", "zygote"), "template", "blank"),
        (("zygote",), "auto", "zygote"),
        (("template", "zygote"), "blank", "zygote"),
        (("template",), "blank", "none"),
        ((), "auto", "none"),
        (("spare", *ALL), "auto", "spare"),
        (("spare", *ALL), "template", "spare"),
        (("spare", *ALL), "blank", "blank"),
    ],
)
def test_the_quickest_allowed_rung_is_taken(available: tuple[Rung, ...], policy: StartPolicy, rung: Rung) -> None:
    assert choose_rung(available, policy).rung == rung


def test_a_blank_beats_a_template_that_forks_slowly() -> None:
    choice = choose_rung(ALL, "auto", init_ms=3.0, template_ms=9.0)
    assert choice == Choice("blank", "loading takes 3.0 ms, a fork of the template 9.0 ms")
    assert choose_rung(ALL, "template", init_ms=3.0, template_ms=9.0).rung == "template"
    assert choose_rung(ALL, "auto", init_ms=9.0, template_ms=3.0).rung == "template"
    assert choose_rung(("template", "zygote"), "auto", init_ms=3.0, template_ms=9.0).rung == "template"


def test_a_spare_is_quicker_than_a_blank() -> None:
    choice = choose_rung(("spare", *ALL), "auto", init_ms=3.0, template_ms=9.0)
    assert choice == Choice("spare", "a copy of its template waits")


@pytest.mark.parametrize(
    ("fork_ms", "size_bytes", "worth"),
    [
        (3.0, 0, True),
        (2.9, 0, False),
        (2.9, 10 * LARGE_BYTES, False),  # what was measured counts
        (0.0, LARGE_BYTES, True),
        (0.0, LARGE_BYTES - 1, False),
    ],
)
def test_what_forks_slowly_or_is_large_keeps_a_spare(fork_ms: float, size_bytes: int, worth: bool) -> None:
    assert worth_spare(fork_ms, size_bytes, 3.0) is worth


def test_several_instances_share_a_template() -> None:
    assert choose_rung(ALL, "auto", init_ms=3.0, template_ms=9.0, several=True).rung == "template"
    assert choose_rung(("blank", "zygote"), "auto", 3.0, 9.0, several=True).rung == "blank"
    assert choose_rung(ALL, "blank", 3.0, 9.0, several=True).rung == "blank"


@given(
    available=st.sets(st.sampled_from(("spare", *ALL))),
    policy=st.sampled_from(["auto", "template", "blank"]),
    init_ms=st.floats(0.0, 1e4),
    template_ms=st.floats(0.0, 1e4),
)
def test_only_what_is_there_is_chosen_and_with_a_reason(
    available: set[Rung], policy: StartPolicy, init_ms: float, template_ms: float
) -> None:
    choice = choose_rung(available, policy, init_ms, template_ms)
    assert choice.rung in available | {"none"}
    assert choice.reason
    assert not (policy == "blank" and choice.rung in ("spare", "template"))


def test_who_gets_a_template() -> None:
    assert worth_template(50.0, 8.0, True, "auto")
    assert worth_template(8.0, 8.0, True, "auto")
    assert not worth_template(7.9, 8.0, True, "auto")
    assert worth_template(0.1, 8.0, True, "template")
    assert not worth_template(500.0, 8.0, True, "blank")
    assert not worth_template(500.0, 8.0, False, "template")
    assert worth_template(0.1, 8.0, True, "auto", several=True)
    assert not worth_template(0.1, 8.0, False, "auto", several=True)
    assert not worth_template(0.1, 8.0, True, "blank", several=True)


def test_nothing_goes_while_all_fit() -> None:
    assert evict([("a", 10, 0.0, 5.0), ("b", 20, 9.0, 1.0)], 30) == []
    assert evict([], 0) == []


def test_the_least_used_goes_first() -> None:
    templates = [("old", 10 * MIB, 0.0, 50.0), ("new", 10 * MIB, 1000.0, 50.0), ("older", 10 * MIB, -500.0, 50.0)]
    assert evict(templates, 10 * MIB) == ["older", "old"]
    assert evict(templates, 25 * MIB) == ["older"]


def test_what_saves_little_goes_before_what_saves_much() -> None:
    templates = [("json", 10 * MIB, 100.0, 10.0), ("pandas", 10 * MIB, 100.0, 400.0)]
    assert evict(templates, 10 * MIB) == ["json"]


def test_one_that_never_fits_goes_and_the_rest_stays() -> None:
    assert evict([("huge", 900 * MIB, 100.0, 9000.0), ("small", MIB, 0.0, 1.0)], 10 * MIB) == ["huge"]


templates = st.lists(
    st.tuples(st.sampled_from("abcdefghij"), st.integers(0, 1000), st.floats(0.0, 1e5), st.floats(0.0, 1e4)),
    unique_by=lambda template: template[0],
    max_size=10,
)


@given(templates=templates, budget_bytes=st.integers(0, 3000))
def test_the_rest_fits_and_nothing_that_would_fit_is_dropped(
    templates: list[tuple[str, int, float, float]], budget_bytes: int
) -> None:
    dropped = evict(templates, budget_bytes)
    sizes = {key: size_bytes for key, size_bytes, _, _ in templates}
    kept_bytes = sum(size for key, size in sizes.items() if key not in dropped)
    assert kept_bytes <= budget_bytes
    assert all(kept_bytes + sizes[key] > budget_bytes for key in dropped)
    assert evict(templates[::-1], budget_bytes) == dropped
    by_key = {template[0]: template for template in templates}
    for lost in map(by_key.__getitem__, dropped):
        for key, size_bytes, last_used_s, saved_ms in templates:
            if key not in dropped and key != lost[0]:
                # nothing kept is worse in every respect than what was dropped
                assert (
                    size_bytes < lost[1]
                    or last_used_s > lost[2]
                    or saved_ms > lost[3]
                    or ((size_bytes, last_used_s, saved_ms) == lost[1:])
                )
