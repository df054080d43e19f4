"""Templates: versions that are loaded already and fork their instances."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial

from fuyun.base import clock
from fuyun.decide import starts
from fuyun.domain.errors import FuyunError, HostUnable, Unavailable
from fuyun.domain.functions import Version
from fuyun.drivers.instances import loading, memory
from fuyun.drivers.instances.ground import Ground
from fuyun.drivers.instances.process import Process


@dataclass(eq=False)
class Template:
    """One loaded version and what is known of it."""

    process: Process
    env: dict[str, str]
    init_ms: float
    size_bytes: int
    used_s: float
    fork_ms: float = 0.0


class Templates:
    """All templates of this host, within its memory budget. `reasons`: version key -> why it has none."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._templates: dict[str, Template] = {}
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

    def keep(self, version: Version, env: dict[str, str], process: Process) -> None:
        """Keep a loaded process; others may go for it."""
        old = self._templates.pop(version.key, None)
        if old is not None:
            old.process.kill("replaced")
        size = memory.of([process.pid]).get(process.pid, {}).get("private_bytes", 0)
        self._templates[version.key] = Template(process, env, process.report.init_ms, size, clock.mono_s())
        process.on_end = lambda process: self._on_end(version.key, process)
        process.channel.on_exited = partial(self._on_exited, process.id)
        rows = [(key, t.size_bytes, t.used_s, t.init_ms) for key, t in self._templates.items()]
        for key in starts.evict(rows, self._ground.options.template_budget_bytes):
            self.forget(key)

    def forget(self, version_key: str) -> None:
        """Drop the version's template and why it has none."""
        self.reasons.pop(version_key, None)
        found = self._templates.pop(version_key, None)
        if found is not None:
            found.process.kill("its template is not needed any more")

    def clear(self) -> None:
        """All are gone with the warden."""
        self._templates.clear()

    async def fork(self, template: Template, version: Version) -> Process:
        """An instance of it. Unavailable when it cannot fork."""
        began = clock.mono_s()
        process = self._ground.new_process("instance", template.process.zygote)
        process.version, process.memory_bytes, process.template = (
            version,
            version.spec.memory_bytes,
            template.process.id,
        )
        passed = await process.connect()
        message = {
            "op": "fork", "id": process.id, "template": template.process.id, "tmp_bytes": version.spec.tmp_bytes,
            "limits": loading.limits_of(version.spec), "task": {"instance": process.id, "template": False},
        }  # fmt: skip
        try:
            answer = await self._ground.warden.ask(message, passed)
        except FuyunError as error:
            process.told_end({})
            if isinstance(error, HostUnable):
                self.forget(version.key)
            raise Unavailable(f"the template could not fork: {error.detail}", retry_after_s=1) from error
        finally:
            for descriptor in passed:
                os.close(descriptor)
        process.pid = answer["pid"]
        await loading.wait_ready(process, "template", began, 0.0)
        template.used_s = clock.mono_s()
        template.fork_ms = process.report.start_ms
        return process

    def _on_exited(self, template: str, instance: str, status: int) -> None:
        """A template says how an instance ended; it is believed for its own ones only."""
        process = self._ground.processes.get(instance)
        if process is not None and process.template == template:
            process.told_status(status)

    def _on_end(self, key: str, process: Process) -> None:
        self._ground.dismiss(process)
        if key in self._templates and self._templates[key].process is process:
            del self._templates[key]
