"""What the rungs of the start ladder are worth: milliseconds that a start from one saves over the next lower one."""

from __future__ import annotations

import msgspec


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """Measured milliseconds; 0 where nothing was measured yet."""

    launch_ms: float = 0.0  # an interpreter started in a minimal root: what a zygote stands for
    spawn_ms: float = 0.0  # a sandbox forked from the zygote: a blank
    import_ms: float = 0.0  # modules of a set of layers imported: a zygote of layers
    load_ms: float = 0.0  # a version loaded in a blank: a template
    fork_ms: float = 0.0  # an instance forked from the template: a spare
    take_ms: float = 0.0  # the spare taken


def of_rung(rung: str, times: Times) -> tuple[float | None, float | None]:
    """(what the next start from this rung waits for the rung itself, what it saves); None where not measured. `rung` is
    one of `starts.Rung`.

    A zygote still spawns, a blank is there, a zygote of layers forks and spares the imports, a template forks, a spare
    is taken.
    """
    if rung == "zygote":
        return _known(times.spawn_ms), _known(times.launch_ms)
    if rung == "blank":
        return 0.0, _known(times.spawn_ms)
    if rung == "layers":
        return _known(times.fork_ms), _known(times.import_ms)
    if rung == "template":
        return _known(times.fork_ms), _less(times.load_ms, times.fork_ms)
    if rung == "spare":
        return _known(times.take_ms), _less(times.fork_ms, times.take_ms)
    return _known(times.launch_ms), 0.0


def of_start(rung: str, took_ms: float, times: Times) -> float | None:
    """What a start that took `took_ms` from `rung` saved; None where the rung below was not measured.

    What was forked from a template, its spare or not, is held against loading in a blank.
    """
    if rung in ("template", "spare"):
        return _less(times.load_ms, took_ms)
    return of_rung(rung, times)[1]


def _known(value_ms: float) -> float | None:
    return value_ms if value_ms > 0 else None


def _less(lower_ms: float, own_ms: float) -> float | None:
    """Never below zero: a rung that was slower than the one below saved nothing."""
    return max(0.0, lower_ms - own_ms) if lower_ms > 0 and own_ms > 0 else None
