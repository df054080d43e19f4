"""Where events go: one sender for each kind of target."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from fuyun.domain.errors import Unsupported
from fuyun.domain.events import Event, Target, TargetKind
from fuyun.domain.names import LATEST
from fuyun.services.accepting import Acceptor
from fuyun.services.invoking import Invoker
from fuyun.services.orders import event_order, terms_of

#: `(namespace, name, qualifier, events)`: durable when it returns. NotFound when there is no such thing.
Sender = Callable[[str, str, str, Sequence[Event]], Awaitable[None]]


class Targets:
    """Built by `wiring`: each service that can be a target registers its kind."""

    def __init__(self) -> None:
        self._senders: dict[TargetKind, Sender] = {}

    def register(self, kind: TargetKind, sender: Sender) -> None:
        """Send events for targets of `kind` by `sender`."""
        self._senders[kind] = sender

    async def send(self, namespace: str, target: Target, events: Sequence[Event]) -> None:
        """Hand `events` to a target of the namespace; durable when it returns. NotFound; Unsupported for a kind that
        this platform does not have."""
        sender = self._senders.get(target.kind)
        if sender is None:
            raise Unsupported(
                f"this platform sends nothing to a {target.kind}", hint=f"use one of {', '.join(self._senders)}"
            )
        await sender(namespace, target.name, target.qualifier, events)


class FunctionTarget:
    """Sends events to functions: an asynchronous invocation for each, under the function's own policy."""

    def __init__(self, invoker: Invoker, acceptor: Acceptor) -> None:
        self._invoker = invoker
        self._acceptor = acceptor

    async def send(self, namespace: str, name: str, qualifier: str, events: Sequence[Event]) -> None:
        """See `Sender`."""
        self._invoker.resolve(namespace, name, qualifier or LATEST)
        target = Target(kind="function", name=name, qualifier=qualifier)
        terms = terms_of(self._invoker, namespace, target)
        await self._acceptor.accept_all(
            [event_order(namespace, target, event, terms, origin=event.source) for event in events]
        )
