"""The start ladder: which rung a new instance starts from, which versions get a template, which templates go.

What is left to do from each rung (DESIGN section 5): a spare is a copy of a template that only goes on; a template has
the version's code loaded and only forks; a zygote of its layers has imported what it imports from them; a blank has a
sandbox and an interpreter and imports the code; a zygote has the interpreter and makes the sandbox too; from none the
interpreter itself starts.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

import msgspec

from fuyun.domain.functions import StartPolicy

Rung = Literal["spare", "template", "layers", "blank", "zygote", "none"]

#: A template of this size is taken to be slow to fork until a fork of it was measured (docs/decisions/0012): one with
#: numpy and pandas holds 57 MB, one of a function without packages 3 MB.
LARGE_BYTES = 24 * 2**20
#: Rungs that load the code, least work first.
_LOADING: tuple[Rung, ...] = ("layers", "blank", "zygote", "none")


class Choice(msgspec.Struct, frozen=True):
    """A rung and why, for the waterfall's start kind and the log."""

    rung: Rung
    reason: str


def choose_rung(
    available: Collection[Rung],
    policy: StartPolicy,
    init_ms: float = 0.0,
    template_ms: float = 0.0,
    several: bool = False,
) -> Choice:
    """The quickest rung that is free and allowed. `none` is always there.

    init_ms: measured milliseconds from a blank to ready (load and initializer). template_ms: measured milliseconds of
    a fork of the template. 0 means not measured yet. several: as in `worth_template`.
    """
    loading: Rung = next((rung for rung in _LOADING if rung in available), "none")
    if policy == "plain":
        return Choice("none", "the version asks for interpreters of its own")
    if policy == "blank":
        return Choice(loading, "the version asks to start from blanks")
    if "spare" in available:
        return Choice("spare", "a copy of its template waits")
    if "template" not in available:
        return Choice(loading, "no template is ready")
    if policy == "template":
        return Choice("template", "the version asks to start from its template")
    if several:
        return Choice("template", "several instances share the memory of their template")
    if loading == "blank" and 0 < init_ms < template_ms:
        return Choice("blank", f"loading takes {init_ms:.1f} ms, a fork of the template {template_ms:.1f} ms")
    return Choice("template", "the version is loaded already")


def worth_template(
    init_ms: float, template_from_ms: float, forkable: bool, policy: StartPolicy, several: bool = False
) -> bool:
    """Whether a version gets a template: it can be forked, and asks for it, takes long enough to load or has several
    instances.

    template_from_ms: the setting of that name; loading in less is about as quick as a fork. several: the version has,
    or is to keep, so many instances that sharing a template's memory pays: one that is forked from it holds a third
    less of its own than one that loaded the code itself (docs/decisions/0009).
    """
    if not forkable or policy in ("blank", "plain"):
        return False
    return policy == "template" or several or init_ms >= template_from_ms


def worth_spare(fork_ms: float, size_bytes: int, spare_from_ms: float) -> bool:
    """Whether a template keeps a copy of itself forked ahead: a fork of it takes long, or, as long as none was measured
    (0), will because it is large."""
    return fork_ms >= spare_from_ms if fork_ms > 0 else size_bytes >= LARGE_BYTES


def evict(templates: Sequence[tuple[str, int, float, float]], budget_bytes: int) -> list[str]:
    """Keys of the templates to drop so that the rest fits the budget, the least worth first.

    templates: (key, bytes, last used in seconds, milliseconds saved per start). Worth is milliseconds saved per byte
    and per second of age, age counted from the newest use: a template used twice as long ago is taken to be used half
    as often (the size-aware GreedyDual rule of Cao and Irani, 1997, with recency for frequency). The most worth is kept
    first; a smaller one takes the room a larger one does not fit.
    """
    newest_s = max((last_used_s for _, _, last_used_s, _ in templates), default=0.0)

    def worth(template: tuple[str, int, float, float]) -> tuple[float, float, int, str]:
        key, size_bytes, last_used_s, saved_ms = template
        return saved_ms / max(1, size_bytes) / (1.0 + newest_s - last_used_s), last_used_s, -size_bytes, key

    left_bytes = budget_bytes
    dropped: list[str] = []
    for key, size_bytes, _, _ in sorted(templates, key=worth, reverse=True):
        if size_bytes <= left_bytes:
            left_bytes -= size_bytes
        else:
            dropped.append(key)
    return dropped[::-1]
