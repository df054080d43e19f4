"""Buses: events taken in, matched with rules, remembered and replayed.

Changes take the principal that asks and the address it asks from, check what it may do, and are written in one
transaction with their audit entry. Reads take no principal: whoever offers them checks (`Principal.require`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import msgspec
import structlog

from fuyun.base import clock, ids
from fuyun.base.tasks import Scope
from fuyun.decide import filters, transforms
from fuyun.domain.bus import EVENT_BYTES, MOST_RULES, Archived, Bus, Replay, Rule, TypeSeen
from fuyun.domain.errors import BadRequest, Conflict, FuyunError, NotFound, PayloadTooLarge, PlatformError
from fuyun.domain.events import Event, Target, check_event, target_of
from fuyun.domain.filters import read_filter
from fuyun.domain.names import nearest
from fuyun.domain.rulechecks import check_bus, check_rule
from fuyun.domain.tenants import Principal
from fuyun.ports.bus import BusArchive, BusStore
from fuyun.services.relay import Match
from fuyun.services.tenants import Tenants, entry_of

_log = structlog.get_logger("fuyun.bus")

#: Events of a replay that are handed on at once.
_REPLAYED = 200
#: Seconds between two looks for archived events that are too old, and between two tries of a replay that found no way.
_PRUNE_S = 600.0
_AGAIN_S = 5.0
_PAGE = 500

#: Hands events to a target of a namespace, durably: `services.targets`.
Send = Callable[[str, Target, Sequence[Event]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Ready:
    """A rule, compiled."""

    name: str
    target: Target
    takes: Callable[[filters.View], bool]
    change: Callable[[Event], Event]


@dataclass(slots=True)
class Tally:
    """What went over a bus: events and the bytes of their data, events by the rules that took them, and those that no
    rule took."""

    published: int = 0
    published_bytes: int = 0
    unmatched: int = 0
    matched: dict[str, int] = field(default_factory=dict)


class Buses:
    """One per platform; the truth is in the store, compiled rules are in memory."""

    def __init__(self, store: BusStore, archive: BusArchive, tenants: Tenants, send: Send) -> None:
        self._store = store
        self._archive = archive
        self._tenants = tenants
        self._send = send
        self._rules: dict[tuple[str, str], list[_Ready]] = {}
        self._replays: dict[str, asyncio.Task[None]] = {}
        self._scope: Scope | None = None
        self.tallies: dict[tuple[str, str], Tally] = {}  # (namespace, bus) -> since the platform started

    async def open(self) -> None:
        """Read the rules."""
        for rule in await self._store.list_rules("*", "*"):
            if rule.enabled:
                self._rules.setdefault((rule.namespace, rule.bus), []).append(_ready(rule))
        self._tenants.on_namespace_deleted(self._forget)

    async def start(self, scope: Scope) -> None:
        """Go on with replays, and forget what archives keep no longer, until the scope closes."""
        self._scope = scope
        for replay in await self._archive.list_replays("*", "*"):
            self._begin(replay)
        scope.start(self._prune(), "prune-archives")

    # --- buses

    async def list_buses(self, namespace: str, after: str = "", limit: int = 100) -> list[Bus]:
        """A page by name. NotFound when the namespace is absent."""
        await self._tenants.get_namespace(namespace)
        return await self._store.list_buses(namespace, after, limit)

    async def get_bus(self, namespace: str, name: str) -> Bus:
        """NotFound names the nearest there is."""
        try:
            return await self._store.get_bus(namespace, name)
        except NotFound as exc:
            close = nearest(name, [bus.name for bus in await self._store.list_buses(namespace, limit=_PAGE)])
            if close:
                exc.hint = f"did you mean {close!r}?"
            raise

    async def put_bus(self, principal: Principal, bus: Bus, source: str = "", expect: int | None = None) -> Bus:
        """Create it, or change what it says of itself. BadRequest, NotFound, Conflict, PreconditionFailed,
        QuotaExceeded."""
        principal.require("deploy", bus.namespace)
        await self._tenants.get_namespace(bus.namespace)
        detail = f"archive {check_bus(bus).archive_s:g} s"
        entry = entry_of(principal, bus.namespace, "bus.put", bus.name, source, detail)
        return await self._store.put_bus(bus, entry, expect, self._tenants.quotas(bus.namespace))

    async def delete_bus(self, principal: Principal, namespace: str, name: str, source: str = "") -> None:
        """With its rules and its archive. NotFound."""
        principal.require("delete", namespace)
        await self.get_bus(namespace, name)
        await self._store.delete_bus(namespace, name, entry_of(principal, namespace, "bus.delete", name, source))
        self._rules.pop((namespace, name), None)
        self.tallies.pop((namespace, name), None)

    # --- rules

    async def list_rules(self, namespace: str, bus: str) -> list[Rule]:
        """All of a bus, by name. NotFound."""
        await self.get_bus(namespace, bus)
        return await self._store.list_rules(namespace, bus)

    async def get_rule(self, namespace: str, bus: str, name: str) -> Rule:
        """NotFound names the nearest there is."""
        rules = {rule.name: rule for rule in await self.list_rules(namespace, bus)}
        if name in rules:
            return rules[name]
        close = nearest(name, rules)
        raise NotFound(
            f"bus {bus!r} has no rule {name!r}", kind="rule", name=name,
            hint=f"did you mean {close!r}?" if close else f"`fuyun bus rules {bus}` lists them",
        )  # fmt: skip

    async def put_rule(self, principal: Principal, rule: Rule, source: str = "", expect: int | None = None) -> Rule:
        """Create or replace a rule; events that are published after it returned meet it. BadRequest names the part
        that is wrong; NotFound, Conflict, PreconditionFailed, QuotaExceeded."""
        principal.require("deploy", rule.namespace)
        await self.get_bus(rule.namespace, rule.bus)
        _ready(check_rule(rule))
        name = f"{rule.bus}/{rule.name}"
        entry = entry_of(principal, rule.namespace, "bus.rule.put", name, source, f"to {rule.target}")
        made = await self._store.put_rule(rule, MOST_RULES, entry, expect)
        await self._load(rule.namespace, rule.bus)
        return made

    async def delete_rule(self, principal: Principal, namespace: str, bus: str, name: str, source: str = "") -> None:
        """NotFound."""
        principal.require("delete", namespace)
        await self.get_rule(namespace, bus, name)
        entry = entry_of(principal, namespace, "bus.rule.delete", f"{bus}/{name}", source)
        await self._store.delete_rule(namespace, bus, name, entry)
        await self._load(namespace, bus)

    # --- events

    async def publish(self, principal: Principal, namespace: str, bus: str, events: Sequence[Event]) -> None:
        """Take all of `events` or none; on disk when it returns. BadRequest, NotFound, PayloadTooLarge, StorageFull."""
        principal.require("invoke", namespace)
        await self.accept(namespace, bus, "", events)

    async def accept(self, namespace: str, bus: str, _qualifier: str, events: Sequence[Event]) -> None:
        """The same for events that come from inside the platform: the sender of targets `bus:NAME`."""
        for event in events:
            if len(check_event(event).data) > EVENT_BYTES:
                raise PayloadTooLarge(
                    f"event {event.id[:80]!r} has {len(event.data)} bytes of data",
                    hint=f"a bus takes up to {EVENT_BYTES} bytes; put more into an object and send its name",
                    limit_bytes=EVENT_BYTES,
                )
        await self._archive.publish(namespace, bus, events, clock.wall_s())
        tally = self.tallies.setdefault((namespace, bus), Tally())
        tally.published += len(events)
        tally.published_bytes += sum(len(event.data) for event in events)

    def match(self, namespace: str, bus: str, event: Event) -> list[Match]:
        """What the bus's rules make of an event; the relay's matcher for kind `bus`. A rule whose transform fails on it
        takes the event as it is, and says so in the log: nothing is lost."""
        rules = self._rules.get((namespace, bus), ())
        view = filters.View(event)
        taken = [rule for rule in rules if rule.takes(view)]
        tally = self.tallies.setdefault((namespace, bus), Tally())
        for rule in taken:
            tally.matched[rule.name] = tally.matched.get(rule.name, 0) + 1
        tally.unmatched += not taken
        return [
            Match(origin=f"rule {bus}/{rule.name}", target=rule.target, event=_changed(rule, event)) for rule in taken
        ]

    async def list_types(self, namespace: str, bus: str, after: str = "", limit: int = 100) -> list[TypeSeen]:
        """A page of the types that the bus has seen. NotFound."""
        await self.get_bus(namespace, bus)
        return await self._archive.list_types(namespace, bus, after, limit)

    async def list_archive(
        self, namespace: str, bus: str, since_s: float, until_s: float, after: int, limit: int
    ) -> list[Archived]:
        """A page of the archive, see `ports.bus.BusArchive.read`. NotFound."""
        await self.get_bus(namespace, bus)
        return await self._archive.read(namespace, bus, since_s, until_s, after, limit)

    # --- replays

    async def list_replays(self, namespace: str, bus: str) -> list[Replay]:
        """The newest hundred, newest first. NotFound."""
        await self.get_bus(namespace, bus)
        return await self._archive.list_replays(namespace, bus)

    async def begin_replay(self, principal: Principal, replay: Replay, source: str = "") -> Replay:
        """Hand on a stretch of the archive again, in the background, across restarts. Its `id` is made here.
        BadRequest, NotFound, Conflict for a bus without an archive."""
        principal.require("deploy", replay.namespace)
        bus = await self.get_bus(replay.namespace, replay.bus)
        if bus.archive_s <= 0:
            raise Conflict(
                f"bus {bus.name!r} keeps no archive",
                hint=f"`fuyun bus set {bus.name} --archive 7d` keeps one from now on",
            )
        if replay.since_s >= replay.until_s:
            raise BadRequest("the stretch ends before it begins", hint="use a later --until", path="until_s")
        read_filter(replay.filter)
        if replay.target:
            target_of(replay.target)
        made = Replay(
            id=ids.new_id(), namespace=replay.namespace, bus=replay.bus, since_s=replay.since_s, target=replay.target,
            until_s=min(replay.until_s, clock.wall_s()), filter=replay.filter, created_s=clock.wall_s(),
        )  # fmt: skip
        detail = f"{made.id} to {made.target or 'its rules'}"
        await self._archive.put_replay(
            made, entry_of(principal, made.namespace, "bus.replay", made.bus, source, detail)
        )
        self._begin(made)
        return made

    async def stop_replay(self, principal: Principal, namespace: str, bus: str, id_: str, source: str = "") -> Replay:
        """Hand on no more of it. NotFound; Conflict when it is over."""
        principal.require("deploy", namespace)
        found = next((one for one in await self.list_replays(namespace, bus) if one.id == id_), None)
        if found is None:
            raise NotFound(f"bus {bus!r} has no replay {id_[:64]!r}", hint="list them", kind="replay", name=id_[:64])
        if found.state != "running":
            raise Conflict(f"the replay is {found.state}", hint="begin another one")
        stopped = _changed_replay(found, state="stopped")
        await self._archive.put_replay(stopped, entry_of(principal, namespace, "bus.replay.stop", bus, source, id_))
        if (task := self._replays.pop(id_, None)) is not None:
            task.cancel()
        return stopped

    def _begin(self, replay: Replay) -> None:
        if self._scope is not None:
            task = self._scope.start(self._run(replay), f"replay {replay.id}")
            self._replays[replay.id] = task
            task.add_done_callback(lambda _: self._replays.pop(replay.id, None))

    async def _run(self, replay: Replay) -> None:
        """Page by page; each is accepted before the place is written down, so that a page may come twice after a crash
        and none is left out."""
        takes = filters.compiled(read_filter(replay.filter))
        while replay.state == "running":
            try:
                replay = await self._page(replay, takes)
            except NotFound as exc:  # the bus or the target is gone
                replay = _changed_replay(replay, state="failed", error=exc.detail)
                try:
                    await self._archive.put_replay(replay)
                except NotFound:
                    return
            except FuyunError as exc:
                _log.warning("a replay waits", bus=replay.bus, namespace=replay.namespace, error=exc.detail)
                await asyncio.sleep(_AGAIN_S)

    async def _page(self, replay: Replay, takes: Callable[[filters.View], bool]) -> Replay:
        page = await self._archive.read(
            replay.namespace, replay.bus, replay.since_s, replay.until_s, replay.position, _REPLAYED
        )
        events = [one.event for one in page if takes(filters.View(one.event))]
        position = page[-1].number if page else replay.position
        moved = _changed_replay(
            replay, sent=replay.sent + len(events), position=position, state="running" if page else "done"
        )
        if replay.target:
            if events:
                await self._send(replay.namespace, target_of(replay.target), [event.follow() for event in events])
            await self._archive.put_replay(moved)
        else:
            await self._archive.repeat(moved, [event.follow() for event in events])
        return moved

    # --- keeping up

    async def _load(self, namespace: str, bus: str) -> None:
        rules = await self._store.list_rules(namespace, bus)
        self._rules[namespace, bus] = [_ready(rule) for rule in rules if rule.enabled]

    async def _forget(self, namespace: str) -> None:
        for key in [key for key in self._rules if key[0] == namespace]:
            del self._rules[key]
        self.tallies = {key: tally for key, tally in self.tallies.items() if key[0] != namespace}

    async def _prune(self) -> None:
        while True:
            try:
                pruned = await self._archive.prune(clock.wall_s())
            except (FuyunError, OSError) as error:  # a disk in trouble; it may be well the next time
                _log.warning("archives could not be pruned", error=str(error))
                pruned = 0
            if not pruned:
                await asyncio.sleep(_PRUNE_S)


def _ready(rule: Rule) -> _Ready:
    change = transforms.compiled(rule.transform) if rule.transform is not None else _same
    return _Ready(rule.name, target_of(rule.target), filters.compiled(read_filter(rule.filter)), change)


def _same(event: Event) -> Event:
    return event


def _changed(rule: _Ready, event: Event) -> Event:
    try:
        return rule.change(event)
    except (BadRequest, PlatformError, RecursionError, ValueError) as error:
        _log.warning("a transform failed; the event goes on as it is", rule=rule.name, id=event.id, error=str(error))
        return event


def _changed_replay(replay: Replay, **changes: object) -> Replay:
    made: Replay = msgspec.structs.replace(replay, **changes)
    return made
