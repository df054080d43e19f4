"""A real `LocalHost`, functions for it, and calls into its instances. `hosts.rig` opens or lends one."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from fuyun.domain.errors import FuyunError
from fuyun.domain.functions import Artifact, FunctionSpec, Version
from fuyun.domain.invocations import LogLine
from fuyun.domain.runtimes import NODES as NODE_RUNTIMES
from fuyun.drivers.instances.host import HostOptions, LocalHost
from fuyun.drivers.instances.interpreters import Interpreter, Interpreters
from fuyun.drivers.instances.nodes import Nodes
from fuyun.ports.instances import Call, Head, Instance

INTERPRETERS = Interpreters()
NODES = Nodes(INTERPRETERS.newest)
ECHO = "def handler(event, context):\n    return event\n"
#: A call that is still running when the scene ends it, whatever the machine does meanwhile.
LASTING = "import time\ndef handler(event):\n    time.sleep(60)\n"
MIB = 2**20


def interpreter_of(runtime: str) -> Interpreter:
    """What keeps a runtime, as `wiring` has it."""
    return NODES.keeper(runtime) if runtime in NODE_RUNTIMES else INTERPRETERS.by_runtime(runtime)


def changed(version: Version, **spec: Any) -> Version:
    """The version with another spec."""
    return msgspec.structs.replace(version, spec=msgspec.structs.replace(version.spec, **spec))


async def failure(attempt: Awaitable[object]) -> FuyunError:
    """The error that `attempt` must end in."""
    try:
        value = await attempt
    except FuyunError as error:
        return error
    raise AssertionError(f"no error, but {value!r}")


class Answer:
    """Receives one answer; `await answer.wait()` is its JSON or raises its error."""

    def __init__(self) -> None:
        self._done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.chunks: list[bytes] = []
        self.lines: list[str] = []
        self.call: Call | None = None

    def on_result(
        self, status: int, headers: list[tuple[str, str]] | None, body: bytes, usage: tuple[int, int, int]
    ) -> None:
        self._done.set_result(json.loads(body))

    def on_head(self, status: int, headers: list[tuple[str, str]]) -> None:
        self.chunks.clear()

    def on_body(self, chunk: bytes) -> None:
        self.chunks.append(chunk)

    def on_end(self, usage: tuple[int, int, int]) -> None:
        self._done.set_result(b"".join(self.chunks))

    def on_fail(self, error: Exception) -> None:
        self._done.set_exception(error)
        self._done.exception()  # a test need not ask for it

    def on_log(self, stream: str, level: str, text: str) -> None:
        self.lines.append(text)

    def on_credit(self, size_bytes: int) -> None:
        pass

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self._done.done()

    async def wait(self, timeout_s: float = 20.0) -> Any:
        """Its JSON value (streamed: bytes), or its error."""
        return await asyncio.wait_for(asyncio.shield(self._done), timeout_s)

    async def error(self, timeout_s: float = 20.0) -> FuyunError:
        """Its error."""
        return await failure(self.wait(timeout_s))


async def check_freezing(host: Rig, instance: Instance) -> None:
    """A call written to a frozen instance is answered when it runs again, and not before."""
    instance.freeze(True)
    await asyncio.sleep(0.05)
    answer = host.call(instance, 2)
    await asyncio.sleep(0.15)
    assert not answer.done
    instance.freeze(False)
    assert await answer.wait() == 2


class Rig:
    """A host with its store. `gone` holds the ids of instances that the host said to be gone, `keys` those of versions
    that it may know."""

    def __init__(self, root: Path, **options: Any) -> None:
        self.root = root
        self.lines: list[LogLine] = []
        self.gone: list[str] = []
        self.keys: set[str] = set()
        self._number = 0
        settings = {"store": root, "tree": f"fuyun-rig-{os.getpid()}", "blanks": 1, **options}
        self.host = LocalHost(HostOptions(**settings), interpreter_of, self.lines.append)

    def version(self, code: str = ECHO, **spec: Any) -> Version:
        """A version of a function with this handler.py."""
        return self._version({"handler.py": textwrap.dedent(code)}, **spec)

    def _version(self, files: dict[str, str], **spec: Any) -> Version:
        self._number += 1
        digest = hashlib.sha256(repr(files).encode()).hexdigest()
        folder = self.root / digest[:2] / digest
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text)
        for place in (folder.parent, folder, *folder.iterdir()):
            place.chmod(0o755)
        spec = {"handler": "handler.handler", "memory_bytes": 128 * MIB, **spec}
        version = Version(
            namespace="default", function=f"f{self._number}", number=1, spec=FunctionSpec(**spec),
            code=Artifact(digest=digest, size_bytes=sum(map(len, files.values()))), created_s=0.0,
        )  # fmt: skip
        self.keys.add(version.key)
        return version

    def program(self, script: str, **spec: Any) -> Version:
        """A version of a custom function whose bootstrap is this script, with a shell to run it."""
        first = "" if script.startswith("#!") else "#!/bin/sh\n"
        return self._version({"bootstrap": first + textwrap.dedent(script)}, runtime="custom", **spec)

    def node(self, code: str, **spec: Any) -> Version:
        """A version of a Node function with this index.js."""
        named = {"runtime": "nodejs", "handler": "index.handler", **spec}
        return self._version({"index.js": textwrap.dedent(code)}, **named)

    def server(self, code: str, **spec: Any) -> Version:
        """A version of a server whose program is this Python code."""
        command = {"command": "python3 server.py"} if "command" not in spec else {}
        spec = {"concurrency": 80, **command, **spec}
        return self._version({"server.py": textwrap.dedent(code)}, runtime="web", **spec)

    async def start(self, version: Version, env: dict[str, str] | None = None) -> Instance:
        """A ready instance."""
        self.keys.add(version.key)
        return await self.host.start(version, env or {}, lambda instance: self.gone.append(instance.id))

    def call(self, instance: Instance, payload: Any = None) -> Answer:
        """Invoke it as `fuyun invoke` does."""
        answer = Answer()
        head = msgspec.json.encode(Head(id="r1", kind="event", deadline_ms=2**45, function="f", version="1"))
        answer.call = instance.invoke(head, json.dumps(payload).encode(), True, answer)
        return answer

    async def ask(self, instance: Instance, payload: Any = None) -> Any:
        """Invoke it and wait."""
        return await self.call(instance, payload).wait()

    async def rows(self, kind: str) -> list[dict[str, Any]]:
        """What the inventory says of instances, spares, templates, blanks or zygotes."""
        found: list[dict[str, Any]] = (await self.host.inventory())[kind]
        return found

    async def until(self, condition: Callable[[], object], what: str, timeout_s: float = 15.0) -> None:
        """Wait for a condition."""
        try:
            async with asyncio.timeout(timeout_s):
                while not condition():
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise TimeoutError(f"waited {timeout_s:g} s for {what}") from None

    def pids(self, kind: str) -> list[int]:
        """Those of the `rows` of that kind; zygotes excepted. Nothing is measured: it may be asked over and over."""
        processes = self.host._ground.processes.values()
        return [process.pid for process in processes if process.pid and f"{process.kind}s" == kind]

    async def wait_blanks(self, count: int) -> None:
        """Wait until that many blanks of Python are ready to be taken."""
        family = self.host._blanks.family(interpreter_of("python3"), "sandbox")
        await self.until(lambda: len(family.blanks) >= count, f"{count} blanks")

    async def wait_template(self, version: Version, env: dict[str, str] | None = None) -> Instance:
        """Start until one comes from a template; that one."""
        async with asyncio.timeout(15):
            while (instance := await self.start(version, env)).report.kind != "template":
                await instance.stop(5)
        return instance

    async def wait_rows(self, kind: str, count: int) -> list[dict[str, Any]]:
        """Wait until there are that many."""
        while True:
            await self.until(lambda: len(self.pids(kind)) == count, f"{count} {kind}")
            if len(rows := await self.rows(kind)) == count:
                return rows
