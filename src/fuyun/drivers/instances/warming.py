"""Warm-up calls: what a version's spec asks for, sent to a process that loads or has loaded it."""

from __future__ import annotations

import asyncio

import msgspec

from fuyun.base import clock, ids
from fuyun.domain.errors import FunctionError, FunctionTimedOut, FuyunError, InstanceLost
from fuyun.domain.functions import Version, WarmUp
from fuyun.domain.invocations import LogLine
from fuyun.drivers.instances.ground import Ground
from fuyun.drivers.instances.process import Process
from fuyun.ports.instances import Call, Head, WarmUpReport

#: Statuses from here on are no answer to a warm-up call's GET.
_BAD = 400
#: What a record of a call that failed says.
_FAILED = 500
#: How long an instance that has taken one waits for the first start.
_WAIT_S = 60.0


class Warming:
    """One call; the `ports.instances.ReplySink` of its answer, which nobody gets."""

    def __init__(self, ground: Ground, version: Version, wanted: WarmUp) -> None:
        self._ground = ground
        self._version = version
        self._wanted = wanted
        self._at_s = clock.wall_s()
        self._id = ids.new_id(self._at_s)
        self._sent_s = 0.0
        self._sent_bytes = 0
        self._answer_bytes = 0
        self._status = 200
        self._call: Call | None = None
        self._process: Process | None = None
        self._done: asyncio.Future[tuple[int, int, int]] = asyncio.get_running_loop().create_future()

    def send(self, process: Process) -> None:
        """Write it to the process, which may still be loading."""
        version, path = self._version, self._wanted.path
        place, _, query = path.partition("?")
        deadline_ms = int((self._at_s + version.spec.timeout_s) * 1000)
        head = Head(
            id=self._id, kind="http" if path else "event", deadline_ms=deadline_ms, function=version.function,
            version=version.qualifier, attempt=0, method="GET" if path else "POST", path=place or "/", query=query,
            base=f"/fn/{version.namespace}/{version.function}", headers=[("host", "localhost")] if path else [],
        )  # fmt: skip
        body = b"" if path else msgspec.json.encode(self._wanted.event)
        self._process, self._sent_s, self._sent_bytes = process, clock.mono_s(), len(body)
        self._call = process.invoke(msgspec.json.encode(head), body, True, self)

    async def wait(self) -> WarmUpReport:
        """How it went; a process that does not answer within the function's timeout is ended."""
        assert self._process is not None
        timeout_s, usage = self._version.spec.timeout_s, (0, 0, 0)
        error: FuyunError | None = None
        try:
            usage = await asyncio.wait_for(self._done, timeout_s)
        except TimeoutError:
            self._process.kill("its warm-up call passed the timeout")
            error = FunctionTimedOut(
                f"the warm-up call was not answered within {timeout_s:g} s",
                hint="raise `timeout` in fuyun.yaml, or find what it waits for",
                timeout_s=timeout_s,
            )
        except FuyunError as raised:
            error = raised
        if error is None and self._wanted.path and self._status >= _BAD:
            error = FunctionError(
                f"the warm-up call, GET {self._wanted.path}, was answered with status {self._status}",
                hint="see `fuyun logs`, or name another path",
            )
        return WarmUpReport(
            id=self._id, at_s=self._at_s, instance=self._process.id, cpu_us=usage[1], peak_bytes=usage[2] * 1024,
            run_ms=usage[0] / 1000 or (clock.mono_s() - self._sent_s) * 1000, sent_bytes=self._sent_bytes,
            answer_bytes=self._answer_bytes, http_status=_FAILED if error is not None else self._status, error=error,
        )  # fmt: skip

    def passed_over(self) -> None:
        """The process has not taken it, and will not: another one gets it."""
        assert self._process is not None
        self._process.channel.streams.clear()

    # --- ReplySink

    def on_result(
        self, status: int, headers: list[tuple[str, str]] | None, body: bytes, usage: tuple[int, int, int]
    ) -> None:
        """The whole answer."""
        self._status, self._answer_bytes = status, len(body)
        self._end(usage)

    def on_head(self, status: int, headers: list[tuple[str, str]]) -> None:
        """A streamed answer begins."""
        self._status = status

    def on_body(self, chunk: bytes) -> None:
        """A piece of it."""
        self._answer_bytes += len(chunk)
        if self._call is not None:
            self._call.consumed(len(chunk))

    def on_end(self, usage: tuple[int, int, int]) -> None:
        """It is complete."""
        self._end(usage)

    def on_fail(self, error: Exception) -> None:
        """An error instead."""
        if not self._done.done():
            self._done.set_exception(error if isinstance(error, FuyunError) else InstanceLost(str(error)))
            self._done.exception()  # nobody may ask: a version that does not load has a reason of its own

    def on_log(self, stream: str, level: str, text: str) -> None:
        """A line the handler wrote."""
        version = self._version
        self._ground.log(
            LogLine(
                at_s=clock.wall_s(), namespace=version.namespace, function=version.function, version=version.number,
                instance=self._process.id if self._process is not None else "", request=self._id,
                stream=stream, level=level, text=text,  # type: ignore[arg-type]
            )
        )  # fmt: skip

    def on_credit(self, size_bytes: int) -> None:
        """All of the body was sent."""

    def _end(self, usage: tuple[int, int, int]) -> None:
        if not self._done.done():
            self._done.set_result(usage)


class Reserve:
    """Instances that have taken their version's warm-up call and wait, for a minute at most, to be its first."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[dict[str, str], Process, asyncio.TimerHandle]] = {}

    def keep(self, version: Version, env: dict[str, str], process: Process) -> None:
        """Keep it; an older one of the version ends."""
        self.forget(version.key)
        timer = asyncio.get_running_loop().call_later(_WAIT_S, self.forget, version.key)
        self._waiting[version.key] = env, process, timer

    def take(self, version: Version, env: dict[str, str]) -> Process | None:
        """The one of the version with this environment, if it is alive."""
        if version.key not in self._waiting:
            return None
        held, process, timer = self._waiting.pop(version.key)
        timer.cancel()
        if held == env and not process.gone:
            return process
        process.kill("its environment has changed")
        return None

    def forget(self, version_key: str) -> None:
        """End the one of the version."""
        if version_key in self._waiting:
            _, process, timer = self._waiting.pop(version_key)
            timer.cancel()
            process.kill("it is not needed any more")

    def clear(self) -> None:
        """Nothing is started any more, or all are gone with the warden."""
        for _, _, timer in self._waiting.values():
            timer.cancel()
        self._waiting.clear()
