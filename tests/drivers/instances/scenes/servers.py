"""HTTP servers in instances: started, found ready, asked over connections made inside, stopped."""

from __future__ import annotations

import asyncio
import json

import msgspec

from fuyun.domain.errors import (
    FunctionExited,
    FunctionInitFailed,
    HandlerMissing,
)
from fuyun.domain.functions import Readiness
from fuyun.ports.instances import Head, Instance
from tests.drivers.instances.programs import Taker
from tests.drivers.instances.scenes.hosts import rig
from tests.drivers.instances.scenes.rig import MIB, failure
from tests.leaks import state_of

SERVER = """
import json, os, signal, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        what, _, rest = self.path.strip("/").partition("/")
        answer = {"path": self.path, "pid": os.getpid(), "id": self.headers["fuyun-request-id"]}
        if what == "print":
            print(rest)
            time.sleep(60)
        elif what == "env":
            answer = dict(os.environ)
        elif what == "die":
            os._exit(int(rest))
        elif what == "half":
            self.wfile.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 100\\r\\n\\r\\nhalf")
            self.wfile.flush()
            if rest:
                self.connection.shutdown(2)
                time.sleep(float(rest))
            os._exit(3)
        elif what == "sleep":
            time.sleep(float(rest))
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
class Server(ThreadingHTTPServer):
    request_queue_size = 128
"""
LISTEN = 'Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()\n'
PLAIN = SERVER + LISTEN


def ask(instance: Instance, path: str = "/", method: str = "GET", body: bytes = b"") -> Taker:
    """Begin a request."""
    taker = Taker()
    head = Head(id="r1", method=method, path=path, function="f", version="1")
    taker.call = instance.invoke(msgspec.json.encode(head), body, True, taker)
    return taker


async def a_server_answers() -> None:
    async with rig() as host:
        await host.wait_blanks(1)
        instance = await host.start(host.server(PLAIN, memory_bytes=1024 * MIB))  # stacks count without control groups
        assert (instance.report.kind, instance.report.mode, instance.report.forkable) == ("blank", "web", False)
        for path in ("/", "/a?b=c"):
            answer = json.loads((await ask(instance, path).end()).body)
            assert (answer["path"], answer["id"]) == (path, "r1")
        big = bytes(range(256)) * 4096
        assert (await ask(instance, "/", "POST", big).end()).body == big
        many = [ask(instance, "/sleep/0.1") for _ in range(40)]
        assert instance.inflight == 40
        assert {(await taker.end()).status for taker in many} == {200}
        assert instance.inflight == 0
        await instance.stop(5)
        assert host.gone == [instance.id]
        assert state_of(instance.pid) in ("", "Z")


async def its_environment() -> None:
    async with rig() as host:
        instance = await host.start(host.server(PLAIN, env={"PORT": "9000", "A": "b"}), {"PORT": "9000", "A": "b"})
        env = json.loads((await ask(instance, "/env").end()).body)
        assert (env["PORT"], env["A"], env["FUYUN_CONCURRENCY"], env["HOME"]) == ("9000", "b", "80", "/tmp")
        assert env["PYTHONPATH"].split(":")[0] == "/code"
        assert not [name for name in env if name.startswith("AWS_")]


async def what_it_prints_is_the_only_requests() -> None:
    async with rig() as host:
        instance = await host.start(host.server(PLAIN.replace("Server((", "print('up'); Server((")))
        taker = Lines()
        head = msgspec.json.encode(Head(id="r1", method="GET", path="/print/hello", function="f", version="1"))
        taker.call = instance.invoke(head, b"", True, taker)
        await host.until(lambda: len(host.lines) + len(taker.lines) == 2, "both lines")
        taker.call.cancel()
        await taker.end()
        assert taker.lines == ["hello"], (taker.lines, host.lines)
        assert [line.text for line in host.lines] == ["up"]


