"""What pools are made of: an instance with its state, what a namespace uses, what pools share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol, final

import msgspec

from fuyun.base import clock
from fuyun.base.tasks import Scope
from fuyun.decide import billing, quotas
from fuyun.decide import instance as life
from fuyun.decide.instance import Event
from fuyun.domain.errors import FunctionTimedOut, FuyunError
from fuyun.domain.functions import Hooks, Version
from fuyun.domain.invocations import LogLine
from fuyun.domain.tenants import Quotas
from fuyun.ports.instances import Instance, InstanceHost
from fuyun.services.measures import Tally

if TYPE_CHECKING:
    from fuyun.services.flights import LiveFlight


@final
class Tenant:
    """What one namespace uses now."""

    __slots__ = ("gate", "instances", "memory_bytes", "quotas")

    def __init__(self, limits: Quotas) -> None:
        self.quotas = limits
        self.gate = quotas.Gate(limits.concurrency)
        self.instances = 0
        self.memory_bytes = 0


@final
class Member:
    """An instance in its pool, with the state that `decide.instance` says it is in."""

    __slots__ = ("cut_s", "instance", "line", "lock", "meter", "overdue", "serving", "state")

    def __init__(self, instance: Instance, rules: life.Rules, now_s: float) -> None:
        self.instance = instance
        self.serving = True  # takes calls
        self.overdue = 0  # calls inside that passed their timeout
        self.cut_s = 0.0  # when it is ended if nothing else is inside
        self.lock = asyncio.Lock()  # commands are carried out one after the other
        self.line: list[LiveFlight] = []  # written to it already, behind the one that runs
        self.meter = billing.Meter()
        if "pre_stop" in instance.report.hooks and not rules.pre_stop_s:
            rules = msgspec.structs.replace(rules, pre_stop_s=Hooks().pre_stop_timeout_s)  # an application's shutdown
        started, _ = life.step(life.InstanceState(rules), Event.STARTED, now_s)
        self.state, _ = life.step(started, Event.INITIALISED, now_s)

    def step(self, event: Event, now_s: float) -> tuple[life.Command, ...]:
        """Feed an event; what is to be done."""
        self.state, commands = life.step(self.state, event, now_s)
        return commands


class Surroundings(Protocol):
    """What pools share."""

    host: InstanceHost
    scope: Scope
    queue_length: int
    queue_wait_s: float

    @property
    def environment(self) -> Callable[[Version], Awaitable[dict[str, str]]]: ...
    def log(self, line: LogLine) -> None: ...
    def tally(self, namespace: str, function: str) -> Tally: ...
    def finished(self, flight: LiveFlight) -> None: ...
    def wake(self) -> None: ...


def timed_out(timeout_s: float) -> FunctionTimedOut:
    """The error of a call that ran too long."""
    return FunctionTimedOut(
        f"the function did not answer within {timeout_s:g} s and was ended",
        hint="raise `timeout` in fuyun.yaml, or find what it waits for: `fuyun logs` shows what it printed before",
        timeout_s=timeout_s,
    )


def tell_failure(flight: LiveFlight, error: FuyunError) -> None:
    """Write into the log of a call that fails what became of it and what to do, where nothing else there says it.

    An instance that caught the error has written the traceback itself. What a caller did wrong, and calls that were
    given up, are no news to the author."""
    instance = flight.member.instance.id if flight.member is not None else ""
    if flight.error or error.actor == "caller" or (instance and error.fields.get("traceback")):
        return
    version = flight.pool.version
    flight.pool.log(
        LogLine(
            at_s=clock.wall_s(), namespace=version.namespace, function=version.function, version=version.number,
            instance=instance, request=flight.id, stream="platform", level="error",
            text=f"{error.code}: {error.detail}" + (f"; {error.hint}" if error.hint else ""),
        )
    )  # fmt: skip


def carry_out(scope: Scope, member: Member, commands: tuple[life.Command, ...]) -> None:
    """Do what the machine commands: at once what does not wait, the rest in order in a task of `scope`."""
    later = []
    for command in commands:
        if isinstance(command, life.Kill):
            member.instance.kill(command.reason)
        elif isinstance(command, life.Thaw):
            member.instance.freeze(False)
        else:
            later.append(command)
    if later:
        scope.start(_carry_on(member, later, member.state), f"commands to {member.instance.id}")


async def _carry_on(member: Member, commands: Sequence[life.Command], state: life.InstanceState) -> None:
    """`state` is what the commands were given in: an instance that left it meanwhile is not frozen any more."""
    async with member.lock:
        for command in commands:
            if isinstance(command, life.RunHook) and (command.hook == "pre_stop" or member.state is state):
                await member.instance.hook(command.hook, command.timeout_s)
            elif isinstance(command, life.Stop):
                await member.instance.stop(command.timeout_s)
            elif isinstance(command, life.Freeze) and member.state is state:
                member.instance.freeze(True)
