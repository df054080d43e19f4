"""What a sandbox sees of the host: the folders an interpreter needs, read-only, and a few files made for it."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import fuyun
from fuyun.domain.interpreters import Interpreter
from fuyun.runtime import gate, sandbox

#: Where the runtime (and with it `fuyun.sdk`) stands inside.
RUNTIME = "/opt/fuyun"
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_ETC = (
    "/etc/ld.so.cache", "/etc/localtime", "/etc/timezone", "/etc/ssl", "/etc/pki", "/etc/ca-certificates",
    "/etc/mime.types", "/etc/alternatives", "/etc/nsswitch.conf", "/etc/protocols", "/etc/services", "/etc/magic",
    "/etc/fonts",
)  # fmt: skip
#: Where Debian keeps the configuration of its JDKs, security providers among it.
_JAVA_ETC = "/etc/java-*-openjdk"
_NETWORK_ETC = ("/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/gai.conf")
_PACKAGE = Path(fuyun.__file__).parent
PLAN_TMP_BYTES = 64 * 2**20


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """Variables every sandboxed program starts with; nothing of the platform's own environment."""
    base = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8", "TZ": "UTC", "TMPDIR": "/tmp"}
    return {**base, **(extra or {})}


def _paths(paths: Iterable[str]) -> tuple[list[list[str]], list[list[str]]]:
    """Binds for folders and files that exist, links for what are links at the top of the host's tree."""
    binds: list[list[str]] = []
    links: list[list[str]] = []
    for path in paths:
        if os.path.islink(path) and path.count("/") == 1:
            links.append([os.readlink(path), path])
        elif os.path.exists(path):
            binds.append([os.path.realpath(path), path, "ro"])
    return binds, links


def _covered(path: str, binds: list[list[str]]) -> bool:
    return any(path == at or path.startswith(at + "/") for _, at, _ in binds)


def view(
    interpreter: Interpreter | None,
    *,
    store: str = "",
    ro: Iterable[str] = (),
    rw: Iterable[str] = (),
    network: bool = False,
) -> dict[str, Any]:
    """A plan for `runtime.sandbox.build_root`: system folders, the interpreter's own, `store` at /store, and more
    folders at their own paths."""
    binds, links = _paths((*_SYSTEM, *_ETC, *sorted(glob.glob(_JAVA_ETC)), *(_NETWORK_ETC if network else ())))
    wanted = [*(interpreter.mounts if interpreter else ()), *ro]
    closed: set[str] = set()
    for path in wanted:
        if not _covered(path, binds):
            binds.append([os.path.realpath(path), path, "ro"])
            closed |= {str(parent) for parent in Path(path).parents} - {"/"}
    if interpreter is not None:  # an import of Node's looks in every folder above the code's
        links.append([sandbox.PACKAGES, "/node_modules"])
    binds += [[os.path.realpath(path), path, "rw"] for path in rw]
    binds += [[str(_PACKAGE / part), f"{RUNTIME}/fuyun/{part}", "ro"] for part in ("runtime", "sdk")]
    if store:
        binds.append([store, "/store", "ro"])
    return {
        "binds": binds,
        "links": links,
        "folders": ["/var/tmp", "/run", sandbox.PACKAGES],
        "closed": sorted(closed),
        "files": {
            "/etc/passwd": "root:x:0:0::/tmp:/usr/sbin/nologin\nfunction:x:1000:1000::/tmp:/bin/sh\n",
            "/etc/group": "root:x:0:\nfunction:x:1000:\n",
            "/etc/hostname": "fuyun\n",
            **({} if network else {"/etc/resolv.conf": f"nameserver {gate.ADDRESS}\noptions timeout:5\n"}),
            **({} if network else {"/etc/hosts": "127.0.0.1 localhost fuyun\n::1 localhost\n"}),
            f"{RUNTIME}/fuyun/__init__.py": (_PACKAGE / "__init__.py").read_text(encoding="utf-8"),
        },
        "network": network,
        "tmp_bytes": PLAN_TMP_BYTES,
    }
