"""What every store of deliveries keeps: `ports.deliveries`, clause by clause."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from fuyun.base import ids
from fuyun.domain.deliveries import RETRY_BEHIND_S, Call, Lane, Order, Parcel, Settlement, State
from fuyun.domain.errors import Conflict, NotFound
from fuyun.domain.events import Event, Target
from fuyun.ports.deliveries import DeliveryLedger, DeliveryQuery, DeliveryStore, Leased, Outbox, Waiting
from fuyun.ports.triggers import TriggerState, TriggerStore
from fuyun.testing.contracts.samples import NOW_S, entry

LANE: Lane = ("default", "function", "hello")


class Deliveries(DeliveryStore, DeliveryLedger, Protocol):
    """Both sides of one store."""


@dataclass(frozen=True)
class DeliveryStores:
    """The ports of one place. `post(event)` puts an event into the outbox, as the bucket `photos` of `default` would;
    `audited()` are the actions in the audit log."""

    deliveries: Deliveries
    outbox: Outbox
    triggers: TriggerStore
    post: Callable[[Event], Awaitable[None]]
    audited: Callable[[], Awaitable[list[str]]]


def order(name: str = "hello", **fields: Any) -> Order:
    """An order of an event invocation."""
    values: dict[str, Any] = {
        "id": ids.new_id(), "namespace": "default", "target": Target(kind="function", name=name),
        "parcel": Parcel(body=b'{"a": 1}'), "max_age_s": 3600.0,
    }  # fmt: skip
    return Order(**values | fields)


def settled(leased: Leased, state: State, at_s: float, **fields: Any) -> Settlement:
    """What an attempt led to."""
    return Settlement(namespace=leased.delivery.namespace, id=leased.delivery.id, state=state, at_s=at_s, **fields)


async def lease(
    store: DeliveryStore, epoch: int, now_s: float = NOW_S, most: int = 10, lane: Lane = LANE
) -> list[Leased]:
    """What of a lane runs now."""
    taken, _ = await store.lease([(lane, most)], epoch, now_s)
    return taken


def ids_of(found: list[Leased]) -> list[str]:
    """Their ids."""
    return [one.delivery.id for one in found]


@pytest.mark.anyio
class DeliveryStoreContract(ABC):
    """Subclass it with `open`."""

    @abstractmethod
    def open(self, folder: Path) -> AbstractAsyncContextManager[DeliveryStores]:
        """The stores kept in `folder`; opening the same folder again finds what was written before."""

    async def test_what_is_accepted_is_delivered_as_it_was(self, tmp_path: Path) -> None:
        event = Event(
            id="e1", source="/default/bucket/b", type="t", time_s=NOW_S, data=b'"\\u00e9"', hops=3, trail="e0"
        )
        call = Call(kind="http", method="PUT", path="/a%20b", base="/fn/default/hello", query="x=1",
                    headers=(("x-a", "1"), ("x-a", "2")), source="::1")  # fmt: skip
        orders = [
            order(parcel=Parcel(call=call, body=b"\0\xff"), origin="gateway", on_success="queue:q"),
            order(parcel=Parcel(event=event), hops=3, trail="e0", max_attempts=7),
        ]
        async with self.open(tmp_path) as stores:
            assert await stores.deliveries.accept(orders, NOW_S) == [one.id for one in orders]
        async with self.open(tmp_path) as stores:
            store = stores.deliveries
            epoch, waiting = await store.take_over(NOW_S)
            assert waiting == [Waiting(lane=LANE, count=2, due_s=NOW_S)]
            first, second = await lease(store, epoch, NOW_S + 1)
            assert first.parcel == orders[0].parcel
            assert second.parcel.event == event
            found = first.delivery
            assert (found.target, found.state, found.attempts, found.origin) == (
                "function:hello",
                "running",
                1,
                "gateway",
            )
            assert (found.accepted_s, found.at_s, found.expires_s) == (NOW_S, NOW_S + 1, NOW_S + 3600)
            assert (second.delivery.hops, second.delivery.trail, second.delivery.max_attempts) == (3, "e0", 7)
            assert await store.get("default", found.id) == (found, first.parcel)

    async def test_one_runs_once_and_is_not_due_before_its_time(self, tmp_path: Path) -> None:
        late, soon = order(at_s=NOW_S + 60), order()
        async with self.open(tmp_path) as stores:
            store = stores.deliveries
            epoch, _ = await store.take_over(NOW_S)
            await store.accept([late, soon], NOW_S)
            taken, left = await store.lease([(LANE, 10)], epoch, NOW_S)
            assert ids_of(taken) == [soon.id]
            assert [(found.lane, found.due_s) for found in left] == [(LANE, NOW_S + 60)]
            assert await lease(store, epoch, NOW_S + 59) == []
            taken, left = await store.lease([(LANE, 10)], epoch, NOW_S + 60)
            assert ids_of(taken) == [late.id]
            assert left[0].due_s == math.inf

    async def test_lanes_are_leased_apart(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            store = stores.deliveries
            epoch, _ = await store.take_over(NOW_S)
            await store.accept([order("a"), order("a"), order("a"), order("b", namespace="other")], NOW_S)
            wanted = [
                (("default", "function", "a"), 2),
                (("other", "function", "b"), 5),
                (("other", "function", "a"), 5),
            ]
            taken, left = await store.lease(wanted, epoch, NOW_S)  # type: ignore[arg-type]
            assert [(one.delivery.namespace, one.delivery.target) for one in taken] == [
                ("default", "function:a"), ("default", "function:a"), ("other", "function:b"),
            ]  # fmt: skip
            assert [found.due_s for found in left] == [NOW_S, math.inf, math.inf]

    async def test_fresh_ones_go_before_those_that_are_tried_again(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            store = stores.deliveries
            epoch, _ = await store.take_over(NOW_S)
            await store.accept([order()], NOW_S)
            (tried,) = await lease(store, epoch)
            assert await store.settle([settled(tried, "retrying", NOW_S + 1, failures=1)], epoch, NOW_S) == [True]
            soon, later = order(at_s=NOW_S + RETRY_BEHIND_S), order(at_s=NOW_S + RETRY_BEHIND_S + 2)
            await store.accept([later, soon], NOW_S)
            taken = await lease(store, epoch, NOW_S + 100)
            assert ids_of(taken) == [soon.id, tried.delivery.id, later.id]
            assert [(one.delivery.attempts, one.delivery.failures) for one in taken] == [(1, 0), (2, 1), (1, 0)]

    async def test_a_key_is_one_delivery_within_its_window(self, tmp_path: Path) -> None:
        first, again, later = (order(key="k", key_window_s=60.0) for _ in range(3))
        elsewhere = order("other", key="k")
        async with self.open(tmp_path) as stores:
            store = stores.deliveries
            assert await store.accept([first, again, elsewhere], NOW_S) == [first.id, first.id, elsewhere.id]
        async with self.open(tmp_path) as stores:
            store = stores.deliveries
            assert await store.accept([again], NOW_S + 59) == [first.id]
            assert await store.accept([later], NOW_S + 60) == [later.id]
            assert await store.accept([again], NOW_S + 61) == [later.id]
            assert len(await store.list_deliveries(DeliveryQuery(namespace="default"))) == 3

    async def test_a_later_epoch_takes_over_what_runs(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            store = stores.deliveries
            epoch, _ = await store.take_over(NOW_S)
            await store.accept([order(), order()], NOW_S)
            first, second = await lease(store, epoch)
            await store.settle([settled(second, "retrying", NOW_S, failures=1)], epoch, NOW_S)
            (second,) = await lease(store, epoch)
        async with self.open(tmp_path) as stores:
            store = stores.deliveries
            later, waiting = await store.take_over(NOW_S + 5)
            assert later > epoch
            assert waiting == [Waiting(lane=LANE, count=2, due_s=NOW_S + 5)]
            assert await store.settle([settled(first, "succeeded", NOW_S)], epoch, NOW_S) == [False]
            with pytest.raises(Conflict, match="epoch"):
                await lease(store, epoch)
            taken = await lease(store, later, NOW_S + 5)
            assert [(one.delivery.id, one.delivery.attempts) for one in taken] == [
                (first.delivery.id, 2), (second.delivery.id, 3),
            ]  # fmt: skip

    async def test_an_outcome_and_what_follows_are_one(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            store = stores.deliveries
            epoch, _ = await store.take_over(NOW_S)
            await store.accept([order(), order(), order()], NOW_S)
            good, bad, stopped = await lease(store, epoch)
            await store.stop("default", stopped.delivery.id, NOW_S + 1)
            follow = order("next", trail=good.delivery.id, hops=1)
            done = await store.settle(
                [
                    settled(good, "succeeded", NOW_S + 2, invocation="i1", follow=(follow,)),
                    settled(bad, "failed", NOW_S + 2, failures=3, error="function_raised", detail="ValueError"),
                    settled(stopped, "succeeded", NOW_S + 2, follow=(order("never"),)),
                ],
                epoch, NOW_S + 2,
            )  # fmt: skip
            assert done == [True, True, False]
            found, parcel = await store.get("default", good.delivery.id)
            assert (found.state, found.at_s, found.invocation, parcel) == ("succeeded", NOW_S + 2, "i1", None)
            found, parcel = await store.get("default", bad.delivery.id)
            assert (found.state, found.error, found.detail, found.failures) == (
                "failed", "function_raised", "ValueError", 3,
            )  # fmt: skip
            assert parcel == bad.parcel, "a dead letter keeps what was to be delivered"
            found, parcel = await store.get("default", stopped.delivery.id)
            assert (found.state, parcel) == ("stopped", None)
            chain = await store.list_deliveries(DeliveryQuery(namespace="default", trail=good.delivery.id))
            assert [one.target for one in chain] == ["function:hello", "function:next"]

    async def test_lists_are_filtered_and_paged(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            store = stores.deliveries
            orders = [order("a" if n % 2 else "b") for n in range(6)]
            await store.accept(orders, NOW_S)
            await store.accept([order(namespace="other")], NOW_S)
            await store.accept([dead := order("a", refused="loop_detected", detail="32 edges")], NOW_S)
            names = [one.id for one in orders]

            async def found(**fields: Any) -> list[str]:
                query = DeliveryQuery(namespace="default", **fields)
                return [one.id for one in await store.list_deliveries(query)]

            assert await found() == [*names, dead.id]
            assert await found(limit=2) == names[:2]
            assert await found(limit=2, after=names[1]) == names[2:4]
            assert await found(kind="function", name="a") == [*names[1::2], dead.id]
            assert await found(states=("failed", "expired")) == [dead.id]
            assert await found(ids=(names[3], names[0])) == [names[0], names[3]]
            assert await found(kind="queue") == []
            (one,) = await store.list_deliveries(DeliveryQuery(namespace="default", ids=(dead.id,)))
            assert (one.state, one.error, one.detail) == ("failed", "loop_detected", "32 edges")

    async def test_stop(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            store = stores.deliveries
            epoch, _ = await store.take_over(NOW_S)
            await store.accept([waits := order()], NOW_S)
            assert (await store.stop("default", waits.id, NOW_S + 1, entry("stop"))).state == "queued"
            assert await lease(store, epoch, NOW_S + 9) == []
            with pytest.raises(Conflict, match="stopped already"):
                await store.stop("default", waits.id, NOW_S, entry("no"))
            for namespace, id_ in (("default", ids.new_id()), ("other", waits.id)):
                with pytest.raises(NotFound):
                    await store.stop(namespace, id_, NOW_S, entry("no"))
            assert await stores.audited() == ["stop"]

    async def test_dead_letters_are_driven_again_and_purged(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            store = stores.deliveries
            epoch, _ = await store.take_over(NOW_S)
            await store.accept([order(), order(), order()], NOW_S)
            dead, expired, good = await lease(store, epoch)
            await store.settle(
                [settled(dead, "failed", NOW_S, failures=3), settled(expired, "expired", NOW_S, failures=1),
                 settled(good, "succeeded", NOW_S)], epoch, NOW_S,
            )  # fmt: skip
            every = DeliveryQuery(namespace="default")
            one = DeliveryQuery(namespace="default", ids=(dead.delivery.id, good.delivery.id))
            assert [found.id for found in await store.redrive(one, NOW_S + 9000, entry("redrive"))] == [
                dead.delivery.id
            ]
            (again,) = await lease(store, epoch, NOW_S + 9000)
            assert again.parcel == dead.parcel
            assert (again.delivery.failures, again.delivery.attempts) == (0, 2)
            assert again.delivery.expires_s == NOW_S + 9000 + 3600
            assert await store.purge(every, entry("purge")) == 2, "what runs is not purged"
            assert [found.id for found in await store.list_deliveries(every)] == [dead.delivery.id]
            assert await store.redrive(every, NOW_S, entry("nothing")) == []
            assert await store.purge(every, entry("nothing")) == 0
            assert await stores.audited() == ["redrive", "purge"]

    async def test_what_was_kept_long_enough_is_pruned(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            store = stores.deliveries
            epoch, _ = await store.take_over(NOW_S)
            await store.accept([order(key="k", key_window_s=10.0), order(), order(), order()], NOW_S)
            good, dead, runs = await lease(store, epoch, most=3)
            await store.settle([settled(good, "succeeded", NOW_S), settled(dead, "failed", NOW_S)], epoch, NOW_S)
            assert await store.prune(NOW_S, NOW_S, NOW_S) == 0
            assert await store.prune(NOW_S + 1, NOW_S, NOW_S + 9) == 1
            assert await store.prune(NOW_S + 1, NOW_S + 1, NOW_S + 9) == 1
            left = await store.list_deliveries(DeliveryQuery(namespace="default"))
            assert [one.state for one in left] == ["running", "queued"]
            assert left[0].id == runs.delivery.id

    async def test_nothing_of_a_namespace_is_left(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as stores:
            store = stores.deliveries
            await store.accept([order(key="k"), kept := order(namespace="other")], NOW_S)
            await stores.post(Event(id="e", source="/s", type="t", time_s=NOW_S))
            await store.forget("default")
            assert await store.list_deliveries(DeliveryQuery(namespace="default")) == []
            assert await stores.outbox.peek(0, 10) == []
            assert await store.accept([again := order(key="k")], NOW_S) == [again.id]
            assert (await store.get("other", kept.id))[1] == kept.parcel

    async def test_events_leave_the_outbox_with_what_they_lead_to(self, tmp_path: Path) -> None:
        events = [Event(id=f"e{n}", source="/default/bucket/photos", type="t", time_s=NOW_S) for n in range(3)]
        async with self.open(tmp_path) as stores:
            for event in events:
                await stores.post(event)
        async with self.open(tmp_path) as stores:
            posted = await stores.outbox.peek(0, 10)
            assert [one.event for one in posted] == events
            assert {(one.namespace, one.kind, one.origin) for one in posted} == {("default", "bucket", "photos")}
            assert await stores.outbox.peek(posted[0].number, 1) == posted[1:2]
            await stores.deliveries.accept([order()], NOW_S, [one.number for one in posted[:2]])
            assert await stores.outbox.peek(0, 10) == posted[2:]
            await stores.deliveries.accept([], NOW_S, [posted[2].number])
            await stores.post(events[0])
            assert (await stores.outbox.peek(0, 10))[0].number > posted[2].number, "a number is never given again"

    async def test_a_trigger_fires_once_for_a_position(self, tmp_path: Path) -> None:
        key = ("default", "hello", "timer")
        async with self.open(tmp_path) as stores:
            triggers = stores.triggers
            assert await triggers.fire(key, NOW_S, [order()], NOW_S)
            assert not await triggers.fire(key, NOW_S, [order()], NOW_S)
            assert not await triggers.fire(key, NOW_S - 60, [order()], NOW_S)
        async with self.open(tmp_path) as stores:
            triggers = stores.triggers
            assert not await triggers.fire(key, NOW_S, [order()], NOW_S)
            assert await triggers.fire(key, NOW_S + 60, [order(), order()], NOW_S)
            assert len(await stores.deliveries.list_deliveries(DeliveryQuery(namespace="default"))) == 3
            assert await triggers.list_states() == [
                TriggerState(namespace="default", function="hello", name="timer", position_s=NOW_S + 60)
            ]

    async def test_a_paused_trigger_does_not_fire(self, tmp_path: Path) -> None:
        key, other = ("default", "hello", "timer"), ("default", "bye", "timer")
        async with self.open(tmp_path) as stores:
            triggers = stores.triggers
            await triggers.put_paused(key, True, NOW_S, entry("pause"))
            assert not await triggers.fire(key, NOW_S + 60, [order()], NOW_S)
            await triggers.put_paused(key, False, NOW_S + 600, entry("resume"))
            assert [state.position_s for state in await triggers.list_states()] == [NOW_S]
            assert await triggers.fire(key, NOW_S + 60, [order()], NOW_S)
            assert await triggers.fire(other, NOW_S, [], NOW_S)
            await triggers.forget("default", "hello")
            assert [state.function for state in await triggers.list_states()] == ["bye"]
            await triggers.forget("default")
            assert await triggers.list_states() == []
            assert await stores.audited() == ["pause", "resume"]
