"""Triggers as their tenants see and govern them: listed, paused, resumed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fuyun.base import clock
from fuyun.domain.brokers import masked
from fuyun.domain.errors import NotFound
from fuyun.domain.tenants import Principal
from fuyun.domain.triggers import Trigger
from fuyun.domain.wire import Wire
from fuyun.ports.triggers import TriggerStore
from fuyun.services.tenants import entry_of
from fuyun.services.triggers.bindings import Binding, Bindings

#: (when it ran last, when it does next) of a binding; None where that is not known.
Times = Callable[[Binding], tuple[float | None, float | None]]


class TriggerStatus(Wire, frozen=True, kw_only=True):
    """A trigger of a function, and how it stands. Times are wall-clock seconds."""

    function: str
    name: str
    kind: str
    trigger: Trigger
    paused: bool = False
    last_s: float | None = None  # it fired, or began
    next_s: float | None = None
    problem: str = ""  # why it does nothing
    lag_bytes: int | None = None  # of the log of a database: what is still to be read of it
    since_s: float | None = None  # since when it has the problem, or is connected
    lag: int | None = None  # events without an outcome; None where the source does not say how many wait
    held: int | None = None  # those of them that were taken
    age_s: float | None = None  # since the next, or the oldest that was taken, happened


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the runner of a trigger tells of it, as in `TriggerStatus`."""

    last_s: float | None = None
    problem: str = ""
    lag_bytes: int | None = None
    since_s: float | None = None
    lag: int | None = None
    held: int | None = None
    age_s: float | None = None


class Governing:
    """One per platform."""

    def __init__(self, bindings: Bindings, store: TriggerStore) -> None:
        self._bindings = bindings
        self._store = store
        self._times: dict[str, Times] = {}
        self._standings: dict[str, Callable[[Binding], Standing]] = {}

    def register(self, kind: str, times: Times) -> None:
        """Ask `times` about triggers of `kind`."""
        self._times[kind] = times

    def register_standing(self, kind: str, standing: Callable[[Binding], Standing]) -> None:
        """Ask `standing` about triggers of `kind`."""
        self._standings[kind] = standing

    async def open(self) -> None:
        """Read what is paused; forget the state of triggers that are gone."""
        states = await self._store.list_states()
        self._bindings.start([(one.namespace, one.function, one.name) for one in states if one.paused])

    async def tidy(self) -> None:
        """Forget the states of triggers that are gone: one of the same name begins anew."""
        known = {binding.key for binding in self._bindings.all()}
        for state in await self._store.list_states():
            key = (state.namespace, state.function, state.name)
            if key not in known:
                await self._store.forget(*key)
                self._bindings.pause(key, False)

    async def list_triggers(self, principal: Principal, namespace: str, function: str = "") -> list[TriggerStatus]:
        """Those of a function, or of all of the namespace, by function and name."""
        principal.require("read", namespace)
        found = [b for b in self._bindings.all() if b.namespace == namespace and function in ("", b.function)]
        return [self._status(binding) for binding in sorted(found, key=lambda binding: binding.key)]

    async def pause(self, principal: Principal, key: tuple[str, str, str], paused: bool, source: str) -> TriggerStatus:
        """Pause or resume a trigger (namespace, function, name): once this returns it does nothing, or goes on from
        where it was. NotFound."""
        principal.require("deploy", key[0])
        self._get(key)
        action = "trigger.pause" if paused else "trigger.resume"
        entry = entry_of(principal, key[0], action, f"{key[1]}/{key[2]}", source)
        await self._store.put_paused(key, paused, clock.wall_s(), entry)
        self._bindings.pause(key, paused)
        return self._status(self._get(key))

    def _get(self, key: tuple[str, str, str]) -> Binding:
        for binding in self._bindings.all():
            if binding.key == key and binding.trigger.kind != "http":
                return binding
        raise NotFound(
            f"function {key[0]}/{key[1]} has no trigger {key[2]!r} that can be paused", kind="trigger", name=key[2],
            hint=f"`fuyun trigger list {key[1]}` shows its triggers",
        )  # fmt: skip

    def _status(self, binding: Binding) -> TriggerStatus:
        times = self._times.get(binding.trigger.kind)
        last_s, next_s = times(binding) if times is not None else (None, None)
        standing = self._standings.get(binding.trigger.kind, _unknown)(binding)
        return TriggerStatus(
            function=binding.function, name=binding.name, kind=binding.trigger.kind, trigger=masked(binding.trigger),
            paused=binding.paused, last_s=last_s or standing.last_s, next_s=next_s, problem=standing.problem,
            since_s=standing.since_s, lag=standing.lag, held=standing.held,
            lag_bytes=standing.lag_bytes, age_s=standing.age_s,
        )  # fmt: skip


def _unknown(_binding: Binding) -> Standing:
    return Standing()
