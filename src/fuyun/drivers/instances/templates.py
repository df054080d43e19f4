"""Templates: versions that are loaded already and fork their instances.

A template is process 1 of the process namespace its instances live in (the kernel ends them with it), so one that is
not wanted any more takes no more forks and is ended once the last of its instances is gone.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from functools import partial

from fuyun.base import clock
from fuyun.decide import starts
from fuyun.domain.errors import FuyunError, Unavailable
from fuyun.domain.functions import Version
from fuyun.drivers.instances import loading, memory
from fuyun.drivers.instances.ground import Ground
from fuyun.drivers.instances.process import Process

#: Forks asked of one template at once. A socket's queue of messages may be as short as ten (net.unix.max_dgram_qlen).
_FORKING = 8
#: A fork takes milliseconds; a template that needs longer than this does not listen any more.
_FORK_S = 5.0


@dataclass(eq=False)
class Template:
    """One loaded version and what is known of it."""

    process: Process
    env: dict[str, str]
    init_ms: float
    size_bytes: int
    used_s: float
    fork_ms: float = 0.0
    lean: bool = False  # kept for the memory it saves, not for the time: it ends with its last instance
    deaf: bool = False  # it did not fork when it was asked
    instances: set[str] = field(default_factory=set)
    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_FORKING))


class Templates:
    """All templates of this host, within its memory budget. `reasons`: version key -> why it has none."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._templates: dict[str, Template] = {}
        self._leaving: set[Template] = set()  # forgotten, with instances that live
        self.reasons: dict[str, str] = {}

    def __contains__(self, version_key: str) -> bool:
        return version_key in self._templates

    def find(self, version: Version, env: dict[str, str]) -> Template | None:
        """The version's living template with this environment; an outdated one is dropped."""
        template = self._templates.get(version.key)
        if template is not None and (template.env != env or template.process.gone):
            self.forget(version.key)
            return None
        return template

    async def keep(self, version: Version, env: dict[str, str], process: Process) -> None:
        """Keep a loaded process; others may go for it."""
        sizes = await asyncio.get_running_loop().run_in_executor(None, memory.of, [process.pid])
        size = sizes.get(process.pid, {}).get("private_bytes", 0)
        self._drop(version.key)
        if process.gone:
            return
        init_ms, least_ms = process.report.init_ms, self._ground.options.template_from_ms
        lean = not starts.worth_template(init_ms, least_ms, True, version.spec.start)
        self._templates[version.key] = Template(process, env, init_ms, size, clock.mono_s(), lean=lean)
        process.on_end = partial(self._on_end, version.key)
        process.channel.on_exited = partial(self._on_exited, process)
        rows = [(key, t.size_bytes, t.used_s, t.init_ms) for key, t in self._templates.items()]
        held = sum(template.size_bytes for template in self._leaving)
        for key in starts.evict(rows, self._ground.options.template_budget_bytes - held):
            self._drop(key)

    def forget(self, version_key: str) -> None:
        """Drop the version's template and why it has none."""
        self.reasons.pop(version_key, None)
        self._drop(version_key)

    def _drop(self, version_key: str) -> None:
        found = self._templates.pop(version_key, None)
        if found is not None:
            self._leaving.add(found)
            self._end_unused(found)

    def _end_unused(self, template: Template) -> None:
        if template in self._leaving and not template.instances:
            self._leaving.discard(template)
            template.process.kill("it is not needed any more")

    def clear(self) -> None:
        """All are gone with the warden."""
        self._templates.clear()
        self._leaving.clear()

    async def fork(self, template: Template, version: Version) -> Process:
        """An instance of it. Unavailable or InstanceLost when the template does not fork any more."""
        began = clock.mono_s()
        process = self._ground.new_process("instance", template.process.zygote)
        process.become(version)
        process.template = template.process
        process.on_end = partial(self._on_instance_end, template)
        template.instances.add(process.id)
        async with template.room:
            try:
                await self._fork(template, process, version)
            except FuyunError as error:
                process.abandon()
                template.deaf = True
                if self._templates.get(version.key) is template:
                    self._drop(version.key)
                raise Unavailable(f"the template could not fork: {error.detail}", retry_after_s=1) from error
        await loading.wait_ready(process, "template", began, 0.0)
        template.used_s = clock.mono_s()
        template.fork_ms = process.report.start_ms
        return process

    async def _fork(self, template: Template, process: Process, version: Version) -> None:
        message = {
            "op": "fork", "id": process.id, "template": template.process.id, "tmp_bytes": version.spec.tmp_bytes,
            "limits": loading.limits_of(version.spec), "task": {"instance": process.id, "template": False},
        }  # fmt: skip
        if template.deaf:
            raise Unavailable("it does not listen any more", retry_after_s=1)
        passed = await process.connect()
        try:
            answer = await self._ground.warden.ask(message, passed, _FORK_S)
        finally:
            for descriptor in passed:
                os.close(descriptor)
        process.pid = answer["pid"]

    def _on_instance_end(self, template: Template, process: Process) -> None:
        self._ground.dismiss(process)
        template.instances.discard(process.id)
        version = process.version
        if template.lean and not template.instances and version and self._templates.get(version.key) is template:
            self._drop(version.key)
        self._end_unused(template)

    def _on_exited(self, template: Process, instance: str, status: int) -> None:
        """A template says how an instance ended; it is believed for its own ones only."""
        process = self._ground.processes.get(instance)
        if process is not None and process.template is template:
            process.told_status(status)

    def _on_end(self, key: str, process: Process) -> None:
        self._ground.dismiss(process)
        if key in self._templates and self._templates[key].process is process:
            del self._templates[key]
