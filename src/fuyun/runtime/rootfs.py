"""An instance whose root is that of an OCI image: its mounts, its user, its command and variables.

What a deployment unpacked stands in the version's code: the folder `root`, and the file `image.json` with `argv`,
`env`, `cwd`, `uid` and `gid` (null: the image names no user). The instance's keeper stays the process it is, a Python
interpreter of the host: all it will import is imported before its root changes, and nothing after.
"""

from __future__ import annotations

import importlib
import json
import os
import sys

from fuyun.runtime import sandbox, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ROOT, FACTS = "root", "image.json"
#: What is shown of the old root in the new one, at which place, where it has that (`drivers/builds/roots.py` makes all
#: but the last). /run and /var/tmp are /tmp, the only folder that may be written.
SHOWN = (("/proc", "/proc"), ("/dev", "/dev"), ("/tmp", "/tmp"), ("/tmp", "/run"),
         ("/etc/resolv.conf", "/etc/resolv.conf"), ("/etc/hostname", "/etc/hostname"), ("/etc/hosts", "/etc/hosts"),
         ("/tmp", "/var/tmp"))  # fmt: skip
#: What keepers import when they first need it.
_LATER = ("encodings.idna", "encodings.latin_1", "encodings.ascii", "linecache", "tokenize", "traceback")
_BASE = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/tmp", "TMPDIR": "/tmp"}


def enter(task: dict[str, Any], module: str) -> None:
    """Make the image's root this process's, and complete `task`: `argv`, `env`, and as `code` the working directory.
    `module` is that of the keeper. To be called between `sandbox.mount_code` and `sandbox.seal`."""
    for name in (module, *_LATER):
        importlib.import_module(name)
    with open(f"{sandbox.CODE}/{FACTS}", encoding="utf-8") as file:
        facts = json.load(file)
    _change_root(f"{sandbox.CODE}/{ROOT}")
    if facts["uid"] is not None:
        sandbox.rename_user(int(facts["uid"]), int(facts["gid"]))
    sys.path.clear()  # the image's own Python is none of this process's
    sys.path_importer_cache.clear()
    env = {**_BASE, **facts["env"], **task["env"]}
    task.update(env=env, code=facts["cwd"], argv=resolved(facts["argv"], facts["cwd"], env["PATH"]))


def _change_root(root: str) -> None:
    syscalls.mount(root, sandbox.CODE, "", syscalls.MS_BIND)
    for source, target in SHOWN:
        if _is_place(sandbox.CODE + target):
            syscalls.mount(source, sandbox.CODE + target, "", syscalls.MS_BIND | syscalls.MS_REC)
    os.chdir(sandbox.CODE)
    syscalls.call("pivot_root", b".", b".")
    syscalls.call("umount2", b".", syscalls.MNT_DETACH)
    os.chdir("/")


def _is_place(path: str) -> bool:
    """It is there, and no part of it is a link, which would lead into the root that is left."""
    return os.path.exists(path) and os.path.realpath(path) == path


def resolved(argv: list[str], cwd: str, path: str) -> list[str]:
    """`argv` with the path of its program: as it is, relative to `cwd`, or found on `path`."""
    if not argv or argv[0].startswith("/"):
        return argv
    if "/" in argv[0]:
        return [os.path.normpath(os.path.join(cwd, argv[0])), *argv[1:]]
    for folder in path.split(os.pathsep):
        found = os.path.join(folder or cwd, argv[0])
        if os.access(found, os.X_OK) and not os.path.isdir(found):
            return [found, *argv[1:]]
    return argv
