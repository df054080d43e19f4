"""The instance host of this node: the start ladder over the warden, zygotes, blanks and templates."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
import structlog

from fuyun.base import clock
from fuyun.decide import provisioning, starts
from fuyun.domain.errors import FuyunError, HostUnable, InstanceLost, Unavailable
from fuyun.domain.functions import Version, is_oci
from fuyun.domain.interpreters import Interpreter
from fuyun.domain.invocations import LogLine, StartKind
from fuyun.domain.inward import ENDPOINT
from fuyun.domain.runtimes import KEPT
from fuyun.drivers.instances import attending, loading
from fuyun.drivers.instances.blanks import Blanks, Family
from fuyun.drivers.instances.ground import Ground, HostOptions
from fuyun.drivers.instances.inventory import Inventory
from fuyun.drivers.instances.layerzygotes import LayerZygotes
from fuyun.drivers.instances.networks import Networks
from fuyun.drivers.instances.parents import Budget
from fuyun.drivers.instances.process import Process
from fuyun.drivers.instances.programs import Programs
from fuyun.drivers.instances.templates import Template, Templates
from fuyun.drivers.instances.warden import Warden
from fuyun.drivers.instances.warming import Reserve, Warming
from fuyun.ports.attending import Attendant
from fuyun.ports.instances import Instance, StartPlan, StartReport, WarmUpReport

_log = structlog.get_logger("fuyun.host")
#: How many blanks may be lost under one start before it is given up.
_LOSSES = 5
#: With this many instances a version's template takes the memory it saves, with more it pays (docs/decisions/0009).
_SEVERAL = 4
#: Start policies of versions that never get a template.
_UNSHARED = ("blank", "plain")
#: How many hundredths of a second the ends of connections may take to be noticed when the host closes.
_CLOSING = 100

__all__ = ["HostOptions", "LocalHost"]


class LocalHost:
    """Implements `ports.instances.InstanceHost` with processes of this machine."""

    def __init__(
        self, options: HostOptions, interpreter_of: Callable[[str], Interpreter], log: Callable[[LogLine], None]
    ) -> None:
        """`interpreter_of(runtime)` raises HostUnable; `log` gets lines that belong to no invocation."""
        self._interpreter_of = interpreter_of
        self._ground = Ground(options, log)
        self._ground.networks = Networks(self._ground)
        self._blanks = Blanks(self._ground)
        self._budget = Budget(self._ground)
        self._templates = Templates(self._ground, self._budget)
        self._layers = LayerZygotes(self._ground, self._blanks, self._budget)
        self._inventory = Inventory(self._ground, self._blanks, self._templates, self._layers, self._budget)
        self._reserve = Reserve()
        self.run = Programs(self._ground).run
        self._init_ms: dict[str, float] = {}
        self._making: dict[str, asyncio.Task[None]] = {}
        self._make_warden()

    def _make_warden(self) -> None:
        options = self._ground.options
        told = {
            "name": options.tree,
            "limits": options.limits,
            "uid_base": options.uid_base,
            "namespaces": options.namespaces,
        }
        self._ground.warden = Warden(told, self._on_event, self._on_warden_lost, self._blanks.on_warden_up)

    @property
    def warden(self) -> Warden:
        """The warden's client."""
        return self._ground.warden

    @property
    def hello(self) -> dict[str, Any]:
        """What the warden said of itself: cgroup version, why not, root."""
        return self.warden.hello

    async def open(self, runtimes: tuple[str, ...] = ("python3",)) -> None:
        """Start the warden and, in the background, the zygotes and blanks of `runtimes`."""
        await self.warden.start()
        if self.sandboxed:
            for runtime in runtimes:
                self._blanks.refill(self._blanks.family(self._interpreter_of(runtime), "sandbox"))

    async def open_without_namespaces(self) -> None:
        """Where `open` failed because the host gives no namespaces: serve isolation class `process` only."""
        self._ground.options = dataclasses.replace(self._ground.options, namespaces=False)
        self._make_warden()
        await self.warden.start()

    def protect_ports(self, ports: Iterable[int]) -> None:
        """The platform's own ports, which no function reaches, whatever its policy."""
        self._ground.networks.protect(ports)

    def attend_by(self, attendant: Attendant) -> None:
        """Who answers at the platform's address inside instances. Until this is told, no instance has one."""
        self._ground.attendant = attendant

    @property
    def network_refused(self) -> Mapping[tuple[str, str, str], int]:
        """(namespace, function, protocol) -> how often its network policy has refused something."""
        return self._ground.networks.count_refused

    @property
    def sandboxed(self) -> bool:
        """Whether sandboxes can be had."""
        return self._ground.options.namespaces

    # --- InstanceHost

    async def start(self, version: Version, env: dict[str, str], on_gone: Callable[[Instance], None]) -> Instance:
        """A ready instance, by the quickest rung that is free."""
        warm = self._reserve.take(version, env)
        if warm is not None:
            warm.on_lost = on_gone
            return warm
        template = self._templates.find(version, env)
        family = self._blanks.family(self._interpreter_of(version.spec.runtime), version.spec.isolation)
        rung = self._choose(version, family, template).rung
        process: Process | None = None
        if rung in ("spare", "template") and template is not None:
            try:
                process = await self._templates.start(template, version)
            except (Unavailable, InstanceLost) as error:
                _log.warning("an instance starts without its template", version=version.key, error=error.detail)
        if process is None:
            process = await self._loaded(family, version, env, template=False)
            self._consider_template(version, env, process.report)
        if process.gone:
            raise InstanceLost("the instance ended as soon as it was ready", hint="try again", retry_after_s=1)
        process.on_lost = on_gone
        return process

    def _choose(self, version: Version, family: Family, template: Template | None) -> starts.Choice:
        rungs: set[starts.Rung] = {"template"} if template is not None else set()
        if template is not None and template.spare is not None and not template.spare.gone:
            rungs.add("spare")
        if self._layers.has(version):
            rungs.add("layers")
        if family.blanks:
            rungs.add("blank")
        if family.up.is_set():
            rungs.add("zygote")
        fork_ms = template.fork_ms if template is not None else 0.0
        init_ms, several = self._init_ms.get(version.key, 0.0), self._has_several(version)
        return starts.choose_rung(rungs, version.spec.start, init_ms, fork_ms, several)

    def plan_of(self, version: Version) -> StartPlan:
        """See `ports.instances.InstanceHost.plan_of`."""
        policy = version.spec.start
        try:
            family = self._blanks.family(self._interpreter_of(version.spec.runtime), version.spec.isolation)
        except HostUnable as error:
            return StartPlan(policy=policy, rung="none", reason=error.detail)
        choice = self._choose(version, family, self._templates.get(version.key))
        reason = choice.reason
        if version.key not in self._templates and policy not in _UNSHARED:
            reason = self._templates.reasons.get(version.key) or self._untried(version)
        return StartPlan(policy=policy, rung=choice.rung, reason=reason)

    def _untried(self, version: Version) -> str:
        """Why a version that could be forked, as far as is known, has no template."""
        if version.spec.isolation != "sandbox":
            return f"isolation {version.spec.isolation!r} has no templates"
        if version.spec.runtime in KEPT:
            return f"runtime {version.spec.runtime!r} runs in a process that cannot be forked"
        init_ms = self._init_ms.get(version.key)
        if init_ms is None:
            return "it has not been loaded since the platform started"
        if init_ms < self._ground.options.template_from_ms and version.spec.start == "auto":
            return f"loading takes {init_ms:.1f} ms, about as long as a fork of a template"
        return "its template was given up for others, or is being made"

    async def prepare(self, version: Version, env: dict[str, str]) -> StartReport:
        """Load the version once; keep it as a template where that pays. Send it its warm-up call."""
        return await self._prepare(version, env, True)

    async def _prepare(self, version: Version, env: dict[str, str], instance: bool) -> StartReport:
        """`instance`: where a template does not take the warm-up call, have one take it."""
        family = self._blanks.family(self._interpreter_of(version.spec.runtime), version.spec.isolation)
        wants = version.spec.isolation == "sandbox" and version.spec.start not in _UNSHARED
        wants = wants and version.spec.runtime not in KEPT
        process = await self._loaded(family, version, env, template=wants)
        report, called = process.report, None
        if process.warming is not None and process.channel.started.result().warmed:
            called = await process.warming.wait()
            self._init_ms[version.key] += called.run_ms
        if wants and self._worth_template(version, report):
            await self._templates.keep(version, env, process, self._init_ms[version.key])
            report = msgspec.structs.replace(report, kind="template")
        else:
            if wants or version.spec.warm_up is None:
                process.kill("only warmed up")
            if not report.forkable:
                self._templates.reasons[version.key] = report.unforkable_reason or "templates are off for it"
        if version.spec.warm_up is not None and instance and (called is None or report.kind != "template"):
            called = await self._warm_instance(version, env, family, None if wants else process)
        return msgspec.structs.replace(report, warm_up=called)

    async def _warm_instance(
        self, version: Version, env: dict[str, str], family: Family, process: Process | None
    ) -> WarmUpReport:
        """Send the warm-up call to an instance, `process` if that is one, and keep it for the first start."""
        template = self._templates.find(version, env)
        if process is None and template is not None:
            process = await self._templates.start(template, version)
        elif process is None:
            process = await self._loaded(family, version, env, template=False)
        assert version.spec.warm_up is not None
        call = Warming(self._ground, version, version.spec.warm_up)
        call.send(process)
        found = await call.wait()
        if found.error is None and not process.gone:
            self._reserve.keep(version, env, process)
        else:
            process.kill("its warm-up call failed")
        return found

    def forget(self, version_key: str) -> None:
        """Drop the version's template, also one that is just being made."""
        making = self._making.pop(version_key, None)
        if making is not None:
            making.cancel()
        self._templates.forget(version_key)
        self._layers.forget(version_key)
        self._reserve.forget(version_key)
        self._init_ms.pop(version_key, None)

    async def inventory(self) -> dict[str, Any]:
        """Zygotes, blanks, templates, spares and instances with pids and memory in bytes; none that is being made."""
        return await self._inventory.take()

    def budget_of_starts(self) -> dict[str, Any]:
        """`limit_bytes` and `held_bytes` of what instances are forked from, and how many were `evicted`, by kind."""
        return self._budget.told()

    async def close(self) -> None:
        """End everything."""
        self._ground.closing = True
        self._blanks.close()
        self._reserve.clear()
        await self._ground.networks.wait_closed()
        await self._ground.scope.close()
        await self.warden.close()
        for process in list(self._ground.processes.values()):
            process.lost_warden()
        for _ in range(_CLOSING):
            if not self._ground.processes:
                break
            await asyncio.sleep(0.01)

    # --- becoming a version

    async def _loaded(self, family: Family, version: Version, env: dict[str, str], *, template: bool) -> Process:
        """A blank that became the version. One that is lost on the way (killed from outside, or with the warden) is
        replaced: it has answered nothing."""
        shared = await self._loaded_from_layers(family, version, env, template)
        if shared is not None:
            return shared
        for _ in range(_LOSSES):
            began = clock.mono_s()
            alone = version.spec.start == "plain" or is_oci(version.spec.isolation)
            process, kind = await (self._blanks.take_alone(family, version) if alone else self._blanks.take(family))
            try:
                await self._load(process, kind, began, version, env, template)
            except (InstanceLost, Unavailable) as error:
                _log.warning("a start was lost", version=version.key, error=error.detail)
                lost = error
            else:
                self._layers.consider(version, env, family, process)
                return process
        raise lost

    async def _loaded_from_layers(
        self, family: Family, version: Version, env: dict[str, str], template: bool
    ) -> Process | None:
        """A copy of the zygote of its layers that became the version; None when there is none that serves."""
        zygote = self._layers.find(version, env, family)
        if zygote is None or not await self._layers.fits(zygote, version):
            return None
        process = self._ground.new_process("template" if template else "instance", family.zygote)
        try:
            await self._layers.start(zygote, version, self._task(version, env, process, template), process)
        except (InstanceLost, Unavailable) as error:
            _log.warning("a start goes on without the zygote of its layers", version=version.key, error=error.detail)
            return None
        attending.hand_out(process)
        self._init_ms[version.key] = process.report.init_ms + zygote.import_ms
        return process

    def _task(self, version: Version, env: dict[str, str], process: Process, template: bool) -> dict[str, Any]:
        """What a process that becomes the version is told, with what is there before it reads that: the platform's
        address in it, its warm-up call."""
        store, cgroups = str(self._ground.options.store), bool(self.hello.get("cgroup"))
        if not template:
            attending.begin(self._ground.attendant, process, version)
        elif version.spec.permissions.any:  # its copies have the same, each for itself
            env = {**env, "FUYUN_ENDPOINT": ENDPOINT}
        env = {**env, **attending.variables(process.attendance)}
        task = loading.task_of(version, env, process.id, template=template, store=store, cgroups=cgroups)
        task["learn"] = self._layers.may_share(version)
        if template and version.spec.warm_up is not None:
            process.warming = Warming(self._ground, version, version.spec.warm_up)
            task["warm_up"] = True
        return task

    async def _load(
        self, process: Process, kind: StartKind, began: float, version: Version, env: dict[str, str], template: bool
    ) -> None:
        placed = clock.mono_s()
        process.kind = "template" if template else "instance"
        process.become(version)
        process.on_end = self._ground.dismiss
        task = self._task(version, env, process, template)
        limits = loading.limits_of(version.spec)
        try:
            await self._ground.networks.link(version, process)
        except (FuyunError, asyncio.CancelledError):
            process.kill("it has no link to the network")
            raise
        order = {"op": "limits", "id": process.id, "limits": limits, "template": template}
        self.warden.send({**order, "network": attending.order_of(process)})
        process.specialize(task)
        if process.warming is not None:
            process.warming.send(process)
        attending.hand_out(process)
        place_ms = (placed - began) * 1000 if kind == "blank" else 0.0
        await loading.wait_ready(process, kind, began, place_ms)
        self._init_ms[version.key] = process.report.init_ms

    def _worth_template(self, version: Version, report: StartReport) -> bool:
        least_ms, several = self._ground.options.template_from_ms, self._has_several(version)
        init_ms = self._init_ms.get(version.key, report.init_ms)
        return starts.worth_template(init_ms, least_ms, report.forkable, version.spec.start, several)

    def _has_several(self, version: Version) -> bool:
        """Whether it has, or is to keep, so many instances that they had better share a template's memory."""
        if provisioning.most(version.spec) >= _SEVERAL:
            return True
        alive = (p.version.key for p in self._ground.processes.values() if p.kind == "instance" and p.version)
        return sum(key == version.key for key in alive) >= _SEVERAL

    def _consider_template(self, version: Version, env: dict[str, str], report: StartReport) -> None:
        """After a start from a blank: make a template in the background when the next start would gain by it."""
        key = version.key
        if key in self._templates or key in self._templates.reasons or key in self._making:
            return
        worth = version.spec.isolation == "sandbox" and self._worth_template(version, report)
        if worth and self._budget.would_keep("template", key):
            self._making[key] = self._ground.scope.start(self._make_template(version, env), "template")

    async def _make_template(self, version: Version, env: dict[str, str]) -> None:
        try:
            await self._prepare(version, env, False)
        except FuyunError as error:
            self._templates.reasons[version.key] = error.detail
        self._making.pop(version.key, None)

    # --- what happens to processes

    def _on_event(self, message: dict[str, Any]) -> None:
        if message["ev"] == "listening":
            attending.take_listener(self._ground.processes.get(message["id"]), message["listener"])
        elif message["ev"] in ("gone", "failed"):
            process = self._ground.processes.get(message["id"])
            if process is not None:
                if message["ev"] == "failed":
                    process.kill(message["message"])  # the platform's doing, not the function's
                process.told_end(message)
            else:
                self._blanks.on_zygote_end(message["id"])

    def _on_warden_lost(self) -> None:
        self._templates.clear()
        self._layers.clear()
        self._reserve.clear()
        self._blanks.on_warden_lost()
        for process in list(self._ground.processes.values()):
            process.lost_warden()
