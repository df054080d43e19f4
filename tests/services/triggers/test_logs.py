"""Triggers of log lines, over the very files that lines are kept in: what is matched, loops, restarts, crashes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fuyun.base import clock, faults
from fuyun.domain.errors import BadRequest, FunctionRaised
from fuyun.domain.events import MOST_HOPS
from fuyun.domain.invocations import LogLine
from fuyun.domain.logtriggers import LogTrigger, check_log
from fuyun.domain.triggers import Policy, Trigger
from fuyun.drivers.records.folder import FolderRecords
from fuyun.services.tenants import PLATFORM
from fuyun.testing.hosts import FakeCall
from tests.services import events


class Scene:
    """Functions `f`, which has the trigger, and `g` and `h`, which log."""

    def __init__(self, e: events.Events, folder: Path) -> None:
        self.events = e
        self.folder = folder
        self.seen: list[list[dict[str, Any]]] = []
        e.handler = self.take_all

    @property
    def records(self) -> FolderRecords:
        found: FolderRecords = self.events.records
        return found

    def take_all(self, call: FakeCall) -> None:
        self.seen.append(json.loads(call.body))
        call.answer()

    def log(self, *texts: str, function: str = "g", request: str = "", **fields: Any) -> None:
        for text in texts:
            self.records.append_nowait(
                LogLine(
                    at_s=clock.wall_s(), namespace="default", function=function, version=1, instance="i",
                    request=request, text=text, **fields,
                )
            )  # fmt: skip

    async def deploy(self, log: LogTrigger | None = None, name: str = "f", **policy: Any) -> None:
        trigger = Trigger(log=log or LogTrigger(), policy=Policy(**{"batch_size": 100, **policy}))
        await self.events.platform.deploy(name, triggers=(trigger,))
        self.events.path.bindings.changed()
        await self.until(lambda: ("default", name, "log") in self.logs._places)

    @property
    def logs(self) -> Any:
        return self.events.path.outside.logs

    async def until(self, holds: Callable[[], Any]) -> None:
        async with asyncio.timeout(15):
            while not holds():
                await asyncio.sleep(0.02)

    def texts(self) -> list[str]:
        return [event["data"]["text"] for batch in self.seen for event in batch]


def play(tmp_path: Path, scene: Callable[[Scene], Awaitable[None]]) -> None:
    async def inner(e: events.Events) -> None:
        e.records = FolderRecords.open(tmp_path / "records")
        try:
            for name in ("g", "h"):
                await e.platform.deploy(name)
            await e.restart()
            await scene(Scene(e, tmp_path))
            await e.path.outside.close()
        finally:
            await e.records.close()

    events.play(inner, run=asyncio.run)


def test_lines_from_now_on_come_in_batches_as_they_are(tmp_path: Path) -> None:
    async def scene(s: Scene) -> None:
        s.log("before")
        await s.deploy()
        s.log("one", '{"level": "error", "n": 2}', stream="stderr", level="error")
        s.log("other", function="h")
        s.log("own", function="f")
        await s.until(lambda: len(s.texts()) == 3)
        assert set(s.texts()) == {"one", '{"level": "error", "n": 2}', "other"}
        (event,) = [e for batch in s.seen for e in batch if "json" in e["data"]]
        assert event["data"]["json"] == {"level": "error", "n": 2}
        assert (event["type"], event["source"], event["subject"]) == ("fuyun.log.line", "/default/function/g", "g")
        assert (event["data"]["stream"], event["data"]["level"], event["data"]["version"]) == ("stderr", "error", 1)
        assert max(map(len, s.seen)) == 2, "lines that come together are one batch"
        (status,) = await s.events.path.governing.list_triggers(PLATFORM, "default", "f")
        assert (status.kind, status.last_s is not None, status.problem) == ("log", True, "")

    play(tmp_path, scene)


@pytest.mark.parametrize(
    ("log", "policy", "taken"),
    [
        (LogTrigger(function="h"), {}, ["of h"]),
        (LogTrigger(contains="ERR"), {}, ["ERR 1", "xERR"]),
        (LogTrigger(pattern=r"^\w+ \d+$"), {}, ["ERR 1", "ok 2"]),
        (LogTrigger(pattern=r"\d", contains="ok"), {}, ["ok 2"]),
        (LogTrigger(), {"filter": {"data.json.level": ["error", "fatal"]}}, ['{"level": "fatal"}']),
        (LogTrigger(), {"filter": {"data.text": {"suffix": "2"}}}, ["ok 2"]),
    ],
)
def test_what_is_wanted(tmp_path: Path, log: LogTrigger, policy: dict[str, Any], taken: list[str]) -> None:
    async def scene(s: Scene) -> None:
        await s.deploy(log, **policy)
        s.log("ERR 1", "ok 2", "xERR", '{"level": "fatal"}', '{"level": "info"}', "{broken")
        s.log("of h", function="h")
        await s.until(lambda: len(s.texts()) >= len(taken))
        await asyncio.sleep(0.3)
        assert sorted(s.texts()) == sorted(taken)

    play(tmp_path, scene)


def test_lines_that_were_kept_while_the_platform_was_down_come_later(tmp_path: Path) -> None:
    async def scene(s: Scene) -> None:
        await s.deploy()
        s.log("1")
        await s.until(lambda: s.texts() == ["1"])
        await s.events.close()
        s.log("2", "3")
        s.events._make()
        await s.events.open()
        s.log("4")
        await s.until(lambda: len(s.texts()) == 4)
        assert s.texts() == ["1", "2", "3", "4"], "each once"
        await s.events.platform.deploy("new")
        s.events.path.bindings.changed()
        s.log("of a new function", function="new")
        await s.until(lambda: s.texts()[-1] == "of a new function")

    play(tmp_path, scene)


def test_a_function_that_is_deployed_anew_logs_anew(tmp_path: Path) -> None:
    async def scene(s: Scene) -> None:
        await s.deploy()
        s.log("a long line of the function that was")
        await s.until(lambda: len(s.texts()) == 1)
        s.events.platform.catalog.delete("g")
        await s.events.platform.dispatcher.reload("default", "g")
        s.events.path.bindings.changed()
        await s.records.forget("default", "g")
        await s.until(lambda: "g" not in s.logs._places["default", "f", "log"])
        await s.events.platform.deploy("g")
        s.events.path.bindings.changed()
        s.log("new")
        await s.until(lambda: s.texts()[1:] == ["new"])

    play(tmp_path, scene)


@pytest.mark.parametrize("point", ["logs.before_commit", "logs.after_commit", "streams.after_call"])
def test_a_crash_at_any_point_loses_no_line(tmp_path: Path, point: str) -> None:
    async def scene(s: Scene) -> None:
        await s.deploy(batch_size=3)
        crashed = asyncio.Event()

        def crash(name: str) -> None:
            if name == point and not crashed.is_set():
                crashed.set()
                raise asyncio.CancelledError

        kept, faults.point = faults.point, crash
        try:
            s.log(*map(str, range(10)))
            async with asyncio.timeout(10):
                await crashed.wait()
            await s.events.restart()
        finally:
            faults.point = kept
        await s.until(lambda: set(s.texts()) == {str(n) for n in range(10)})

    play(tmp_path, scene)


def test_a_circle_over_logs_is_cut_off(tmp_path: Path) -> None:
    """f logs what wakes g, and g what wakes f."""

    async def scene(s: Scene) -> None:
        def echo(call: FakeCall) -> None:
            s.seen.append(json.loads(call.body))
            function = call.head.function
            s.log(f"from {function}", function=function, request=call.head.id)
            call.answer()

        s.events.handler = echo
        await s.deploy(LogTrigger(function="g"))
        await s.deploy(LogTrigger(function="f"), name="g")
        s.log("begin")
        async with asyncio.timeout(40):
            while not [one for one in await s.events.list() if one.error == "loop_detected"]:
                await asyncio.sleep(0.1)
        assert max(event.get("fuyunhops", 0) for batch in s.seen for event in batch) == MOST_HOPS - 1
        count = len(s.seen)
        await asyncio.sleep(0.5)
        assert len(s.seen) == count

    play(tmp_path, scene)


def test_failures_pauses_and_own_lines(tmp_path: Path) -> None:
    async def scene(s: Scene) -> None:
        await s.deploy(max_attempts=1, bisect=True)

        def handler(call: FakeCall) -> None:
            if "bad" in call.body.decode():
                call.fail(FunctionRaised("ValueError: bad"))
            else:
                s.take_all(call)

        s.events.handler = handler
        s.log("1", "bad", "2")
        await s.until(lambda: s.texts() == ["1", "2"])
        await s.until(lambda: s.logs.batches.outcomes.get(("default", "f", "failed")) == 1)
        key = ("default", "f", "log")
        await s.events.path.governing.pause(PLATFORM, key, True, "")
        s.log("3")
        await asyncio.sleep(0.4)
        assert s.texts() == ["1", "2"]
        await s.events.path.governing.pause(PLATFORM, key, False, "")
        await s.until(lambda: s.texts() == ["1", "2", "3"])
        await s.deploy(LogTrigger(function="f"))
        await s.until(lambda: s.logs._readers[key][0].problem)
        s.events.platform.catalog.put("f")
        await s.events.platform.dispatcher.reload("default", "f")
        s.events.path.bindings.changed()
        await s.until(lambda: not s.logs._places)

    play(tmp_path, scene)


@pytest.mark.parametrize(
    ("trigger", "says"),
    [(LogTrigger(pattern="("), "'(' is no pattern: missing )"), (LogTrigger(pattern=r"(a)\1"), "is no pattern"),
     (LogTrigger(function="Ä"), "is not a valid function name"), (LogTrigger(contains="x" * 1001), "up to 1000")],
)  # fmt: skip
def test_triggers_that_cannot_be(trigger: LogTrigger, says: str) -> None:
    with pytest.raises(BadRequest) as raised:
        check_log(trigger)
    assert says in str(raised.value)
