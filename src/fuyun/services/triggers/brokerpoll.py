"""Messages of one broker on their way into one function, over one connection.

What is received waits in a lane: messages of one key in the same, so that they stay in order; each lane hands over a
batch at a time. A message is settled when it has its outcome, and not before: the function took it, or it is a dead
letter on the disk. What the connection's end leaves unsettled comes again over the next one.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog

from fuyun.base import clock, faults
from fuyun.base.tasks import Scope
from fuyun.decide.filters import View, compiled
from fuyun.domain.errors import FuyunError, Unavailable
from fuyun.domain.filters import read_filter
from fuyun.domain.streams import partition_of
from fuyun.domain.triggers import Policy
from fuyun.ports.brokers import Consumer, Received, Settlement
from fuyun.services.triggers.batches import Batches, Item, waited

if TYPE_CHECKING:
    from fuyun.services.triggers.bindings import Binding

_log = structlog.get_logger("fuyun.triggers")
#: Messages that one trigger holds at most, and bytes of their data: then it receives none until some are settled.
MOST_HELD: Final = 1000
HELD_BYTES: Final = 32 * 2**20
#: Seconds a look for messages takes at most, between two looks for how many wait, until a full disk is tried again.
_WAIT_S: Final = 20.0
_LAG_S: Final = 10.0
_PATIENCE_S: Final = 1.0
#: Settled messages that are remembered: a broker that did not hear of it gives them out again.
_REMEMBERED: Final = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Held(Item):
    """A message that was received and has no outcome yet."""

    received: Received
    at_s: float  # when it was made, as its broker says


@dataclass(slots=True)
class Progress:
    """What a trigger has done since the platform began, and how it stands. Outlives connections."""

    connected_s: float = 0.0  # since when; 0 while it is not
    problem: str = ""
    problem_s: float = 0.0  # since when
    last_s: float = 0.0  # when it received something last
    waiting: int | None = None  # in the broker, as it said last
    received: int = 0
    done: int = 0
    given_up: int = 0
    dropped: int = 0  # not wanted by its filter
    repeated: int = 0  # given out again though they were settled
    held: dict[Held, None] = field(default_factory=dict)
    settled: OrderedDict[str, None] = field(default_factory=OrderedDict)

    @property
    def lag(self) -> int | None:
        """Messages without an outcome; None where the broker does not say how many it has."""
        return None if self.waiting is None else self.waiting + len(self.held)

    def age_s(self, now_s: float) -> float:
        """Age of the oldest message that is held; 0 for none."""
        first = next(iter(self.held), None)
        return max(0.0, now_s - first.at_s) if first is not None else 0.0

    def remember(self, sequence: str) -> None:
        """It is settled."""
        self.settled[sequence] = None
        if len(self.settled) > _REMEMBERED:
            self.settled.popitem(last=False)


def most_held(policy: Policy) -> int:
    """Messages that a trigger holds at most."""
    return min(MOST_HELD, policy.batch_size * policy.parallelism)


class Session:
    """One connection of one trigger. Implements `services.triggers.batches.Turn`."""

    in_order = False

    def __init__(self, consumer: Consumer, binding: Binding, batches: Batches, progress: Progress) -> None:
        self.binding = binding
        self._consumer = consumer
        self._batches = batches
        self._progress = progress
        self._policy = binding.trigger.policy
        self._most = most_held(self._policy)
        self._bytes = 0
        self._holding: dict[str, Held] = {}  # by sequence
        self._receipts: dict[Held, object] = {}  # the newest of each
        self._settlements: list[Settlement] = []
        self._settling = asyncio.Event()
        self._one_settles = asyncio.Lock()
        self._room = asyncio.Event()
        self._stop = asyncio.Event()
        self._error: BaseException | None = None
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._takes: Callable[[Received], bool] = lambda received: True
        if self._policy.filter is not None:
            takes = compiled(read_filter(self._policy.filter))
            self._takes = lambda received: takes(View(received.event))
        self._lanes = [_Lane(self) for _ in range(min(self._policy.parallelism, self._most))]

    # --- Turn

    async def wait(self, seconds: float) -> bool:
        """See `Turn`."""
        return await waited(self._stop, seconds)

    def settled(self, items: Sequence[Item], given_up: bool) -> None:
        """See `Turn`: tell the broker."""
        for item in items:
            assert isinstance(item, Held)
            self._progress.done += not given_up
            self._progress.given_up += given_up
            self._let_go(item, given_up)

    # --- the connection

    async def run(self, left: asyncio.Future[None]) -> None:
        """Work until `left` is done, and what is inside the function has come out; or until the connection breaks:
        Unavailable. What is unsettled then is for who closes the consumer to give back."""
        self._progress.held.clear()
        async with Scope("broker-session", self._fail) as scope:
            lanes = [scope.start(lane.run(), "lane") for lane in self._lanes]
            scope.start(self._settle_all(), "settle")
            scope.start(self._watch(), "watch")
            if self._consumer.keep_s < math.inf:
                scope.start(self._keep(), "keep")
            await self._receive(scope, left)
            self._stop.set()
            for lane in self._lanes:
                lane.arrived.set()
            await asyncio.wait(lanes)
            if self._error is None:
                await self._flush()
        self._progress.held.clear()
        if self._error is not None:
            raise self._error

    def _fail(self, error: BaseException) -> None:
        if self._error is None:
            self._error = error
        if not self._over.done():
            self._over.set_result(None)
        self._room.set()

    async def _receive(self, scope: Scope, left: asyncio.Future[None]) -> None:
        ends = {left, self._over}
        while not left.done() and not self._over.done():
            room = self._most - len(self._holding) if self._bytes < HELD_BYTES else 0
            waits = self._consumer.receive(room, _WAIT_S) if room > 0 else self._until_room()
            task = scope.start(waits, "receive")
            await asyncio.wait({task, *ends}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
            elif task.exception() is None:
                for received in task.result():
                    self._take(received)

    async def _until_room(self) -> list[Received]:
        self._room.clear()
        await self._room.wait()
        return []

    def _take(self, received: Received) -> None:
        now_s = clock.wall_s()
        self._progress.last_s = now_s
        if received.lasting and (held := self._holding.get(received.sequence)) is not None:
            self._receipts[held] = received.receipt  # its lease ran out meanwhile
            return
        if received.lasting and received.again and received.sequence in self._progress.settled:
            self._progress.repeated += 1
            self._tell(Settlement(received.receipt))
            return
        self._progress.received += 1
        if not self._takes(received):
            self._progress.dropped += 1
            self._tell(Settlement(received.receipt))
            return
        held = Held(received.event, received.sequence, received, min(now_s, received.event.time_s))
        self._holding[held.sequence] = held
        self._receipts[held] = received.receipt
        self._progress.held[held] = None
        self._bytes += len(received.event.data)
        if received.key:
            lane = self._lanes[partition_of(received.key, len(self._lanes))]
        else:
            lane = min(self._lanes, key=lambda lane: lane.load)
        lane.add(held)

    def _let_go(self, held: Held, given_up: bool) -> None:
        receipt = self._receipts.pop(held, None)
        if self._holding.pop(held.sequence, None) is None:
            return
        self._progress.held.pop(held, None)
        self._bytes -= len(held.event.data)
        if held.received.lasting:
            self._progress.remember(held.sequence)
        faults.point("brokers.before_settle")
        self._tell(Settlement(receipt, given_up))
        self._room.set()

    def _tell(self, settlement: Settlement) -> None:
        self._settlements.append(settlement)
        self._settling.set()

    async def _settle_all(self) -> None:
        while True:
            await self._settling.wait()
            self._settling.clear()
            await self._flush()

    async def _flush(self) -> None:
        async with self._one_settles:
            settlements, self._settlements = self._settlements, []
            if settlements:
                await self._consumer.settle(settlements)
                faults.point("brokers.after_settle")

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._consumer.keep_s)
            if self._receipts:
                await self._consumer.keep(list(self._receipts.values()))

    async def _watch(self) -> None:
        while True:
            self._progress.waiting = await self._consumer.lag()
            await asyncio.sleep(_LAG_S)

    # --- what lanes ask

    @property
    def stopped(self) -> bool:
        """Whether nothing is to be begun any more."""
        return self._stop.is_set()

    @property
    def policy(self) -> Policy:
        """The trigger's."""
        return self._policy

    async def deliver(self, batch: list[Held]) -> None:
        """Hand over; also when the disk is full for a while."""
        while batch and not self.stopped:
            try:
                if not await self._batches.deliver(self.binding, batch, self):
                    return
            except FuyunError as error:
                _log.warning("a batch is held up", trigger=self.binding.origin, error=error.detail)
                if not await self.wait(_PATIENCE_S):
                    return
            batch = [held for held in batch if held in self._receipts]


