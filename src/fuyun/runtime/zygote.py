"""A zygote: a single-threaded interpreter that has imported what most functions share and forks sandboxed blanks.

It lives in the minimal root (`sandbox.build_root`), holds no user code and knows two messages from the warden:
`spawn` with [channel, output, control] makes a blank, end of file ends it. A blank is a child of the warden
(CLONE_PARENT), so that it outlives its zygote and the warden learns how it ended.
"""

from __future__ import annotations

import gc
import importlib
import os
import socket

from fuyun.runtime import descriptors, forkhooks, instance, packing, sandbox, syscalls, worker
from fuyun.runtime.rehearsal import rehearse, rehearse_life

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Besides what the worker needs: modules that cost a handler milliseconds and many handlers want.
_COMMON = (
    "base64", "concurrent.futures", "csv", "dataclasses", "datetime", "decimal", "email.message", "hashlib", "hmac",
    "http.client", "http.cookies", "inspect", "logging", "pathlib", "pickle", "queue", "random", "secrets",
    "shutil", "ssl",
    "statistics", "string", "subprocess", "tempfile", "textwrap", "typing", "urllib.request", "uuid", "zlib",
)  # fmt: skip

#: What fills holes in memory.
_kept: list[object] = []


def preload() -> None:
    """Import what functions commonly use, once, in memory all instances share."""
    worker.preload()
    for name in _COMMON:
        importlib.import_module(name)
    forkhooks.settle()
    _kept.append(packing.fill_holes())
    rehearse()
    packing.renew(packing.watch(rehearse_life))
    rehearse_life()
    forkhooks.arm(False)
    _kept.append(packing.fill_holes())


def _spawn(message: dict[str, Any], passed: list[int], control: socket.socket, options: dict[str, Any]) -> None:
    isolated = options["isolation"] == "sandbox"
    gate, opener = os.pipe()
    flags = syscalls.CLONE_PARENT | (syscalls.INSTANCE_NAMESPACES if isolated else 0)
    pid = syscalls.clone(flags)
    if pid == 0:
        status = 70
        try:
            control.close()
            os.close(opener)
            mapped = os.read(gate, 1)
            os.close(gate)
            if mapped:
                status = instance.live(isolated, *passed, node=options["node"])
        finally:
            os._exit(status)
    try:
        if isolated:
            outside = message["outside"] if options["wide"] else 0
            sandbox.write_maps(pid, sandbox.INSTANCE_UID, (outside, outside))
        os.write(opener, b"m")
    finally:
        os.close(gate)
        os.close(opener)


def main(control_fd: int, options: dict[str, Any]) -> int:
    """Serve the warden until it closes the socket. `options`: `isolation` (its class), `node` (an
    executable that its blanks start ahead, "" for none), `wide` (65,536 host ids
    are mapped, so that each instance can have its own)."""
    control = socket.socket(fileno=control_fd)
    if options["isolation"].startswith("oci:"):
        from fuyun.runtime import bundles

        return bundles.main(control, options)
    preload()
    gc.collect()
    gc.freeze()
    if options["isolation"] == "sandbox":
        # Mapping a child's ids is all that takes one; whoever maps root of the namespace above needs the last.
        syscalls.empty_bounding_set()
        syscalls.keep_capabilities((syscalls.CAP_SETUID, syscalls.CAP_SETGID, syscalls.CAP_SETFCAP))
    return descriptors.serve(control, lambda message, passed: _spawn(message, passed, control, options))
