"""The instance host of this node: the start ladder over the warden, zygotes, blanks and templates."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import structlog

from fuyun.base import clock, ids
from fuyun.base.tasks import Scope
from fuyun.decide import starts
from fuyun.domain.errors import (
    FunctionInitFailed,
    FuyunError,
    HostUnable,
    InstanceLost,
    Unavailable,
)
from fuyun.domain.functions import FunctionSpec, Version
from fuyun.domain.interpreters import Interpreter
from fuyun.domain.invocations import LogLine, StartKind
from fuyun.drivers.instances import memory, plans
from fuyun.drivers.instances.process import Process
from fuyun.drivers.instances.warden import Warden
from fuyun.ports.instances import Instance, StartReport
from fuyun.runtime import wire

_log = structlog.get_logger("fuyun.host")
_ZYGOTE_ARGV = ("-I", "-S", "-c")
#: Blanks being made at once: enough to keep two cores busy, few enough that descriptors in flight stay bounded.
_SPAWNING = 12
#: What an instance needs between its limit for loading and saying so, on a busy machine.
_GRACE_S = 5.0
_LINE_BYTES = 4096
#: A dependency build compiles things; it may not take the host down.
_RUN_LIMITS = {"memory": 4 * 2**30, "cpu": 2.0, "pids": 512}
_BLANK_LIMITS = {"memory": 256 * 2**20, "cpu": 1.0, "pids": 128}


@dataclass(frozen=True, kw_only=True)
class HostOptions:
    """What wiring tells the host. `store`: folder of the blob store. `tree`: name of its control groups."""

    store: Path
    tree: str
    blanks: int = 4
    template_budget_bytes: int = 2**30
    template_from_ms: float = 8.0
    limits: str = "auto"
    uid_base: int = 2_000_000_000
    namespaces: bool = True


@dataclass
class _Family:
    """A zygote of one interpreter and isolation class, with the blanks made from it."""

    interpreter: Interpreter
    isolation: str
    zygote: str = ""
    pid: int = 0
    up: asyncio.Event = field(default_factory=asyncio.Event)
    launching: bool = False
    failure: FuyunError | None = None
    blanks: deque[Process] = field(default_factory=deque)
    waiters: deque[asyncio.Future[Process]] = field(default_factory=deque)
    spawning: int = 0


@dataclass
class _Template:
    process: Process
    env: dict[str, str]
    init_ms: float
    size_bytes: int
    used_s: float
    fork_ms: float = 0.0


class LocalHost:
    """Implements `ports.instances.InstanceHost` with processes of this machine."""

    def __init__(
        self, options: HostOptions, interpreter_of: Callable[[str], Interpreter], log: Callable[[LogLine], None]
    ) -> None:
        """`interpreter_of(runtime)` raises HostUnable; `log` gets lines that belong to no invocation."""
        self._options = options
        self._interpreter_of = interpreter_of
        self._log_line = log
        self._families: dict[tuple[str, str], _Family] = {}
        self._processes: dict[str, Process] = {}
        self._templates: dict[str, _Template] = {}
        self._no_template: dict[str, str] = {}  # version key -> why it has none
        self._init_ms: dict[str, float] = {}
        self._making: set[str] = set()
        self._scope = Scope("host", lambda error: _log.error("host task failed", exc_info=error))
        self.warden = self._make_warden()
        self._closing = False

    def _make_warden(self) -> Warden:
        options = self._options
        told = {
            "name": options.tree,
            "limits": options.limits,
            "uid_base": options.uid_base,
            "namespaces": options.namespaces,
        }
        return Warden(told, self._on_event, self._on_warden_lost, self._on_warden_up)

    @property
    def hello(self) -> dict[str, Any]:
        """What the warden said of itself: cgroup version, why not, root."""
        return self.warden.hello

    async def open(self, runtimes: tuple[str, ...] = ("python3",)) -> None:
        """Start the warden and, in the background, the zygotes and blanks of `runtimes`."""
        await self.warden.start()
        if self._options.namespaces:
            for runtime in runtimes:
                self._refill(self._family(self._interpreter_of(runtime), "sandbox"))

    async def open_without_namespaces(self) -> None:
        """Where `open` failed because the host gives no namespaces: serve isolation class `process` only."""
        self._options = dataclasses.replace(self._options, namespaces=False)
        self.warden = self._make_warden()
        await self.warden.start()

    @property
    def sandboxed(self) -> bool:
        """Whether sandboxes can be had."""
        return self._options.namespaces

    # --- InstanceHost

    async def start(
        self, version: Version, env: dict[str, str], on_gone: Callable[[Instance], None]
    ) -> Instance:
        """A ready instance, by the quickest rung that is free."""
        template = self._templates.get(version.key)
        if template is not None and (template.env != env or template.process.gone):
            self.forget(version.key)
            template = None
        family = self._family(self._interpreter_of(version.spec.runtime), version.spec.isolation)
        rungs: set[starts.Rung] = {"template"} if template is not None else set()
        if family.blanks:
            rungs.add("blank")
        if family.up.is_set():
            rungs.add("zygote")
        fork_ms = template.fork_ms if template is not None else 0.0
        rung = starts.choose_rung(rungs, version.spec.start, self._init_ms.get(version.key, 0.0), fork_ms).rung
        if rung == "template" and template is not None:
            process = await self._fork(template, version)
        else:
            process = await self._from_blank(family, version, env, template=False)
            self._consider_template(version, env, process.report)
        if process.gone:
            raise InstanceLost("the instance ended as soon as it was ready", hint="try again", retry_after_s=1)
        process.on_lost = on_gone
        return process

    async def prepare(self, version: Version, env: dict[str, str]) -> StartReport:
        """Load the version once; keep it as a template where that pays."""
        family = self._family(self._interpreter_of(version.spec.runtime), version.spec.isolation)
        wants = version.spec.isolation == "sandbox" and version.spec.start != "blank"
        process = await self._from_blank(family, version, env, template=wants)
        report = process.report
        loaded_ms = report.init_ms
        if wants and starts.worth_template(
            loaded_ms, self._options.template_from_ms, report.forkable, version.spec.start
        ):
            self._keep_template(version, env, process)
            report = msgspec.structs.replace(report, kind="template")
        else:
            process.kill("only warmed up")
            if not report.forkable:
                self._no_template[version.key] = report.unforkable_reason or "templates are off for it"
        return report

    def forget(self, version_key: str) -> None:
        """Drop the version's template."""
        found = self._templates.pop(version_key, None)
        self._no_template.pop(version_key, None)
        self._init_ms.pop(version_key, None)
        if found is not None:
            found.process.kill("its template is not needed any more")

    async def inventory(self) -> dict[str, Any]:
        """Zygotes, blanks, templates and instances with pids and memory in bytes."""
        rows: list[dict[str, Any]] = [
            {
                "id": p.id, "pid": p.pid, "kind": p.kind, "version": p.version.key if p.version else "",
                "inflight": p.inflight, "start": p.report.kind, "reason": self._no_template.get(p.version.key, "") if p.version else "",
            }
            for p in self._processes.values()
        ]  # fmt: skip
        zygotes: list[dict[str, Any]] = [
            {"id": f.zygote, "pid": f.pid, "kind": "zygote", "version": f.interpreter.name, "blanks": len(f.blanks)}
            for f in self._families.values()
            if f.up.is_set()
        ]
        pids = [row["pid"] for row in [*rows, *zygotes]] + [self.warden.pid, os.getpid()]
        sizes = await asyncio.get_running_loop().run_in_executor(None, lambda: memory.of(pids))
        for row in [*rows, *zygotes]:
            row.update(sizes.get(row["pid"], {}))
        return {
            "warden": {"pid": self.warden.pid, **self.warden.hello, **sizes.get(self.warden.pid, {})},
            "platform": {"pid": os.getpid(), **sizes.get(os.getpid(), {})},
            "zygotes": zygotes,
            **{f"{kind}s": [row for row in rows if row["kind"] == kind] for kind in ("blank", "template", "instance")},
        }

    async def close(self) -> None:
        """End everything."""
        self._closing = True
        await self._scope.close()
        await self.warden.close()
        for process in list(self._processes.values()):
            process.lost_warden()
        await asyncio.sleep(0)

    # --- builds

    async def run(
        self,
        argv: list[str],
        *,
        ro: list[str],
        rw: list[str],
        env: dict[str, str],
        cwd: str,
        network: bool = False,
        timeout_s: float,
        output: Callable[[str], None],
    ) -> int:
        """Run a program in a sandbox of its own (`ports.builds.Sandboxed`); its exit status."""
        reader, writer = os.pipe()
        loop = asyncio.get_running_loop()
        stream = asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reader, "rb", buffering=0)
        )
        for folder in rw:
            if self.hello["root"]:
                await loop.run_in_executor(None, os.chmod, folder, 0o777)
        plan = plans.view(None, ro=ro, rw=rw, network=network)
        message = {
            "op": "run", "id": ids.new_id(), "plan": plan, "argv": argv, "env": plans.environment(env), "cwd": cwd,
            "limits": _RUN_LIMITS,
        }  # fmt: skip
        lines = self._scope.start(_relay_lines(stream, output), "run")
        try:
            try:
                answer = await self.warden.ask(message, (writer,), timeout_s)
            except Unavailable as error:
                if isinstance(error.__cause__, TimeoutError):
                    raise error.__cause__ from None
                raise
            os.close(writer)
            writer = -1
            await asyncio.wait_for(asyncio.shield(lines), 10.0)
        except BaseException:
            self._try_send({"op": "kill", "id": message["id"]})
            raise
        finally:
            if writer >= 0:
                os.close(writer)
            transport.close()
        status = answer.get("status")
        return int(status) if status is not None else 70

    # --- zygotes and blanks

    def _family(self, interpreter: Interpreter, isolation: str) -> _Family:
        if isolation == "sandbox" and not self._options.namespaces:
            raise HostUnable(
                "this host gives no user namespaces, which isolation class 'sandbox' needs",
                hint="run `fuyun doctor`, or ask for `isolation: process` (no isolation) by name",
                feature="namespaces",
            )
        key = (interpreter.executable, isolation)
        if key not in self._families:
            self._families[key] = _Family(interpreter, isolation)
        return self._families[key]

    def _refill(self, family: _Family) -> None:
        """Make the blanks that are wanted: one for every waiter, and the usual reserve."""
        if self._closing:
            return
        if not family.up.is_set():
            if not family.launching:
                family.launching = True
                self._scope.start(self._launch_zygote(family), "zygote")
            return
        reserve = self._options.blanks if family.isolation == "sandbox" else 0
        wanted = len(family.waiters) + reserve - len(family.blanks) - family.spawning
        for _ in range(min(wanted, _SPAWNING - family.spawning)):
            family.spawning += 1
            self._scope.start(self._spawn(family), "spawn")

    async def _launch_zygote(self, family: _Family) -> None:
        try:
            sandboxed = family.isolation == "sandbox"
            plan = plans.view(family.interpreter, store=str(self._options.store)) if sandboxed else None
            path = plans.RUNTIME if sandboxed else str(Path(plans.__file__).parents[3])
            message: dict[str, Any] = {
                "op": "zygote", "id": ids.new_id(), "plan": plan, "argv": [family.interpreter.executable, *_ZYGOTE_ARGV],
                "path": path, "options": {"isolation": family.isolation}, "env": plans.environment(),
            }  # fmt: skip
            answer = await self.warden.ask(message)
            family.zygote, family.pid, family.failure = message["id"], answer["pid"], None
            family.up.set()
        except FuyunError as error:
            family.failure = error
            _log.error("zygote did not start", interpreter=family.interpreter.name, error=error.detail)
            while family.waiters:
                waiter = family.waiters.popleft()
                if not waiter.done():
                    waiter.set_exception(error)
        finally:
            family.launching = False
        self._refill(family)

    async def _spawn(self, family: _Family) -> None:
        process = Process("blank", family.zygote, self._try_send, self._on_output)
        self._processes[process.id] = process
        process.on_end = lambda process: self._on_blank_end(family, process)
        try:
            passed = await process.connect()
            try:
                message = {"op": "spawn", "id": process.id, "zygote": family.zygote, "limits": _BLANK_LIMITS}
                answer = await self.warden.ask(message, passed)
            finally:
                for descriptor in passed:
                    os.close(descriptor)
        except FuyunError as error:
            process.told_end({})
            if family.waiters and not isinstance(error, Unavailable):
                self._next_waiter(family, error)
            return
        finally:
            family.spawning -= 1
            self._scope_refill(family)
        process.pid = answer["pid"]
        if family.zygote != process.zygote:
            return
        while family.waiters:
            waiter = family.waiters.popleft()
            if not waiter.done():
                waiter.set_result(process)
                return
        family.blanks.append(process)

    def _scope_refill(self, family: _Family) -> None:
        asyncio.get_running_loop().call_soon(self._refill, family)

    @staticmethod
    def _next_waiter(family: _Family, error: FuyunError) -> None:
        while family.waiters:
            waiter = family.waiters.popleft()
            if not waiter.done():
                waiter.set_exception(error)
                return

    def _on_blank_end(self, family: _Family, process: Process) -> None:
        self._processes.pop(process.id, None)
        if process in family.blanks:
            family.blanks.remove(process)
            self._scope_refill(family)

    async def _blank(self, family: _Family) -> tuple[Process, StartKind]:
        while family.blanks:
            process = family.blanks.popleft()
            self._scope_refill(family)
            if not process.gone:
                return process, "blank"
        kind: StartKind = "zygote" if family.up.is_set() else "none"
        waiter: asyncio.Future[Process] = asyncio.get_running_loop().create_future()
        family.waiters.append(waiter)
        self._refill(family)
        try:
            return await asyncio.wait_for(waiter, 60.0), kind
        except TimeoutError as error:
            raise Unavailable("no sandbox could be made within 60 s", hint="see the platform's log") from error

    # --- becoming a version

    def _task(self, version: Version, env: dict[str, str], process: Process) -> dict[str, Any]:
        spec = version.spec
        sandboxed = spec.isolation == "sandbox"
        parts = [f"{a.digest[:2]}/{a.digest}" for a in (version.code, *version.layers)]
        store = str(self._options.store)
        return {
            "namespace": version.namespace, "function": version.function, "version": version.qualifier,
            "instance": process.id, "handler": spec.handler, "concurrency": spec.concurrency,
            "timeout_s": spec.timeout_s, "memory_bytes": spec.memory_bytes, "output_bytes": spec.output_bytes,
            "log_bytes": spec.log_bytes, "env": plans.environment(env), "tmp_bytes": spec.tmp_bytes,
            "hooks": msgspec.to_builtins(spec.hooks),
            "code": "/code" if sandboxed else f"{store}/{parts[0]}",
            "layers": [f"/layers/{i}" if sandboxed else f"{store}/{part}" for i, part in enumerate(parts[1:])],
            "mount": parts[0], "mounts": parts[1:], "template": False,
            "rlimits": self._rlimits(spec),
        }  # fmt: skip

    def _rlimits(self, spec: FunctionSpec) -> dict[str, int]:
        if self.hello.get("cgroup"):
            return {}
        return {"memory": spec.memory_bytes, **({"pids": spec.pids} if spec.isolation == "sandbox" else {})}

    async def _from_blank(self, family: _Family, version: Version, env: dict[str, str], *, template: bool) -> Process:
        began = clock.mono_s()
        process, kind = await self._blank(family)
        placed = clock.mono_s()
        spec = version.spec
        process.kind, process.version, process.memory_bytes = (
            "template" if template else "instance",
            version,
            spec.memory_bytes,
        )
        process.on_end = self._dismiss
        limits = {"memory": spec.memory_bytes, "cpu": spec.cpu, "pids": spec.pids}
        task = {**self._task(version, env, process), "template": template}
        self.warden.send({"op": "limits", "id": process.id, "limits": limits, "template": template})
        process.channel.write(wire.frame(wire.SPECIALIZE, 0, msgspec.json.encode(task)))
        place_ms = (placed - began) * 1000 if kind == "blank" else 0.0
        await self._await_ready(process, kind, began, place_ms)
        self._init_ms[version.key] = process.report.init_ms
        return process

    async def _await_ready(self, process: Process, kind: StartKind, began: float, place_ms: float) -> None:
        """Wait for READY; fill in the report. What went wrong is raised, and the process is gone."""
        assert process.version is not None
        hooks = process.version.spec.hooks
        limit_s = hooks.initializer_timeout_s
        try:
            grace_s = _GRACE_S if hooks.initializer else 0.0  # it cuts off the hook itself, and says which
            ready = await asyncio.wait_for(asyncio.shield(process.channel.started), limit_s + grace_s)
        except TimeoutError as error:
            process.kill("it did not finish loading")
            raise FunctionInitFailed(
                f"loading {process.version.spec.handler} took longer than {limit_s:g} s",
                hint="move slow work out of the module's top level, or raise `initializer_timeout`",
                timeout_s=limit_s,
            ) from error
        except FuyunError:
            process.kill("it did not load")
            raise
        except asyncio.CancelledError:
            process.kill("nobody waits for it any more")
            raise
        init_ms = 0.0 if kind == "template" else ready.load_ms + ready.init_ms
        process.report = StartReport(
            kind=kind,
            place_ms=place_ms,
            start_ms=max(0.0, (clock.mono_s() - began) * 1000 - init_ms - place_ms),
            init_ms=init_ms,
            mode=ready.mode,
            forkable=ready.forkable,
            unforkable_reason=ready.reason,
        )

    # --- templates

    def _keep_template(self, version: Version, env: dict[str, str], process: Process) -> None:
        old = self._templates.pop(version.key, None)
        if old is not None:
            old.process.kill("replaced")
        size = memory.of([process.pid]).get(process.pid, {}).get("private_bytes", 0)
        self._templates[version.key] = _Template(process, env, process.report.init_ms, size, clock.mono_s())
        process.on_end = lambda process: self._on_template_end(version.key, process)
        process.channel.on_exited = self._on_exited
        rows = [(key, t.size_bytes, t.used_s, t.init_ms) for key, t in self._templates.items()]
        for key in starts.evict(rows, self._options.template_budget_bytes):
            self.forget(key)

    def _on_exited(self, instance: str, status: int) -> None:
        process = self._processes.get(instance)
        if process is not None and process.forked:
            process.told_status(status)

    def _on_template_end(self, key: str, process: Process) -> None:
        self._processes.pop(process.id, None)
        if key in self._templates and self._templates[key].process is process:
            del self._templates[key]

    def _consider_template(self, version: Version, env: dict[str, str], report: StartReport) -> None:
        """After a start from a blank: make a template in the background when the next start would gain by it."""
        key = version.key
        if key in self._templates or key in self._no_template or key in self._making:
            return
        if version.spec.isolation != "sandbox" or not starts.worth_template(
            report.init_ms, self._options.template_from_ms, report.forkable, version.spec.start
        ):
            return
        self._making.add(key)
        self._scope.start(self._make_template(version, env), "template")

    async def _make_template(self, version: Version, env: dict[str, str]) -> None:
        try:
            await self.prepare(version, env)
        except FuyunError as error:
            self._no_template[version.key] = error.detail
        finally:
            self._making.discard(version.key)

    async def _fork(self, template: _Template, version: Version) -> Process:
        began = clock.mono_s()
        process = Process("instance", template.process.zygote, self._try_send, self._on_output)
        process.version, process.memory_bytes, process.forked = version, version.spec.memory_bytes, True
        self._processes[process.id] = process
        process.on_end = self._dismiss
        spec = version.spec
        passed = await process.connect()
        message = {
            "op": "fork", "id": process.id, "template": template.process.id, "tmp_bytes": spec.tmp_bytes,
            "limits": {"memory": spec.memory_bytes, "cpu": spec.cpu, "pids": spec.pids},
            "task": {"instance": process.id, "template": False},
        }  # fmt: skip
        try:
            answer = await self.warden.ask(message, passed)
        except FuyunError as error:
            process.told_end({})
            if isinstance(error, HostUnable):
                self._no_template[version.key] = error.detail
                self.forget(version.key)
            raise Unavailable(f"the template could not fork: {error.detail}", retry_after_s=1) from error
        finally:
            for descriptor in passed:
                os.close(descriptor)
        process.pid = answer["pid"]
        await self._await_ready(process, "template", began, 0.0)
        template.used_s = clock.mono_s()
        template.fork_ms = process.report.start_ms
        return process

    # --- what happens to processes

    def _try_send(self, message: dict[str, Any]) -> None:
        try:
            self.warden.send(message)
        except Unavailable:
            return

    def _dismiss(self, process: Process) -> None:
        self._processes.pop(process.id, None)

    def _on_event(self, message: dict[str, Any]) -> None:
        if message["ev"] in ("gone", "failed"):
            process = self._processes.get(message["id"])
            if process is not None:
                process.told_end(message)
                return
            for family in self._families.values():
                if family.zygote == message["id"] and not self._closing:
                    _log.error("zygote died; starting another", interpreter=family.interpreter.name)
                    self._reset(family)
                    self._refill(family)

    @staticmethod
    def _reset(family: _Family) -> None:
        family.zygote, family.pid = "", 0
        family.up.clear()

    def _on_warden_lost(self) -> None:
        self._templates.clear()
        for family in self._families.values():
            self._reset(family)
            family.blanks.clear()
        for process in list(self._processes.values()):
            process.lost_warden()

    def _on_warden_up(self) -> None:
        for family in self._families.values():
            self._refill(family)

    def _on_output(self, process: Process, stream: str, level: str, text: str) -> None:
        version = process.version
        if version is None or stream not in ("stdout", "stderr", "log"):
            return
        self._log_line(
            LogLine(
                at_s=clock.wall_s(), namespace=version.namespace, function=version.function, version=version.number,
                instance=process.id, stream=stream, level=level, text=text,  # type: ignore[arg-type]
            )
        )  # fmt: skip


async def _relay_lines(stream: asyncio.StreamReader, output: Callable[[str], None]) -> None:
    rest = b""
    while chunk := await stream.read(65536):
        *lines, rest = (rest + chunk[-_LINE_BYTES * 16 :]).replace(b"\r", b"\n").split(b"\n")
        if len(rest) > _LINE_BYTES:
            lines, rest = [*lines, rest], b""
        for line in lines:
            if line.strip():
                output(line[:_LINE_BYTES].decode("utf-8", "replace").rstrip())
    if rest.strip():
        output(rest.decode("utf-8", "replace").rstrip())
