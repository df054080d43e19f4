"""A process becomes a version: what it is told, and waiting until it has loaded."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from fuyun.base import clock
from fuyun.domain.errors import FunctionInitFailed, FuyunError
from fuyun.domain.functions import FunctionSpec, Version
from fuyun.domain.invocations import StartKind
from fuyun.domain.runtimes import IMAGES, JAVAS, NODES, PROGRAMS
from fuyun.domain.specs import start_limit_s
from fuyun.drivers.instances import plans
from fuyun.drivers.instances.process import Process
from fuyun.ports.instances import StartReport

#: What an instance needs between its limit for loading and saying so, on a busy machine.
_GRACE_S = 5.0


def limits_of(spec: FunctionSpec) -> dict[str, Any]:
    """Limits of its control group, as the warden takes them."""
    return {"memory": spec.memory_bytes, "cpu": spec.cpu, "pids": spec.pids}


def task_of(
    version: Version, env: dict[str, str], instance: str, *, template: bool, store: str, cgroups: bool
) -> dict[str, Any]:
    """The SPECIALIZE message. `cgroups`: a control group limits the process, so that it need not limit itself."""
    spec = version.spec
    sandboxed = spec.isolation != "process"
    image = spec.runtime in IMAGES  # its variables stand between the base and the function's own
    parts = [f"{a.digest[:2]}/{a.digest}" for a in (version.code, *version.layers)]
    layers = [f"/layers/{i}" if sandboxed else f"{store}/{part}" for i, part in enumerate(parts[1:])]
    return {
        "runtime": _program_of(spec), "image": image, "java": spec.runtime in JAVAS,
        "namespace": version.namespace, "function": version.function, "version": version.qualifier,
        "instance": instance, "handler": spec.handler, "concurrency": spec.concurrency,
        "cpu": spec.cpu,
        "timeout_s": spec.timeout_s, "memory_bytes": spec.memory_bytes, "output_bytes": spec.output_bytes,
        "command": spec.command, "readiness": msgspec.to_builtins(spec.readiness),
        "log_bytes": spec.log_bytes, "tmp_bytes": spec.tmp_bytes,
        "env": env if image else {**plans.environment(env), **layer_variables(spec, layers)},
        "hooks": msgspec.to_builtins(spec.hooks),
        "code": "/code" if sandboxed else f"{store}/{parts[0]}",
        "layers": layers, "learn": False,
        "mount": parts[0], "mounts": parts[1:], "template": template,
        "rlimits": {} if cgroups else _rlimits(spec, template),
    }  # fmt: skip


def _program_of(spec: FunctionSpec) -> str:
    """Its runtime as instances know it (`runtime/becoming.py`)."""
    if spec.runtime in NODES:
        return "nodejs"
    if spec.runtime in IMAGES:
        return spec.protocol
    return "web" if spec.is_server else spec.runtime


def layer_variables(spec: FunctionSpec, folders: list[str]) -> dict[str, str]:
    """`FUYUN_LAYER_<NAME>` for each layer the spec names: its folder. Built dependencies stand before them."""
    names = [reference.partition(":")[0] for reference in spec.layers]
    attached = folders[len(folders) - len(names) :]
    return {
        f"FUYUN_LAYER_{name.upper().replace('-', '_')}": folder for name, folder in zip(names, attached, strict=False)
    }


def _rlimits(spec: FunctionSpec, template: bool) -> dict[str, int]:
    limits = {"memory": spec.memory_bytes}
    if spec.isolation != "process":
        limits["pids"] = spec.pids
        if template:
            limits["all_pids"] = spec.pids * (spec.max_instances + 1)
    return limits


async def wait_ready(process: Process, kind: StartKind, began: float, place_ms: float) -> None:
    """Wait for READY and fill in the report. What went wrong is raised, and the process is ended."""
    assert process.version is not None
    spec = process.version.spec
    limit_s = start_limit_s(spec)
    try:
        # It cuts off the hook itself and says which, or what a server lacks.
        grace_s = _GRACE_S if spec.hooks.initializer or spec.is_server else 0.0
        grace_s += spec.timeout_s if process.warming is not None else 0.0
        ready = await asyncio.wait_for(asyncio.shield(process.channel.started), limit_s + grace_s)
    except TimeoutError as error:
        process.kill("it did not finish loading")
        if spec.runtime in PROGRAMS:
            detail, slow = f"the program ({spec.runtime}) was not ready within {limit_s:g} s", "its start"
        else:
            detail, slow = f"loading {spec.handler} took longer than {limit_s:g} s", "the module's top level"
        raise FunctionInitFailed(
            detail,
            hint=f"move slow work out of {slow}, or raise `initializer_timeout`",
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
        hooks=tuple(ready.hooks),
    )
