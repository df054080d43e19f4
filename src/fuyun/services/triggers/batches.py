"""Batches of records into a function: tried again by class of error, halved, and at last given up one by one.

What is delivered comes to an end here: every record was taken by the function, or is a dead letter on the disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from fuyun.base import clock, faults, ids
from fuyun.decide import retries
from fuyun.decide.batches import named_failures
from fuyun.domain.deliveries import Order, Parcel
from fuyun.domain.errors import FunctionError, FuyunError, LoopDetected, PayloadTooLarge
from fuyun.domain.events import MOST_HOPS, Event, structured, target_of
from fuyun.domain.functions import Asynchronous
from fuyun.domain.streams import Record, partition_of, placed, sequence_of
from fuyun.services.accepting import Acceptor
from fuyun.services.invoking import Invoker
from fuyun.services.orders import event_order, terms_of
from fuyun.services.outcomes import Calling, Outcome, call

if TYPE_CHECKING:
    from fuyun.services.triggers.bindings import Binding

#: Bytes of a batch, unless one record has more: below what a function takes by default.
BATCH_BYTES: Final = 4 * 2**20
#: Text of an error that is kept.
_DETAIL: Final = 2000


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """What is handed over: an event as the function gets it, and what tells it from the others of its source."""

    event: Event
    sequence: str


class Turn(Protocol):
    """Whoever delivers, and may be told to stop. `in_order`: behind a record that failed, all is handed over again,
    also what the function says it took."""

    in_order: bool

    async def wait(self, seconds: float) -> bool:
        """Until then; False when it is stopped before."""
        ...

    def settled(self, items: Sequence[Item], given_up: bool) -> None:
        """They have their outcome: the function took them, or they are dead letters on the disk."""
        ...


async def waited(stop: asyncio.Event, seconds: float) -> bool:
    """`Turn.wait` of whoever is stopped by `stop`: False when that is set before the time is over."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return True
    return False


