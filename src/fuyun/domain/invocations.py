"""What is remembered of an invocation."""

from __future__ import annotations

from typing import Literal

from fuyun.domain.functions import Wire

Status = Literal["ok", "error", "throttled", "cancelled"]
StartKind = Literal["warm", "blank", "template", "zygote", "none"]

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
    """The record of one attempt of one invocation."""

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