class Lines(Taker):
    """Takes log lines, too."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def on_log(self, stream: str, level: str, text: str) -> None:
        self.lines.append(text)


async def it_ends_in_the_middle() -> None:
    async with rig() as host:
        version = host.server(PLAIN)
        first = await (ask(await host.start(version), "/die/7")).end()
        assert isinstance(first.error, FunctionExited), first.error
        assert first.error.fields["exit_code"] == 7
        for path in ("/half", "/half/0.8"):  # at once; its connection first, then its process
            second = await (ask(await host.start(version), path)).end()
            assert isinstance(second.error, FunctionExited), second.error
            assert (second.status, second.body) == (200, b"half")
        await host.until(lambda: len(host.gone) == 3, "all instances to be gone")


async def it_listens_late() -> None:
    async with rig() as host:
        instance = await host.start(host.server(SERVER + "time.sleep(0.5)\n" + LISTEN))
        assert (await ask(instance).end()).status == 200
        assert instance.report.init_ms > 400


async def it_never_listens() -> None:
    async with rig() as host:
        code = "print('thinking', flush=True)\nimport time; time.sleep(60)\n"
        error = await failure(host.start(host.server(code, readiness=Readiness(timeout_s=0.5))))
        assert isinstance(error, FunctionInitFailed), error
        assert "not ready on port 8080 after 0.5 s: nothing listens" in error.detail
        assert error.fields["traceback"] == ["thinking"]


async def it_is_ready_when_its_path_says_so() -> None:
    async with rig() as host:
        code = """
            import time
            from http.server import BaseHTTPRequestHandler, HTTPServer
            began = time.monotonic()
            class Handler(BaseHTTPRequestHandler):
                def do_GET(self):
                    self.send_response(200 if time.monotonic() - began > 0.5 else 503)
                    self.end_headers()
                def log_message(self, *args): pass
            HTTPServer(("", 8080), Handler).serve_forever()
        """
        instance = await host.start(host.server(code, readiness=Readiness(path="/healthz")))
        assert instance.report.init_ms > 400
        sick = host.server(PLAIN.replace("200", "500"), readiness=Readiness(path="/", timeout_s=0.5))
        error = await failure(host.start(sick))
        assert "GET / is answered with 500" in error.detail, error.detail


async def nothing_to_start() -> None:
    async with rig() as host:
        error = await failure(host.start(host.server(PLAIN, command="")))
        assert isinstance(error, HandlerMissing), error
        assert "holds server.py" in error.detail
        error = await failure(host.start(host.server(PLAIN, command="no-such-thing --port $PORT")))
        assert isinstance(error, FunctionInitFailed), error
        assert "not found" in error.fields["traceback"][-1]


async def it_is_asked_to_end_and_made_to() -> None:
    async with rig() as host:
        gentle = SERVER + "signal.signal(15, lambda *_: (print('bye', flush=True), os._exit(0)))\n" + LISTEN
        for command in ("python3 server.py", "echo first && python3 server.py"):
            host.lines.clear()
            instance = await host.start(host.server(gentle, command=command))
            assert await instance.hook("pre_stop", 10)
            await host.until(lambda: [line.text for line in host.lines][-1:] == ["bye"], "its last words")
            await instance.stop(5)
        deaf = await host.start(host.server(SERVER + "signal.signal(15, signal.SIG_IGN)\n" + LISTEN))
        assert not await deaf.hook("pre_stop", 0.3)
        await deaf.stop(5)
        assert state_of(deaf.pid) in ("", "Z")


async def calls_beyond_its_concurrency_wait() -> None:
    async with rig() as host:
        instance = await host.start(host.server(PLAIN, concurrency=2))
        takers = [ask(instance, f"/sleep/0.0{n}") for n in range(8)]
        assert [(await taker.end()).status for taker in takers] == [200] * 8


async def a_request_while_it_is_frozen_waits() -> None:
    async with rig() as host:
        instance = await host.start(host.server(PLAIN))
        instance.freeze(True)
        taker = ask(instance)
        await asyncio.sleep(0.15)
        assert not taker.status
        instance.freeze(False)
        assert (await taker.end()).status == 200


async def without_a_sandbox() -> None:
    async with rig() as host:
        version = host.server(PLAIN, isolation="process")
        first, second = await host.start(version), await host.start(version)
        assert await _pid(first) != await _pid(second)


async def _pid(instance: Instance) -> int:
    return int(json.loads((await ask(instance).end()).body)["pid"])


async def it_cannot_reach_its_keeper() -> None:
    async with rig() as host:
        code = SERVER.replace("dict(os.environ)", "probe()") + PROBE + LISTEN
        instance = await host.start(host.server(code))
        found = json.loads((await ask(instance, "/env").end()).body)
        assert set(found.values()) == {"No such file or directory"}, found  # hidepid


PROBE = """
def probe():
    found = {}
    for name in ("mem", "environ", "fd"):
        try:
            found[name] = str(os.listdir("/proc/1/fd") if name == "fd" else open("/proc/1/" + name, "rb").read(1))
        except OSError as error:
            found[name] = error.strerror
    return found
"""
