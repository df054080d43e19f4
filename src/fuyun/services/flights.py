"""One invocation under way: the caller on one side, an instance on the other, its waterfall in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from fuyun.base import clock, ids
from fuyun.decide import billing
from fuyun.domain.errors import FuyunError, InstanceLost, ResponseTooLarge
from fuyun.domain.invocations import LogLine, Row, Status, Waterfall
from fuyun.ports.instances import Call, StartReport
from fuyun.services.members import tell_failure
from fuyun.services.requests import Request

if TYPE_CHECKING:
    from fuyun.services.invoking import Responder
    from fuyun.services.members import Member
    from fuyun.services.pools import Pool

_WARM: Final = StartReport(kind="warm")


# Where a flight is.
WAITING: Final = 0
RUNNING: Final = 1
ANSWERED: Final = 2
DONE: Final = 3

#: Microseconds below a millisecond, as they stand behind it.
_FRACTIONS: Final = [f".{n:03d}" for n in range(1000)]


@final
class LiveFlight:
    """Implements `services.invoking.Flight` for the caller and `ports.instances.ReplySink` for the instance.
    What the caller sent is kept until the instance is done with it."""

    __slots__ = (
        "_call", "_early", "_streamed", "admitted", "ahead", "alias", "answered_ns", "at_ns", "at_s", "base", "body",
        "cpu_us", "cut", "end", "error", "http_status", "id", "mark", "member", "peak_kib", "pool", "report",
        "request", "request_bytes", "responder", "response_bytes", "run_us", "sent_ns", "started_ns", "state",
    )  # fmt: skip

    def __init__(
        self, pool: Pool, alias: str, base: str, responder: Responder, request: Request, body: bytes, end: bool
    ) -> None:
        self.at_s = at_s = clock.wall_s()
        self.id = ids.new_id(at_s)
        self.pool = pool
        self.alias = alias
        self.base = base
        self.request = request
        self.body = body
        self.end = end  # the request is here to its end
        self.responder: Responder | None = responder
        self.member: Member | None = None
        self.report = _WARM
        self.state = WAITING
        self.at_ns = clock.mono_ns()
        self.started_ns = 0
        self.answered_ns = 0
        self.sent_ns = 0
        self.run_us = 0
        self.cpu_us = 0
        self.peak_kib = 0
        self.mark = 0.0
        self.error = ""
        self.http_status = 200
        self.request_bytes = len(body)
        self.response_bytes = 0
        self._call: Call | None = None
        self.admitted = False  # counted in its pool's and its namespace's gates
        self.ahead = False  # written to an instance, but behind the call that runs there
        self._early: list[tuple[bytes, bool]] | None = None
        self._streamed = False
        self.cut = False

    # --- towards the instance

    def go(self, member: Member, now_ns: int, ahead: bool = False) -> None:
        """Write the invocation to an instance: one with a free slot, or (`ahead`) behind the call it runs."""
        pool = self.pool
        self.ahead = ahead
        self.member = member
        self.state = RUNNING
        self.started_ns = now_ns
        # A `ports.instances.Head`: first what is new in every call, at places that instances know (`runtime.heads`).
        deadline_ms = int((self.at_s + (now_ns - self.at_ns) / 1e9 + pool.timeout_s) * 1000)
        head = f'{{"id":"{self.id}","deadline_ms":{deadline_ms},'.encode()
        head += self.request.text(pool.head_names, self.alias, self.base)
        call = self._call = member.instance.invoke(head, self.body, self.end, self)
        if self._early is not None:
            for chunk, end in self._early:
                call.send_body(chunk, end)
            self._early = None

    def send_body(self, chunk: bytes, end: bool) -> None:
        """More of the request body."""
        self.request_bytes += len(chunk)
        if self._call is not None:
            if self.state == RUNNING:
                self._call.send_body(chunk, end)
        elif self._early is None:
            self._early = [(chunk, end)]
        else:
            self._early.append((chunk, end))

    def consumed(self, size_bytes: int) -> None:
        """The client took this much."""
        if self._call is not None and self.state == RUNNING:
            self._call.consumed(size_bytes)

    def cancel(self) -> None:
        """The client is gone: a waiting flight is dropped, a running one is told and goes on as far as it must."""
        self.responder = None
        self.error = self.error or "cancelled"
        if self.state == WAITING:
            self.pool.drop(self)
            self._finish()
        elif self.state == RUNNING and self._call is not None:
            self._call.cancel()
        elif self.state == ANSWERED:
            self._finish()

    # --- from the instance (ReplySink)

    def on_result(
        self, status: int, headers: list[tuple[str, str]] | None, body: bytes, usage: tuple[int, int, int]
    ) -> None:
        """The whole answer."""
        self._land(usage)
        if len(body) > self.pool.output_bytes:
            limit = self.pool.output_bytes
            self._fail(
                ResponseTooLarge(
                    f"the result has {len(body)} bytes, the limit is {limit}", limit_bytes=limit, size_bytes=len(body)
                )
            )
            return
        responder = self.responder
        if responder is None:
            self._finish()
        else:
            responder.on_result(status, headers, body)

    def on_head(self, status: int, headers: list[tuple[str, str]]) -> None:
        """A streamed answer begins."""
        if self._streamed:
            raise ValueError("two HEADs")
        self._streamed = True
        if status == 101:  # a WebSocket: the timeout was for the answer, which this is
            self.pool.running.pop(self, None)
        if self.responder is not None:
            self.responder.on_head(status, headers)

    def on_body(self, chunk: bytes) -> None:
        """A piece of it."""
        if not self._streamed:
            raise ValueError("CHUNK before HEAD")
        if self.responder is not None:
            self.responder.on_body(chunk)
        elif self._call is not None:
            self._call.consumed(len(chunk))

    def on_end(self, usage: tuple[int, int, int]) -> None:
        """It is complete."""
        if not self._streamed:
            raise ValueError("FINISH before HEAD")
        self._land(usage)
        if self.responder is None:
            self._finish()
        else:
            self.responder.on_end()

    def on_fail(self, error: Exception) -> None:
        """An error instead of the answer, or in the middle of it."""
        member = self.member
        if self.ahead and member is not None and member.instance.gone:
            self._come_back(member)
            return
        if self.state == RUNNING:
            self._land((0, 0, 0))
        self._fail(error if isinstance(error, FuyunError) else InstanceLost(str(error), retry_after_s=1))

    def _come_back(self, member: Member) -> None:
        """The instance ended before this flight's turn there: nothing of it has run."""
        self.ahead = False
        member.line.remove(self)
        self._call = None
        self.started_ns = 0
        if self.responder is None:
            self.state = ANSWERED
            self._finish()
        else:
            self.state = WAITING
            self.pool.come_back(self)

    def on_log(self, stream: str, level: str, text: str) -> None:
        """A line the handler wrote."""
        version = self.pool.version
        if stream not in ("stdout", "stderr", "log", "platform"):
            raise ValueError(f"log stream {stream!r}")
        self.pool.log(
            LogLine(
                at_s=clock.wall_s(), namespace=version.namespace, function=version.function, version=version.number,
                instance=self.member.instance.id if self.member else "", request=self.id, stream=stream, level=level,  # type: ignore[arg-type]
                text=text,
            )
        )  # fmt: skip

    def on_credit(self, size_bytes: int) -> None:
        """Room for more of the request body."""
        if self.responder is not None:
            self.responder.on_credit(size_bytes)

    # --- the end

    def _land(self, usage: tuple[int, int, int]) -> None:
        """The instance is done with it: account, free the slot."""
        self.answered_ns = self.answered_ns or clock.mono_ns()
        self.run_us, self.cpu_us, self.peak_kib = usage
        self.state = ANSWERED
        self._call = None
        self.body = b""
        self.pool.landed(self)

    def expire(self, error: FuyunError) -> None:
        """Answer the caller with `error` now; the instance still holds the slot until it is done or killed."""
        self.cut = True
        tell_failure(self, error)
        responder, self.responder = self.responder, None
        self.error = error.code
        if responder is not None:
            responder.on_fail(error)

    def refuse(self, error: FuyunError) -> None:
        """It never reached an instance."""
        if self.state == DONE:  # cancelled before it could be told
            return
        self.state = ANSWERED
        self.answered_ns = self.answered_ns or clock.mono_ns()
        self._fail(error)

    def _fail(self, error: FuyunError) -> None:
        if self.cut:
            self._finish()
            return
        tell_failure(self, error)
        self.error = self.error or error.code
        if self.responder is not None:
            self.responder.on_fail(error)
        else:
            self._finish()

    def sent(self, http_status: int, response_bytes: int) -> None:
        """The answer has been handed to the network."""
        self.http_status = http_status
        self.response_bytes = response_bytes
        self.sent_ns = clock.mono_ns()
        if self.state == ANSWERED:
            self._finish()

    def _finish(self) -> None:
        if self.state != DONE:
            self.state = DONE
            self.responder = None
            self.pool.finished(self)

    # --- what is told of it

    @property
    def version(self) -> str:
        """Qualifier of the version that serves it."""
        return self.pool.qualifier

    @property
    def start_kind(self) -> str:
        """warm, blank, template, zygote or none."""
        return self.report.kind

    def waterfall(self) -> Waterfall:
        """Milliseconds per phase up to now."""
        report, now = self.report, clock.mono_ns()
        started = self.started_ns or self.answered_ns or now
        waited = (started - self.at_ns) / 1e6
        own = report.place_ms + report.start_ms + report.init_ms
        if own > waited:  # it came while the instance was already starting: it waited for the tail of it
            scale = waited / own if own else 0.0
            place, start, init, queue = report.place_ms * scale, report.start_ms * scale, report.init_ms * scale, 0.0
        else:
            place, start, init, queue = report.place_ms, report.start_ms, report.init_ms, waited - own
        answered = self.answered_ns or now
        run = max(0.0, (answered - started) / 1e6) if self.started_ns else 0.0
        send = (self.sent_ns - answered) / 1e6 if self.sent_ns > answered else 0.0
        return Waterfall(queue=queue, place=place, start=start, init=init, run=run, send=send)

    @property
    def timing(self) -> str:
        """Value of the Server-Timing header; phases that took no time are left out, queue and run always stand."""
        if self.report is _WARM and self.started_ns:
            answered = self.answered_ns or clock.mono_ns()
            queued_us, run_us = (self.started_ns - self.at_ns) // 1000, (answered - self.started_ns) // 1000
            return (
                f"queue;dur={queued_us // 1000}{_FRACTIONS[queued_us % 1000]}, "
                f"run;dur={run_us // 1000}{_FRACTIONS[run_us % 1000]}"
            )
        fall = self.waterfall()
        phases = (
            ("queue", fall.queue),
            ("place", fall.place),
            ("start", fall.start),
            ("init", fall.init),
            ("run", fall.run),
        )
        return ", ".join(f"{name};dur={value:.3f}" for name, value in phases if value or name in ("queue", "run"))

    @property
    def status(self) -> Status:
        """What the record says became of it."""
        error = self.error
        if not error:
            return "ok"
        return "throttled" if error == "throttled" else "cancelled" if error == "cancelled" else "error"

    @property
    def duration_ns(self) -> int:
        """Arrival to last byte; call when it is done."""
        return (max(self.sent_ns, self.answered_ns) or clock.mono_ns()) - self.at_ns

    @property
    def billed_gb_s(self) -> float:
        """GB-seconds; call when it is done."""
        pool = self.pool
        if pool.concurrency > 1:
            return self.mark
        run_us = (self.answered_ns - self.started_ns) // 1000 if self.started_ns else 0
        return billing.call_gb_s(pool.memory_bytes, run_us)

    def row(self, billed_gb_s: float) -> Row:
        """Its record; call when it is done."""
        member = self.member
        answered_ns = self.answered_ns or clock.mono_ns()
        found = Row(
            self.id, int(self.at_s * 1e6), self.pool.number, self.alias, self.status, self.error, self.http_status,
            self.report.kind, member.instance.id if member is not None else "", self.started_ns - self.at_ns,
            max(0, answered_ns - self.started_ns), max(0, self.sent_ns - answered_ns), self.duration_ns,
            self.peak_kib * 1024, self.cpu_us, billed_gb_s, self.request_bytes, self.response_bytes,
        )  # fmt: skip
        found.attempt = self.request.attempt
        if self.report is not _WARM or not self.started_ns:
            fall = self.waterfall()
            found.queue_ns, found.run_ns, found.send_ns = (
                int(fall.queue * 1e6),
                int(fall.run * 1e6),
                int(fall.send * 1e6),
            )
            found.place_ns, found.start_ns, found.init_ns = (
                int(fall.place * 1e6),
                int(fall.start * 1e6),
                int(fall.init * 1e6),
            )
        return found
