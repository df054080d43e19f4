"""How the warden comes to be: process 1 of its namespaces, with few capabilities, without others' descriptors."""

from __future__ import annotations

import os
import signal
import socket
import sys
import traceback

from fuyun.runtime import descriptors, sandbox, syscalls
from fuyun.runtime.warden import Warden

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Mounts and namespaces; the ids of a zygote; ending what has another user; making control groups (the root of a
#: hierarchy is nobody's to write) and reaching an interpreter or a data directory whose parents are closed to others.
#: The gate, which is forked off when a function first has a network, configures it and bounds what it executes. With
#: root of the host; else over its own user namespace only.
_KEPT = (
    syscalls.CAP_SYS_ADMIN, syscalls.CAP_SETUID, syscalls.CAP_SETGID, syscalls.CAP_SETFCAP, syscalls.CAP_KILL,
    syscalls.CAP_DAC_OVERRIDE, syscalls.CAP_NET_ADMIN, syscalls.CAP_SETPCAP,
)  # fmt: skip


def main(platform_fd: int, options: dict[str, Any]) -> int:
    """Called by the launcher with the socket to the platform: move into own namespaces and serve. The launcher
    ends; the warden is a child of the platform."""
    platform = socket.socket(fileno=platform_fd)
    options["root"] = os.getuid() == 0
    if not options["namespaces"]:
        return Warden(platform, options).run()
    if not options["root"]:
        uid, gid = os.getuid(), os.getgid()
        syscalls.call("unshare", syscalls.NEWUSER)
        sandbox.write_maps("self", 0, (uid, gid))
    told, teller = os.pipe()
    pid = syscalls.clone(syscalls.NEWPID | syscalls.NEWNS | syscalls.CLONE_PARENT)
    if pid:
        descriptors.send(platform, {"ev": "launched", "pid": pid}, (syscalls.pidfd_open(pid),))
        return 0
    status = 70
    try:
        os.close(teller)
        os.read(told, 1)  # ends with the launcher: who this is has been said before its own first word
        os.close(told)
        syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
        syscalls.mount("proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        syscalls.keep_capabilities(_KEPT)
        status = Warden(platform, options).run()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)