class _Lane:
    """Messages that are handed over one batch after the other."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._waiting: deque[Held] = deque()
        self._inside = 0
        self.arrived = asyncio.Event()

    @property
    def load(self) -> int:
        """Messages that are in it."""
        return len(self._waiting) + self._inside

    def add(self, held: Held) -> None:
        """It comes after those that are there."""
        self._waiting.append(held)
        self.arrived.set()

    async def run(self) -> None:
        """Hand over until the session stops."""
        while await self._gather():
            size = min(len(self._waiting), self._session.policy.batch_size)
            batch = [self._waiting.popleft() for _ in range(size)]
            self._inside = size
            await self._session.deliver(batch)
            self._inside = 0

    async def _gather(self) -> bool:
        """Wait for a batch: a full one, or what has come when the window of its first message closes."""
        policy = self._session.policy
        full = min(policy.batch_size, most_held(policy))
        until_s = math.inf
        while not self._session.stopped:
            if self._waiting and until_s == math.inf:
                until_s = clock.mono_s() + policy.batch_window_s
            left_s = until_s - clock.mono_s()
            if len(self._waiting) >= full or left_s <= 0:
                return True
            self.arrived.clear()
            try:
                async with asyncio.timeout(None if left_s == math.inf else left_s):
                    await self.arrived.wait()
            except TimeoutError:
                pass
        return False


def unavailable(error: BaseException) -> FuyunError:
    """What a consumer ended in, as an error of ours."""
    return error if isinstance(error, FuyunError) else Unavailable(f"{type(error).__name__}: {error}")
