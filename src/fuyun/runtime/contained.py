"""The first process of an instance that an OCI runtime has made: what `instance.live` is to a sandbox of our own.

Namespaces, root, limits of the process and the first filter are the runtime's work (`bundles.config`); it starts
without a capability but one, which it needs to have the user that instances have. The connection to the platform is
descriptor 3, the socket to the warden 4.
"""

from __future__ import annotations

import os
import socket

from fuyun.runtime import becoming, forkhooks, instance, landlock, nodejs, sandbox, syscalls, worker

#: Runtimes leave descriptors open, such as of folders outside (CVE-2024-21626).
_MOST = 4096


def main(channel_fd: int, control_fd: int, node: str) -> int:
    """Be the function that it is told to be, until the channel closes; the exit status. `node`: the executable of Node
    where the function is one of its."""
    forkhooks.arm()
    os.umask(0o022)
    empty = os.open("/dev/null", os.O_RDONLY)
    os.dup2(empty, 0)  # the one it came with is of another mount namespace
    os.closerange(control_fd + 1, _MOST)
    control = socket.socket(fileno=control_fd)
    instance.enrol(control_fd)
    channel = socket.socket(fileno=channel_fd)
    try:
        task = instance.receive_task(channel)
    except EOFError:
        return 0
    if not control.recv(1):  # the limits are set
        return 0
    control.close()
    worker.preload()
    nodejs.use(node)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)
    # What the runtime mapped is root's number, which it needs itself; the control group has its instance by now.
    sandbox.rename_user(sandbox.INSTANCE_UID, sandbox.INSTANCE_UID, syscalls.NEWCGROUP)
    syscalls.call("sched_setscheduler", 0, os.SCHED_BATCH, bytes(4))
    sandbox.fixed_limits()
    sandbox.resource_limits(task.get("rlimits", {}))
    if task.get("rlimits"):
        sandbox.refuse_uncounted()
    sandbox.seal(landlock.prepare(("/tmp",), ("/dev", "/proc")))
    return becoming.become(channel, task)
