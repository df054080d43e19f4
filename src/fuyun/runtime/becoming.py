"""What an instance becomes, by the name of its runtime: a Python function, or the keeper of a program."""

from __future__ import annotations

from importlib import import_module

from fuyun.runtime import worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any

#: Runtime -> the module whose `main(channel, task)` runs its programs; the exit status. Imported when it is needed, by
#: a process that is sealed.
PROGRAMS = {
    "custom": "fuyun.runtime.custom",
    "java": "fuyun.runtime.jvm",
    "nodejs": "fuyun.runtime.nodejs",
    "web": "fuyun.runtime.web",
}


def enter_image(task: dict[str, Any]) -> None:
    """Make the image that `task` names the root of this process, which is not sealed yet."""
    from fuyun.runtime import rootfs

    rootfs.enter(task, PROGRAMS[task["runtime"]])


def become(channel: socket.socket, task: dict[str, Any]) -> int:
    """Be the function of `task` until the channel closes; the exit status."""
    module = PROGRAMS.get(task.get("runtime", ""))
    if module is None:
        return worker.main(channel, task)
    return int(import_module(module).main(channel, task))
