"""Instances of class `oci:<runtime>`: whether the host has the runtime, and what its zygote needs for a version."""

from __future__ import annotations

from typing import Any

from fuyun.domain.errors import HostUnable
from fuyun.domain.functions import Version, is_oci
from fuyun.domain.interpreters import Interpreter
from fuyun.drivers.instances import plans
from fuyun.runtime import bundles


def require(isolation: str) -> None:
    """HostUnable when it is the class of a runtime that is not installed."""
    name = isolation.partition(":")[2]
    if is_oci(isolation) and not bundles.find(name):
        raise HostUnable(
            f"this host has no {bundles.RUNTIMES[name][0]}, which isolation class {isolation!r} needs",
            hint=f"{bundles.SOURCES[name]}, or use isolation: sandbox",
            feature=isolation,
        )


def plan(interpreter: Interpreter, version: Version, store: str) -> dict[str, Any]:
    """A root that holds the code and layers of one version, and nothing else of the store."""
    found = plans.view(interpreter)
    found["folders"].append("/sys")
    for at, artifact in enumerate((version.code, *version.layers)):
        target = "/code" if at == 0 else f"/layers/{at - 1}"
        found["binds"].append([f"{store}/{artifact.digest[:2]}/{artifact.digest}", target, "ro"])
    return found


def options(interpreter: Interpreter, version: Version, counted: bool) -> dict[str, Any]:
    """What `runtime.bundles` is told. `counted`: by a control group."""
    return {
        "python": interpreter.executable, "path": plans.RUNTIME, "env": plans.environment(),
        "tmp_bytes": version.spec.tmp_bytes, "uncounted": not counted,
    }  # fmt: skip
