"""Whatever senders, receivers and the clock do: one holder a message, groups in order, nothing lost."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fuyun.decide import leases
from fuyun.decide.leases import ABSENT, EXPIRED, SUPERSEDED, Place
from fuyun.domain.queues import QueueSpec

NOW_S = 1000.0
PLAIN = QueueSpec(visibility_s=10, delay_s=0, retention_s=60, dead_letter="dead", max_receives=3)


def test_a_message_goes_through_its_stages() -> None:
    place = leases.enter(PLAIN, 5.0, False, NOW_S)
    assert leases.stage(place, NOW_S + 4) == "delayed"
    assert leases.stage(place, NOW_S + 5) == "ready"
    held = leases.take(place, 10.0, NOW_S + 5)
    assert (leases.stage(held, NOW_S + 14), held.lease, held.receives) == ("in_flight", 1, 1)
    assert leases.stage(held, NOW_S + 15) == "ready"
    assert leases.stage(leases.enter(PLAIN, None, True, NOW_S), NOW_S + 99) == "blocked"


def test_receipts_are_good_for_their_lease_only() -> None:
    held = leases.take(leases.enter(PLAIN, None, False, NOW_S), 10.0, NOW_S)
    assert leases.refusal(held, 1, NOW_S + 9.9) == ""
    assert leases.refusal(held, 1, NOW_S + 10) == EXPIRED
    assert leases.refusal(leases.take(held, 10.0, NOW_S + 10), 1, NOW_S + 11) == SUPERSEDED
    assert leases.refusal(leases.hold(held, 0.0, NOW_S + 1), 1, NOW_S + 1) == EXPIRED, "what was returned is not held"
    assert leases.refusal(leases.hold(held, 50.0, NOW_S + 1), 1, NOW_S + 50) == ""
    assert leases.refusal(None, 1, NOW_S) == ABSENT


def test_what_a_receiver_does_with_what_it_meets() -> None:
    fresh = leases.enter(PLAIN, None, False, NOW_S)
    spent = Place(NOW_S, NOW_S, receives=3)
    assert leases.turn(PLAIN, fresh, NOW_S) == "take"
    assert leases.turn(PLAIN, fresh, NOW_S + 60) == "expire"
    assert leases.turn(PLAIN, spent, NOW_S) == "give_up"
    assert leases.turn(QueueSpec(retention_s=60), spent, NOW_S) == "take", "without a dead-letter queue, for ever"


@dataclass
class Kept:
    """A message of the model, in the order of the keys."""

    group: str
    place: Place


@dataclass
class Holder:
    """Somebody who took a message out, and until when it is theirs."""

    message: int
    lease: int
    until_s: float


@dataclass
class Ledger:
    """What happened to messages."""

    sent: list[int] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    given_up: list[int] = field(default_factory=list)
    expired: list[int] = field(default_factory=list)


class Machine(RuleBasedStateMachine):
    """A queue as the drivers keep one, over a dict: each step is what `drivers.queues.messages` does with its rows."""

    spec = PLAIN

    def __init__(self) -> None:
        super().__init__()
        self.now_s = NOW_S
        self.queue: dict[int, Kept] = {}
        self.holders: list[Holder] = []
        self.ledger = Ledger()

    def remove(self, number: int) -> None:
        """As a driver does: those behind it step forward."""
        group = self.queue.pop(number).group
        behind = next((kept for kept in self.queue.values() if kept.group == group), None)
        if self.spec.fifo and behind is not None and behind.place.due_s is None:
            behind.place = leases.promote(self.spec, behind.place, self.now_s)

    @rule(group=st.sampled_from("ab"), delay_s=st.sampled_from([None, 0.0, 5.0]))
    def send(self, group: str, delay_s: float | None) -> None:
        number = len(self.ledger.sent) + 1
        behind = self.spec.fifo and any(kept.group == group for kept in self.queue.values())
        place = leases.enter(self.spec, None if self.spec.fifo else delay_s, behind, self.now_s)
        self.queue[number] = Kept(group, place)
        self.ledger.sent.append(number)

    @rule(most=st.integers(1, 3), visibility_s=st.sampled_from([1.0, 10.0, 100.0]))
    def receive(self, most: int, visibility_s: float) -> None:
        taken = 0
        while taken < most:
            ready = [
                (kept.place.due_s, number)
                for number, kept in self.queue.items()
                if kept.place.due_s is not None and kept.place.due_s <= self.now_s
            ]
            if not ready:
                return
            number = min(ready)[1]
            kept = self.queue[number]
            turn = leases.turn(self.spec, kept.place, self.now_s)
            if turn == "take":
                self.check_turn(number)
                kept.place = leases.take(kept.place, visibility_s, self.now_s)
                self.holders.append(Holder(number, kept.place.lease, self.now_s + visibility_s))
                taken += 1
            else:
                (self.ledger.given_up if turn == "give_up" else self.ledger.expired).append(number)
                self.remove(number)

    def check_turn(self, number: int) -> None:
        """It is nobody's, and in a queue with order the first of its group."""
        assert not [one for one in self.holders if one.message == number and one.until_s > self.now_s]
        if self.spec.fifo:
            group = [other for other, kept in self.queue.items() if kept.group == self.queue[number].group]
            assert min(group) == number

    @precondition(lambda self: self.holders)
    @rule(data=st.data(), hold_s=st.sampled_from([None, 0.0, 1.0, 50.0]))
    def settle(self, data: st.DataObject, hold_s: float | None) -> None:
        holder = data.draw(st.sampled_from(self.holders))
        kept = self.queue.get(holder.message)
        why = leases.refusal(kept.place if kept else None, holder.lease, self.now_s)
        assert (why == "") == (holder.until_s > self.now_s and kept is not None), "a receipt is good while its lease is"
        if why or kept is None:
            return
        if hold_s is None:
            self.ledger.done.append(holder.message)
            self.remove(holder.message)
            holder.until_s = self.now_s
        else:
            kept.place = leases.hold(kept.place, hold_s, self.now_s)
            holder.until_s = self.now_s + hold_s

    @rule(seconds=st.sampled_from([0.5, 5.0, 20.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @rule()
    def sweep(self) -> None:
        for number in [n for n, kept in self.queue.items() if leases.outlived(self.spec, kept.place, self.now_s)]:
            self.ledger.expired.append(number)
            self.remove(number)

    @invariant()
    def nothing_is_lost(self) -> None:
        ledger = self.ledger
        ended = [*ledger.done, *ledger.given_up, *ledger.expired]
        assert sorted([*self.queue, *ended]) == ledger.sent

    @invariant()
    def groups_stand_in_order(self) -> None:
        if not self.spec.fifo:
            return
        for group in "ab":
            stages = [leases.stage(kept.place, self.now_s) for kept in self.queue.values() if kept.group == group]
            assert all(stage == "blocked" for stage in stages[1:])
            assert stages[:1] != ["blocked"], "the first of a group is never stuck"

    @invariant()
    def one_holder_each(self) -> None:
        held = [holder.message for holder in self.holders if holder.until_s > self.now_s]
        assert len(held) == len(set(held))
        assert set(held) == {n for n, kept in self.queue.items() if leases.stage(kept.place, self.now_s) == "in_flight"}


class OrderedMachine(Machine):
    """The same of a queue with order, whose messages begin late."""

    spec = QueueSpec(fifo=True, delay_s=3, retention_s=60, dead_letter="dead", max_receives=3)


Machine.TestCase.settings = OrderedMachine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, database=None, derandomize=True
)
TestPlain = Machine.TestCase
TestOrdered = OrderedMachine.TestCase
