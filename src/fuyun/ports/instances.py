"""Instances: where functions run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from fuyun.domain.errors import FuyunError
from fuyun.domain.functions import StartPolicy, Version, Wire
from fuyun.domain.invocations import StartKind


class StartReport(Wire, frozen=True, kw_only=True):
    """How an instance came to be, in milliseconds, and what it is."""

    kind: StartKind
    place_ms: float = 0.0
    start_ms: float = 0.0
    init_ms: float = 0.0
    mode: str = "event"  # event, wsgi, asgi
    forkable: bool = False
    unforkable_reason: str = ""
    hooks: tuple[str, ...] = ()  # lifecycle hooks worth running
    memory_bytes: int = 0
    warm_up: Any = None  # the WarmUpReport of a `prepare` that made such a call


@dataclass(frozen=True, kw_only=True)
class WarmUpReport:
    """How the warm-up call of a version went. `at_s`: wall clock; `error` is None when it was answered as it should."""

    id: str
    at_s: float
    instance: str
    run_ms: float
    cpu_us: int = 0
    peak_bytes: int = 0
    sent_bytes: int = 0
    answer_bytes: int = 0
    http_status: int = 200
    error: FuyunError | None = None


class StartPlan(Wire, frozen=True, kw_only=True):
    """How the next instance of a version would start: what its spec asks for, the rung of the start ladder, and why."""

    policy: StartPolicy
    rung: str  # spare, template, blank, zygote or none
    reason: str


class Head(Wire, frozen=True, kw_only=True):
    """The head of a request for a function, as the instance gets it (JSON in the INVOKE frame)."""

    id: str
    kind: str = "http"  # "http" or "event"
    deadline_ms: int = 0  # wall clock, milliseconds
    function: str = ""
    version: str = ""
    alias: str = ""
    attempt: int = 1
    trace: str = ""  # W3C traceparent
    method: str = "POST"
    path: str = "/"
    base: str = ""  # part of the path that named the function (SCRIPT_NAME / root_path)
    query: str = ""
    headers: list[tuple[str, str]] = []
    source: str = ""  # client address
    scheme: str = "http"
    credential: str = ""  # for the platform's address inside; "" when its function has no permissions


class Asked(msgspec.Struct, gc=False):
    """The part of a `Head` that a caller wrote."""

    method: str
    path: str
    base: str
    query: str
    headers: list[tuple[str, str]]
    source: str
    scheme: str
    trace: str


class ReplySink(Protocol):
    """Receives one invocation's answer, on the loop, in order: log*, then head once, body*, end once - or fail once.

    `result` is the whole answer in one call (the common case) and replaces head/body/end.
    """

    def on_result(
        self, status: int, headers: list[tuple[str, str]] | None, body: bytes, usage: tuple[int, int, int]
    ) -> None:
        """A buffered answer. headers None means `content-type: application/json`. usage: run µs, cpu µs, peak KiB."""
        ...

    def on_head(self, status: int, headers: list[tuple[str, str]]) -> None:
        """A streamed answer begins."""
        ...

    def on_body(self, chunk: bytes) -> None:
        """A piece of it; acknowledge with `call.consumed(len(chunk))` when the client has taken it."""
        ...

    def on_end(self, usage: tuple[int, int, int]) -> None:
        """It is complete."""
        ...

    def on_fail(self, error: Exception) -> None:
        """A FuyunError instead of, or in the middle of, an answer."""
        ...

    def on_log(self, stream: str, level: str, text: str) -> None:
        """A line the handler wrote for this invocation."""
        ...

    def on_credit(self, size_bytes: int) -> None:
        """The instance took this much of the request body; that much more may be sent."""
        ...


class Call(Protocol):
    """An invocation inside an instance."""

    def send_body(self, chunk: bytes, end: bool) -> None:
        """More of the request body (only after an INVOKE without its end)."""
        ...

    def consumed(self, size_bytes: int) -> None:
        """The client took this much of a streamed answer."""
        ...

    def cancel(self) -> None:
        """The client is gone: free the slot as soon as the handler can be stopped."""
        ...


class Instance(Protocol):
    """One sandboxed process of one version. All calls on the loop; none blocks."""

    id: str
    pid: int
    report: StartReport

    @property
    def inflight(self) -> int:
        """Invocations inside."""
        ...

    @property
    def gone(self) -> bool:
        """It takes no more calls."""
        ...

    def invoke(self, head: bytes, body: bytes, end: bool, sink: ReplySink) -> Call:
        """Send an invocation: `head` is a JSON `Head`. `end` says that `body` is all of it. Where one call runs
        at a time, others stand behind it in order. Of an instance that is gone the sink fails with InstanceLost, after
        the caller has got hold of the call."""
        ...

    def kill(self, reason: str) -> None:
        """End it now (SIGKILL to all it holds); every open sink fails."""
        ...

    def freeze(self, frozen: bool) -> None:
        """Give its processes no CPU, or let them run again; frames written meanwhile wait for it."""
        ...

    async def hook(self, name: str, timeout_s: float) -> bool:
        """Run a lifecycle hook inside; False when it failed, was cut off or there is none."""
        ...

    async def stop(self, timeout_s: float) -> None:
        """Ask it to end and wait until it is gone; after `timeout_s` it is killed."""
        ...


class InstanceHost(Protocol):
    """Starts instances. One per node; behind it are the warden, zygotes, blanks, templates and spares."""

    async def start(self, version: Version, env: dict[str, str], on_gone: Callable[[Instance], None]) -> Instance:
        """A ready instance, by the quickest rung that is free. Raises FunctionLoadFailed, HandlerMissing,
        FunctionInitFailed, FunctionOutOfMemory, HostUnable, Unavailable. `on_gone` is called once, as soon as it takes
        no more calls; those inside fail a little later, when it is known why."""
        ...

    async def prepare(self, version: Version, env: dict[str, str]) -> StartReport:
        """Warm: start once, make a template where the version can be forked and it pays; the report of that start.
        Where the spec names a warm-up call it is sent once: in the template, whose copies then have what it loaded and
        kept, or else in an instance, which the next `start` gets. That it failed is in the report, and raises
        nothing."""
        ...

    def plan_of(self, version: Version) -> StartPlan:
        """How its next instance would start as things are. Never waits, changes nothing."""
        ...

    def forget(self, version_key: str) -> None:
        """Drop the version's template and rungs."""
        ...

    async def inventory(self) -> dict[str, Any]:
        """Zygotes, blanks, templates, spares and instances with pids and memory, for `status`."""
        ...

    async def close(self) -> None:
        """End every process it started and remove every cgroup."""
        ...
