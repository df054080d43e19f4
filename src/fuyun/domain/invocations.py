"""What is remembered of an invocation."""

from __future__ import annotations

from typing import Literal

import msgspec

from fuyun.domain.functions import Wire

Status = Literal["ok", "error", "throttled", "cancelled"]
#: The rung an instance came from (`decide.starts`); warm: it was there.
StartKind = Literal["warm", "blank", "template", "layers", "zygote", "none"]

#: The phases of a request's waterfall, in order.
PHASES = ("queue", "place", "start", "init", "run", "send")


class Waterfall(Wire, frozen=True, kw_only=True):
    """Milliseconds a request spent in each phase, in order.

    queue: waiting for a free slot. place: choosing and preparing an instance (limits, channel). start: fork, sandbox,
    mounts. init: import and initializer. run: inside the handler until its last byte. send: writing to the client.
    """

    queue: float = 0.0
    place: float = 0.0
    start: float = 0.0
    init: float = 0.0
    run: float = 0.0
    send: float = 0.0


class Invocation(Wire, frozen=True, kw_only=True):
    """The record of one attempt of one invocation; attempt 0 is the warm-up call of a deployment."""

    id: str
    at_s: float  # wall clock at arrival
    namespace: str
    function: str
    version: int
    alias: str = ""
    status: Status
    error: str = ""  # error code of domain/errors.py, "" when ok
    http_status: int = 200
    attempt: int = 1
    start_kind: StartKind
    instance: str = ""
    waterfall: Waterfall
    duration_ms: float  # arrival to last byte
    memory_peak_bytes: int = 0
    cpu_s: float = 0.0
    billed_gb_s: float = 0.0
    request_bytes: int = 0
    response_bytes: int = 0


class Row(msgspec.Struct, gc=False, array_like=True):
    """An `Invocation` as it is stored, without the function's names: in whole numbers, and as JSON an array, because
    every call has one (decision 0020). Made by position."""

    id: str
    at_us: int
    version: int
    alias: str
    status: Status
    error: str
    http_status: int
    start_kind: StartKind
    instance: str
    queue_ns: int
    run_ns: int
    send_ns: int
    duration_ns: int
    memory_peak_bytes: int
    cpu_us: int
    billed_gb_s: float
    request_bytes: int
    response_bytes: int
    attempt: int = 1
    place_ns: int = 0
    start_ns: int = 0
    init_ns: int = 0

    @property
    def done_s(self) -> float:
        """Wall clock at its last byte."""
        return self.at_us / 1e6 + self.duration_ns / 1e9

    def record(self, namespace: str, function: str) -> Invocation:
        """What it stands for."""
        return Invocation(
            id=self.id, at_s=self.at_us / 1e6, namespace=namespace, function=function, version=self.version,
            alias=self.alias, status=self.status, error=self.error, http_status=self.http_status, attempt=self.attempt,
            start_kind=self.start_kind, instance=self.instance,
            waterfall=Waterfall(
                queue=self.queue_ns / 1e6, place=self.place_ns / 1e6, start=self.start_ns / 1e6,
                init=self.init_ns / 1e6, run=self.run_ns / 1e6, send=self.send_ns / 1e6,
            ),
            duration_ms=self.duration_ns / 1e6, memory_peak_bytes=self.memory_peak_bytes, cpu_s=self.cpu_us / 1e6,
            billed_gb_s=self.billed_gb_s, request_bytes=self.request_bytes, response_bytes=self.response_bytes,
        )  # fmt: skip

    @classmethod
    def of(cls, found: Invocation) -> Row:
        """The row of a record; durations are rounded to nanoseconds."""
        fall = found.waterfall
        return cls(
            found.id, round(found.at_s * 1e6), found.version, found.alias, found.status, found.error,
            found.http_status, found.start_kind, found.instance, round(fall.queue * 1e6), round(fall.run * 1e6),
            round(fall.send * 1e6), round(found.duration_ms * 1e6), found.memory_peak_bytes, round(found.cpu_s * 1e6),
            found.billed_gb_s, found.request_bytes, found.response_bytes, found.attempt, round(fall.place * 1e6),
            round(fall.start * 1e6), round(fall.init * 1e6),
        )  # fmt: skip


class LogLine(Wire, frozen=True, kw_only=True):
    """A line an instance wrote while serving `request` ("" when it belongs to none)."""

    at_s: float
    namespace: str
    function: str
    version: int
    instance: str
    request: str = ""
    stream: Literal["stdout", "stderr", "log", "platform"] = "stdout"
    level: str = ""
    text: str
