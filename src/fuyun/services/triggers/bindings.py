"""Which triggers there are: those that the drafts of functions declare, by kind, with the target each of them has."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from fuyun.domain.errors import FuyunError
from fuyun.domain.events import Target
from fuyun.domain.names import LATEST
from fuyun.domain.triggers import KINDS, Trigger, named

if TYPE_CHECKING:
    from fuyun.services.routes import RouteTable

_log = structlog.get_logger("fuyun.triggers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """A trigger of a function."""

    namespace: str
    function: str
    name: str
    trigger: Trigger
    paused: bool = False

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells it from all others."""
        return self.namespace, self.function, self.name

    @property
    def origin(self) -> str:
        """How deliveries say where they come from."""
        return f"trigger {self.function}/{self.name}"

    @property
    def target(self) -> Target:
        """The function, under the alias that the trigger names."""
        source = getattr(self.trigger, self.trigger.kind)
        qualifier = "" if source.alias == LATEST else source.alias
        return Target(kind="function", name=self.function, qualifier=qualifier)


class Bindings:
    """All triggers, in memory. `changed` is to be called when a function changed or a trigger was paused."""

    def __init__(self, table: RouteTable) -> None:
        self._table = table
        self._listeners: list[Callable[[], None]] = []
        self._found: dict[str, list[Binding]] | None = None
        self._paused: set[tuple[str, str, str]] = set()

    def of(self, kind: str) -> list[Binding]:
        """Triggers of a kind, by namespace, function and name; paused ones, too."""
        if self._found is None:
            self._found = {}
            for namespace, function, spec in self._table.drafts():
                try:
                    pairs = named(spec.triggers)
                except FuyunError as error:  # deployed before names had to differ
                    _log.warning("triggers are not used", function=f"{namespace}/{function}", error=str(error))
                    continue
                for name, trigger in pairs:
                    key = (namespace, function, name)
                    found = Binding(
                        namespace=namespace, function=function, name=name, trigger=trigger, paused=key in self._paused
                    )
                    self._found.setdefault(trigger.kind, []).append(found)
        return self._found.get(kind, [])

    def all(self) -> list[Binding]:
        """Triggers of every kind."""
        return [binding for kind in KINDS for binding in self.of(kind)]

    def start(self, paused: Iterable[tuple[str, str, str]]) -> None:
        """Begin with what is paused."""
        self._paused = set(paused)
        self.changed()

    def listen(self, call: Callable[[], None]) -> None:
        """Have `call` called whenever the triggers may have changed."""
        self._listeners.append(call)

    def changed(self) -> None:
        """A function was deployed or deleted."""
        self._found = None
        for call in self._listeners:
            call()

    def pause(self, key: tuple[str, str, str], paused: bool) -> None:
        """Remember that a trigger is paused, or is not any more."""
        (self._paused.add if paused else self._paused.discard)(key)
        self.changed()
