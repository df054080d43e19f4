"""Triggers of tables in outside PostgreSQL databases: one reader for each, over a replication slot at the server.

The server keeps what is behind the slot's place; the place moves on when every change before it was taken by the
function or is a dead letter on the disk. So nothing is missed while either side is down, and a crash repeats what was
under way. That a slot is to be made, or dropped, is on our disk first: none is forgotten at somebody's server.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from dataclasses import dataclass

import msgspec
import structlog

from fuyun.base import faults
from fuyun.base.tasks import Scope
from fuyun.domain.errors import FuyunError, NotFound
from fuyun.domain.postgres import PostgresTrigger, Slot, table_of
from fuyun.ports.changes import ChangeLog, OpenChanges, SlotStore, Wanted
from fuyun.services.tenants import Tenants
from fuyun.services.triggers.batches import Batches
from fuyun.services.triggers.bindings import Binding, Bindings
from fuyun.services.triggers.governing import Standing
from fuyun.services.triggers.reading import Reader

_log = structlog.get_logger("fuyun.triggers")
#: Seconds between attempts to drop a slot at a server that does not let us: twice as long each time.
_LEAST_AGAIN_S, _MOST_AGAIN_S = 1.0, 3600.0
Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauge:
    """How far a reader is: bytes of the log to come and kept for it, age of the next change (0: none)."""

    namespace: str
    function: str
    trigger: str
    lag_bytes: int
    kept_bytes: int
    age_s: float


class PostgresTriggers:
    """One per platform."""

    def __init__(
        self, bindings: Bindings, tenants: Tenants, store: SlotStore, open_changes: OpenChanges, batches: Batches
    ) -> None:
        self._bindings = bindings
        self._tenants = tenants
        self._store = store
        self._open_changes = open_changes
        self.batches = batches
        self._slots: dict[str, Slot] = {}
        self._readers: dict[Key, tuple[Reader, asyncio.Task[None]]] = {}
        self._dropping: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._stopping = False
        self._scope = Scope("postgres", lambda error: _log.error("a trigger of PostgreSQL failed", exc_info=error))

    async def open(self) -> None:
        """Begin; and go with the triggers that come and go."""
        self._slots = {slot.name: slot for slot in await self._store.list_slots()}
        self._bindings.listen(self._changed.set)
        self._changed.set()
        self._scope.start(self._follow(), "follow")

    async def close(self) -> None:
        """End; what is inside functions is begun anew by the next platform."""
        self._stopping = True
        await self._scope.close()

    async def drain(self, timeout_s: float) -> None:
        """Let batches that are inside functions end for up to so long, and begin none."""
        self._stopping = True
        for reader, _ in self._readers.values():
            reader.stop()
        tasks = [task for _, task in self._readers.values() if not task.done()]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)

    def standing(self, binding: Binding) -> Standing:
        """How a trigger stands."""
        found = self._readers.get(binding.key)
        return found[0].standing() if found is not None else Standing()

    def gauges(self) -> list[Gauge]:
        """Of every reader that has seen its slot."""
        return [
            Gauge(
                namespace=key[0], function=key[1], trigger=key[2], lag_bytes=reader.lag_bytes,
                kept_bytes=reader.kept_bytes, age_s=reader.age_s,
            )
            for key, (reader, _) in self._readers.items()
        ]  # fmt: skip

    # --- which readers there are

    async def _follow(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._reconcile()
            except FuyunError as error:  # a full disk, say
                _log.warning("slots cannot be written down", error=str(error))
                await asyncio.sleep(1.0)
                self._changed.set()

    async def _reconcile(self) -> None:
        if self._stopping:
            return
        wanted = {binding.key: binding for binding in self._bindings.of("postgres")}
        for key, (reader, task) in list(self._readers.items()):
            if key not in wanted or reader.binding != wanted[key]:
                reader.stop()
                if key not in wanted and task.done():
                    del self._readers[key]
        for slot in list(self._slots.values()):
            binding = wanted.get(slot.key)
            if not slot.gone and (binding is None or _trigger(binding).secret != slot.secret):
                await self._put(msgspec.structs.replace(slot, gone=True))
        for key, binding in wanted.items():
            own = [one for one in self._slots.values() if one.key == key and not one.gone] or [_new_slot(binding)]
            slot = own[0]
            if slot.name not in self._slots:
                await self._put(slot)
            found = self._readers.get(key)
            if found is None or found[0].stopping or found[1].done():
                reader = Reader(binding, slot.name, self)
                before = None if found is None else found[1]
                self._readers[key] = (reader, self._scope.start(reader.run(before), "/".join(key)))
        for slot in self._slots.values():
            if slot.gone and slot.name not in self._dropping:
                self._dropping[slot.name] = self._scope.start(self._drop(slot), f"drop {slot.name}")

    async def _put(self, slot: Slot) -> None:
        await self._store.put(slot)
        self._slots[slot.name] = slot

    async def _drop(self, slot: Slot) -> None:
        """Until the server has let go of it: what it keeps for a slot that nobody reads fills its disk."""
        again_s = _LEAST_AGAIN_S
        while True:
            found = self._readers.get(slot.key)
            if found is not None and found[0].slot_name == slot.name:
                await asyncio.wait([found[1]])
            try:
                log = await self._connect(slot, PostgresTrigger(secret=slot.secret, tables=()))
                try:
                    await log.drop()
                finally:
                    await log.close()
                faults.point("postgres.dropped")
                await self._store.forget(slot.name)
            except FuyunError as error:
                _log.warning(
                    "a replication slot that nobody wants is still there: the server keeps its log for it",
                    slot=slot.name, trigger=f"{slot.function}/{slot.trigger}", error=str(error),
                    run=f"SELECT pg_drop_replication_slot('{slot.name}')",
                )  # fmt: skip
                await asyncio.sleep(again_s)
                again_s = min(_MOST_AGAIN_S, 2 * again_s)
                continue
            del self._slots[slot.name], self._dropping[slot.name]
            return

    # --- what readers ask for

    async def _connect(self, slot: Slot, trigger: PostgresTrigger) -> ChangeLog:
        address = (await self._tenants.reveal(slot.namespace, [slot.secret]))[slot.secret]
        wanted = Wanted(
            slot=slot.name, publication=slot.publication if slot.own else trigger.publication or slot.publication,
            own=slot.own, tables=tuple(map(table_of, trigger.tables)), operations=trigger.operations,
        )  # fmt: skip
        return await self._open_changes(address, wanted)

    async def connect(self, binding: Binding, name: str, renew: bool) -> tuple[ChangeLog, Slot]:
        """A connection that is ready to read, and the slot. `renew`: one that has been lost is made anew. Everything
        that `ChangeLog.prepare` raises."""
        trigger, slot = _trigger(binding), self._slots[name]
        if slot.own == bool(trigger.publication):
            slot = msgspec.structs.replace(
                slot, own=not trigger.publication, publication=trigger.publication or slot.name
            )
            await self._put(slot)
        log = await self._connect(slot, trigger)
        try:
            created = await log.prepare(slot.made and not renew)
            faults.point("postgres.made")
            if created or not slot.made:
                slot = msgspec.structs.replace(slot, made=True, lsn=0, skip=0)
                await self._put(slot)
        except BaseException:
            await log.close()
            raise
        return log, slot

    async def keep_place(self, slot: Slot, lsn: int, skip: int) -> Slot:
        """Remember how far a transaction was dealt with."""
        slot = msgspec.structs.replace(slot, lsn=lsn, skip=skip)
        await self._put(slot)
        return slot


def _trigger(binding: Binding) -> PostgresTrigger:
    trigger = binding.trigger.postgres
    if trigger is None:
        raise NotFound("the binding is none of PostgreSQL's", kind="trigger", name=binding.name)
    return trigger


def _new_slot(binding: Binding) -> Slot:
    """Its name tells people whose it is, and no other platform's is called so."""
    told = re.sub(r"[^a-z0-9_]", "_", f"{binding.function}_{binding.name}".lower())[:36]
    name = f"fuyun_{told}_{secrets.token_hex(6)}"
    trigger = _trigger(binding)
    return Slot(
        name=name, namespace=binding.namespace, function=binding.function, trigger=binding.name,
        secret=trigger.secret, publication=trigger.publication or name, own=not trigger.publication,
    )  # fmt: skip