class Batches:
    """One per platform."""

    def __init__(self, invoker: Invoker, acceptor: Acceptor, random: Callable[[], float]) -> None:
        """`random()`: in [0, 1)."""
        self._invoker = invoker
        self._acceptor = acceptor
        self._random = random
        self.outcomes: dict[tuple[str, str, str], int] = {}  # (namespace, function, succeeded | failed) -> records

    async def deliver_lanes(self, binding: Binding, records: Sequence[Record], turn: Turn) -> bool:
        """Hand over all of them in as many lanes as the policy's parallelism allows, those of one key in order; as
        `deliver`."""
        parallelism = binding.trigger.policy.parallelism
        lanes: dict[int, list[Item]] = {}
        for record in records:
            lane = lanes.setdefault(partition_of(record.key or record.event.id, parallelism), [])
            lane.append(Item(placed(record), sequence_of(record)))
        delivering = [self.deliver(binding, lane, turn) for lane in lanes.values()]
        done = await asyncio.gather(*delivering, return_exceptions=True)
        for found in done:
            if isinstance(found, BaseException):
                raise found
        return all(done)

    async def deliver(self, binding: Binding, records: Sequence[Item], turn: Turn) -> bool:
        """Hand over all of them in their order; False when `turn` was stopped before the end. StorageFull where a dead
        letter cannot be kept."""
        for batch in _cut(records, binding.trigger.policy.batch_size):
            if not await self._deliver(binding, batch, turn):
                return False
        return True

    async def _deliver(self, binding: Binding, records: list[Item], turn: Turn) -> bool:
        policy = binding.trigger.policy
        attempts = failures = 0
        expires_s = clock.wall_s() + policy.max_age_s
        records = await self._unlooped(binding, records, turn)
        while records:
            outcome = await self._call(binding, records, attempts + 1)
            faults.point("streams.after_call")
            error, left = _judge(outcome, records, turn.in_order)
            self._count(binding, "succeeded", len(records) - len(left))
            turn.settled(_without(records, left), False)
            if error is None:
                return True
            if len(left) < len(records):
                attempts = failures = 0
            records = left
            attempts, failures = attempts + 1, failures + retries.counts(error)
            tried = retries.Tried(
                attempts=attempts, failures=failures, max_attempts=policy.max_attempts, expires_s=expires_s
            )
            now_s = clock.wall_s()
            decision = retries.after(error, tried, now_s, self._random)
            halved = policy.bisect and retries.class_of(error) not in ("throttle", "platform")
            splits = len(records) > 1 and (halved or isinstance(error, PayloadTooLarge))
            if isinstance(decision, retries.GiveUp):
                if not splits:
                    await self._give_up(binding, records, turn, decision.state, error)
                    return True
            elif not await turn.wait(decision.at_s - now_s):
                return False
            if splits:
                middle = len(records) // 2
                halves = (records[:middle], records[middle:])
                return await self._deliver(binding, halves[0], turn) and await self._deliver(binding, halves[1], turn)
        return True

    async def _call(self, binding: Binding, records: list[Item], attempt: int) -> Outcome:
        longest = max(records, key=lambda record: record.event.hops).event
        target = binding.target
        return await call(
            self._invoker,
            Calling(
                namespace=binding.namespace, function=target.name, qualifier=target.qualifier, attempt=attempt,
                body=b"[" + b",".join([structured(record.event) for record in records]) + b"]", hops=longest.hops + 1,
                trail=longest.trail or longest.id,
            ),
        )  # fmt: skip

    async def _unlooped(self, binding: Binding, records: list[Item], turn: Turn) -> list[Item]:
        """Those that may go one hop further; the others are given up."""
        over = [record for record in records if record.event.hops >= MOST_HOPS]
        if over:
            error = LoopDetected(f"an event has crossed {MOST_HOPS} edges", hint="find the circle by its trail")
            await self._give_up(binding, over, turn, "failed", error)
        return [record for record in records if record.event.hops < MOST_HOPS]

    async def _give_up(self, binding: Binding, records: list[Item], turn: Turn, state: str, error: FuyunError) -> None:
        """Make dead letters of them: durable when it returns, and once each, also when a crash repeats it."""
        terms = terms_of(self._invoker, binding.namespace, binding.target, binding.trigger.policy)
        make = self._letter if terms.on_failure else self._refused
        await self._acceptor.accept_all([make(binding, record, state, error) for record in records])
        self._count(binding, "failed", len(records))
        turn.settled(records, True)

    def _letter(self, binding: Binding, record: Item, state: str, error: FuyunError) -> Order:
        """An event about the record, for the dead-letter target."""
        policy = binding.trigger.policy
        terms = terms_of(self._invoker, binding.namespace, binding.target, policy)
        told = {
            "target": binding.target.text, "origin": binding.origin, "state": state,
            "error": {"code": error.code, "detail": str(error)[:_DETAIL]},
            "request": msgspec.Raw(structured(record.event)),
        }  # fmt: skip
        event = Event(
            id=ids.new_id(), source=f"/{binding.namespace}/function/{binding.function}",
            type=f"fuyun.delivery.{state}", subject=record.event.id, time_s=clock.wall_s(),
            data=msgspec.json.encode(told), hops=record.event.hops, trail=record.event.trail or record.event.id,
        )  # fmt: skip
        return event_order(
            binding.namespace, target_of(terms.on_failure), event, Asynchronous(), origin=binding.origin,
            key=_key_of(binding, record),
        )  # fmt: skip

    def _refused(self, binding: Binding, record: Item, state: str, error: FuyunError) -> Order:
        """A dead letter of the function's own: driven again, it is a batch of one."""
        return Order(
            id=ids.new_id(), namespace=binding.namespace, target=binding.target, origin=binding.origin,
            parcel=Parcel(body=b"[" + structured(record.event) + b"]"), key=_key_of(binding, record),
            hops=record.event.hops + 1, trail=record.event.trail or record.event.id, refused=error.code,
            detail=str(error)[:_DETAIL],
        )  # fmt: skip

    def _count(self, binding: Binding, what: str, records: int) -> None:
        key = (binding.namespace, binding.function, what)
        self.outcomes[key] = self.outcomes.get(key, 0) + records


def _key_of(binding: Binding, record: Item) -> str:
    return f"{binding.name[:63]}/{record.event.id[-64:]}/{record.sequence}"


def _cut(records: Sequence[Item], most: int) -> Iterator[list[Item]]:
    """In batches of at most so many records, and of `BATCH_BYTES`."""
    batch: list[Item] = []
    size = 0
    for record in records:
        adding = len(record.event.data) * 4 // 3
        if batch and (len(batch) == most or size + adding > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += adding
    if batch:
        yield batch


def _judge(outcome: Outcome, records: list[Item], in_order: bool) -> tuple[FuyunError | None, list[Item]]:
    """What went wrong, and the records that are still to be handed over."""
    if outcome.error is not None:
        return outcome.error, records
    ids = {one.event.id for one in records} | {one.sequence for one in records}
    named = named_failures(outcome.body, ids)
    failed = [place for place, one in enumerate(records) if one.event.id in named or one.sequence in named]
    if not failed:
        return None, []
    if in_order:
        error = FunctionError(f"the function took {failed[0]} of {len(records)} records, its answer says")
        return error, records[failed[0] :]
    error = FunctionError(f"the function took {len(records) - len(failed)} of {len(records)}, its answer says")
    return error, [records[place] for place in failed]


def _without(records: list[Item], left: list[Item]) -> list[Item]:
    kept = {id(record) for record in left}
    return [record for record in records if id(record) not in kept]
