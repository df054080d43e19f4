"""Templates: versions that are loaded already and fork their instances.

A template is process 1 of the process namespace its instances live in (the kernel ends them with it), so one that is
not wanted any more takes no more forks and is ended once the last of its instances is gone.

One that is slow to fork keeps a spare: a copy forked ahead, sandboxed and connected, that has run none of the author's
code since its fork and waits to become an instance (docs/decisions/0012).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial

import structlog

from fuyun.base import clock
from fuyun.decide import starts
from fuyun.domain.errors import (
    FunctionExited,
    FunctionOutOfMemory,
    FuyunError,
    InstanceLost,
    ProtocolViolated,
    Unavailable,
)
from fuyun.domain.functions import Version
from fuyun.drivers.instances import attending, loading, memory
from fuyun.drivers.instances.ground import Ground
from fuyun.drivers.instances.parents import Budget, Holding, Parent, fork, listen_to
from fuyun.drivers.instances.process import Process
from fuyun.runtime import wire

_log = structlog.get_logger("fuyun.host")
#: How long after a start its spare is made, so that the fork takes nothing from the call; doubled for each spare that
#: was lost while it waited.
_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 30.0
#: How long a new spare gets to seal itself before its memory is measured.
_SETTLE_S = 0.1


@dataclass(eq=False, kw_only=True)
class Template(Parent):
    """One loaded version and what is known of it."""

    env: dict[str, str]
    init_ms: float  # what a start from it saves: loading the version
    take_ms: float = 0.0  # how long its last spare took to become an instance
    lean: bool = False  # kept for the memory it saves, not for the time: it ends with its last instance
    spare: Process | None = None
    spare_bytes: int = 0  # what a spare of it was last found to hold of its own
    making: Process | None = None  # a spare that does not wait yet
    sparing: bool = False  # one is being made, or is about to be
    losses: int = 0  # spares lost since one was taken


class Templates:
    """All templates of this host, within its memory budget. `reasons`: version key -> why it has none."""

    def __init__(self, ground: Ground, budget: Budget) -> None:
        self._ground = ground
        self._budget = budget
        budget.join(
            Holding(
                "template",
                lambda: [(key, t.size_bytes, t.used_s, t.init_ms) for key, t in self._templates.items()],
                lambda: sum(template.size_bytes for template in self._leaving),
                self._drop,
            )
        )
        self._templates: dict[str, Template] = {}
        self._leaving: set[Template] = set()  # forgotten, with instances that live
        self.reasons: dict[str, str] = {}

    def __contains__(self, version_key: str) -> bool:
        return version_key in self._templates

    def get(self, version_key: str) -> Template | None:
        """The version's template, as it is."""
        return self._templates.get(version_key)

    def find(self, version: Version, env: dict[str, str]) -> Template | None:
        """The version's living template with this environment; an outdated one is dropped."""
        template = self._templates.get(version.key)
        if template is not None and (template.env != env or template.process.gone):
            self.forget(version.key)
            return None
        return template

    def of(self, process: Process) -> Template | None:
        """The template that the process is, or was forked from; None for one that has none."""
        root = process if process.kind == "template" else process.template
        known = (*self._templates.values(), *self._leaving)
        return next((template for template in known if template.process is root), None)

    async def keep(self, version: Version, env: dict[str, str], process: Process, load_ms: float) -> None:
        """Keep a loaded process; others may go for it. `load_ms`: what loading the version in a blank takes."""
        sizes = await asyncio.get_running_loop().run_in_executor(None, memory.of, [process.pid])
        size = sizes.get(process.pid, {}).get("private_bytes", 0)
        self._drop(version.key)
        if process.gone:
            return
        least_ms = self._ground.options.template_from_ms
        lean = not starts.worth_template(load_ms, least_ms, True, version.spec.start)
        self._templates[version.key] = Template(
            process=process, size_bytes=size, used_s=clock.mono_s(), env=env, init_ms=process.report.init_ms, lean=lean
        )
        process.on_end = partial(self._on_end, version.key)
        listen_to(self._ground, process)
        self._fit()
        if version.key in self._templates:
            self._plan_spare(self._templates[version.key])

    def _fit(self) -> None:
        """Drop what the budget has no room for: spares only get what templates leave."""
        self._budget.fit()
        for key in self._spares_too_many():
            self._end_spare(self._templates[key])

    def _spares_too_many(self, wanted: Template | None = None) -> list[str]:
        """Keys of the templates whose spare does not fit the budget; `wanted` is about to get one."""
        having = [(key, t) for key, t in self._templates.items() if t.spare is not None or t is wanted]
        least_ms = self._ground.options.spare_from_ms
        rows = [(key, t.spare_bytes, t.used_s, max(t.fork_ms, least_ms)) for key, t in having]
        return starts.evict(rows, self._budget.left_bytes)

    def forget(self, version_key: str) -> None:
        """Drop the version's template and why it has none."""
        self._budget.forget("template", version_key)
        self.reasons.pop(version_key, None)
        self._drop(version_key)

    def _drop(self, version_key: str) -> None:
        found = self._templates.pop(version_key, None)
        if found is not None:
            self._leaving.add(found)
            self._end_spare(found)
            self._end_unused(found)

    def _end_unused(self, template: Template) -> None:
        if template in self._leaving and not template.instances:
            self._leaving.discard(template)
            template.process.kill("it is not needed any more")

    def clear(self) -> None:
        """All are gone with the warden."""
        self._templates.clear()
        self._leaving.clear()

    async def start(self, template: Template, version: Version) -> Process:
        """An instance of it: its spare, or else a fork. Unavailable or InstanceLost when the template does not fork any
        more."""
        process = await self._take_spare(template) or await self._fork_instance(template, version)
        template.used_s = clock.mono_s()
        self._plan_spare(template)
        return process

    async def _fork_instance(self, template: Template, version: Version) -> Process:
        began = clock.mono_s()
        process = self._new_copy("instance", template, version)
        process.on_end = partial(self._on_instance_end, template)
        template.instances.add(process.id)
        try:
            await self._ground.networks.link(version, process)
        except FuyunError:
            process.abandon()
            raise
        async with template.room:
            try:
                await fork(self._ground, template, process, version, {})
            except FuyunError as error:
                process.abandon()
                template.deaf = True
                if self._templates.get(version.key) is template:
                    self._drop(version.key)
                raise Unavailable(f"the template could not fork: {error.detail}", retry_after_s=1) from error
        await loading.wait_ready(process, "template", began, 0.0)
        template.fork_ms = process.report.start_ms
        return process

    def _new_copy(self, kind: str, template: Template, version: Version) -> Process:
        process = self._ground.new_process(kind, template.process.zygote)
        process.become(version)
        process.template = template.process
        attending.begin(self._ground.attendant, process, version)
        attending.hand_out(process)
        return process

    def _keeps(self, template: Template) -> bool:
        """Whether it is still to be started from."""
        version = template.process.version
        return version is not None and self._templates.get(version.key) is template and not template.process.gone

    # --- spares

    async def _take_spare(self, template: Template) -> Process | None:
        """Its spare, which becomes an instance; None when there is none, or when it is lost on the way."""
        process, template.spare = template.spare, None
        if process is None or process.gone:
            return None
        if process.stopped:
            process.kill("it was stopped from outside")
            return None
        began = clock.mono_s()
        process.kind = "instance"
        process.on_end = partial(self._on_instance_end, template)
        template.instances.add(process.id)
        process.channel.write(wire.frame(wire.SPECIALIZE, 0, b"{}"))
        try:
            await loading.wait_ready(process, "template", began, 0.0)
        except (FunctionExited, FunctionOutOfMemory, InstanceLost, ProtocolViolated) as error:
            _log.warning("a spare was lost", version=process.version and process.version.key, error=error.detail)
            return None
        template.losses = 0
        template.take_ms = process.report.start_ms
        return process

    def _plan_spare(self, template: Template) -> None:
        """Have one made in a moment, if it is to have one."""
        least_ms = self._ground.options.spare_from_ms
        if template.spare is not None or template.sparing or template.lean:
            return
        if starts.worth_spare(template.fork_ms, template.size_bytes, least_ms):
            template.sparing = True
            pause_s = min(_LONGEST_PAUSE_S, _PAUSE_S * 2 ** min(template.losses, 16))
            asyncio.get_running_loop().call_later(pause_s, self._begin_spare, template)

    def _begin_spare(self, template: Template) -> None:
        version = template.process.version
        if self._ground.closing or version is None or not self._keeps(template) or template.deaf:
            template.sparing = False
        elif version.key in self._spares_too_many(template):
            template.sparing = False  # the next start asks again
        else:
            self._ground.scope.start(self._make_spare(template, version), "spare")

    async def _make_spare(self, template: Template, version: Version) -> None:
        process = template.making = self._new_copy("spare", template, version)
        process.on_end = partial(self._on_spare_end, template)
        try:
            await self._ground.networks.link(version, process)
            async with template.room:
                await fork(self._ground, template, process, version, {})
        except BaseException as error:
            process.abandon()
            if not isinstance(error, FuyunError):
                raise
            _log.warning("no spare was made", version=version.key, error=error.detail)
            return
        if not self._keeps(template) or process.gone:
            process.kill("its template is not needed any more")
            return
        template.spare, template.making, template.sparing = process, None, False
        await asyncio.sleep(_SETTLE_S)
        sizes = await asyncio.get_running_loop().run_in_executor(None, memory.of, [process.pid])
        if template.spare is process:
            template.spare_bytes = sizes.get(process.pid, {}).get("private_bytes", 0)
            self._fit()

    def _end_spare(self, template: Template) -> None:
        process, template.spare = template.spare, None
        if process is not None:
            process.kill("it is not needed any more")

    def _on_spare_end(self, template: Template, process: Process) -> None:
        """It ended before it was taken. One that was not ended by us is replaced."""
        self._ground.dismiss(process)
        if template.spare is process:
            template.spare = None
        elif template.making is process:
            template.making, template.sparing = None, False
        else:
            return
        template.losses += 1
        if self._keeps(template):
            self._plan_spare(template)

    # --- ends

    def _on_instance_end(self, template: Template, process: Process) -> None:
        self._ground.dismiss(process)
        template.instances.discard(process.id)
        version = process.version
        if template.lean and not template.instances and version and self._templates.get(version.key) is template:
            self._drop(version.key)
        self._end_unused(template)

    def _on_end(self, key: str, process: Process) -> None:
        self._ground.dismiss(process)
        if key in self._templates and self._templates[key].process is process:
            del self._templates[key]
