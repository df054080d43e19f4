"""Warm-up calls: sent once before a version takes traffic, in its template or in its first instance."""

from __future__ import annotations

from typing import Any

from fuyun.domain.errors import FunctionError, FunctionExited, FunctionRaised, FunctionTimedOut
from fuyun.domain.functions import Version, WarmUp
from fuyun.ports.instances import WarmUpReport
from tests.drivers.instances.scenes.hosts import rig
from tests.drivers.instances.scenes.rig import ECHO, Rig

#: Remembers what it was called with; what the first call loads costs nothing any more.
KEEPS = """
import random
seen = []
def handler(event, context):
    seen.append([event, context.request_id])
    print("called with", event)
    return [event for event, _ in seen]
"""


async def _warmed(host: Rig, version: Version) -> WarmUpReport:
    report = await host.host.prepare(version, {})
    assert isinstance(report.warm_up, WarmUpReport)
    return report.warm_up


async def _first(host: Rig, version: Version, payload: Any = "call") -> Any:
    return await host.ask(await host.start(version), payload)


async def copies_of_a_template_have_what_the_call_left() -> None:
    async with rig() as host:
        for spec in ({}, {"concurrency": 4}):
            version = host.version(KEEPS, start="template", warm_up=WarmUp(event={"id": 7}), **spec)
            call = await _warmed(host, version)
            assert (call.error, call.http_status, call.answer_bytes) == (None, 200, len(b'[{"id":7}]'))
            for _ in range(2):
                assert await _first(host, version) == [{"id": 7}, "call"], "once, in the template"
            (line,) = [line for line in host.lines if line.text == "called with {'id': 7}"]
            assert (line.request, line.function) == (call.id, version.function)
            host.lines.clear()


async def what_the_call_does_decides_whether_it_can_be_forked() -> None:
    async with rig() as host:
        code = "import socket\nkept = []\ndef handler(event):\n    kept.append(socket.socket())\n    return len(kept)\n"
        version = host.version(code, start="template", warm_up=WarmUp(event=None))
        call = await _warmed(host, version)
        assert call.error is None
        await host.wait_rows("templates", 0)
        assert "a socket is open" in host.host.plan_of(version).reason
        assert await _first(host, version) == 2, "the first instance has taken it"
        assert await _first(host, version) == 1


async def handlers_on_a_loop_take_it_in_an_instance() -> None:
    async with rig() as host:
        version = host.version(KEEPS.replace("def", "async def"), start="template", warm_up=WarmUp(event=1))
        call = await _warmed(host, version)
        assert call.error is None
        assert len(await host.rows("templates")) == 1
        assert await _first(host, version) == [1, "call"]
        assert await _first(host, version) == ["call"]


async def programs_take_it_in_their_first_instance() -> None:
    async with rig() as host:
        code = "const seen = []; exports.handler = async (event) => { seen.push(event); return seen; };"
        version = host.node(code, warm_up=WarmUp(event={"id": 7}))
        assert (await _warmed(host, version)).error is None
        assert await _first(host, version) == [{"id": 7}, "call"]
        assert await _first(host, version) == ["call"]


async def applications_are_asked_for_a_path() -> None:
    code = """
        seen = []
        def handler(environ, start_response):
            seen.append(environ["PATH_INFO"] + "?" + environ["QUERY_STRING"])
            start_response("404 Not Found" if environ["PATH_INFO"] == "/no" else "200 OK", [])
            return [repr(seen).replace("'", '"').encode()]
    """
    async with rig() as host:
        version = host.version(code, start="template", warm_up=WarmUp(path="/up?a=1"))
        assert (await _warmed(host, version)).error is None
        (row,) = await host.rows("templates")
        assert row["version"] == version.key
        call = await _warmed(host, host.version(code + "    #", start="template", warm_up=WarmUp(path="/no")))
        assert isinstance(call.error, FunctionError)
        assert call.error.detail == "the warm-up call, GET /no, was answered with status 404"


async def what_goes_wrong_is_the_functions_own_error() -> None:
    async with rig() as host:
        for define in ("def", "async def"):
            raising = host.version(f"{define} handler(event):\n    raise LookupError(event)\n", start="template",
                                   warm_up=WarmUp(event="gone"))  # fmt: skip
            call = await _warmed(host, raising)
            assert isinstance(call.error, FunctionRaised)
            assert "gone" in call.error.detail
            assert "handler.py" in "".join(call.error.fields["traceback"])
        code = "import time\nasync def handler(event):\n    time.sleep(60)\n"
        slow = await _warmed(host, host.version(code, timeout_s=0.3, warm_up=WarmUp(event=1)))
        assert isinstance(slow.error, FunctionTimedOut)
        code = "import os\nasync def handler(event):\n    os._exit(3)\n"
        left = await _warmed(host, host.version(code, warm_up=WarmUp(event=1)))
        assert isinstance(left.error, FunctionExited)


async def the_one_that_waits_goes_with_its_version() -> None:
    async with rig() as host:
        version = host.version(ECHO.replace("def", "async def"), start="blank", warm_up=WarmUp(event=1))
        await _warmed(host, version)
        (row,) = await host.rows("instances")
        host.host.forget(version.key)
        await host.wait_rows("instances", 0)
        await _warmed(host, version)
        other = await host.start(version, {"COLOUR": "blue"})
        assert other.pid != row["pid"]
        assert len(await host.wait_rows("instances", 1)) == 1, "the environment has changed"
