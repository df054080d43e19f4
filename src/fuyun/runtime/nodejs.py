"""Node in an instance. Process 1 is Python and keeps one child, `node worker.js`, which answers the platform itself.

Node is started while the instance is still a blank: sealed, with its runtime loaded, blocked in a read until its task
arrives. It shares the blank's mount namespace, so it sees the code as soon as process 1 has mounted it. Limits of the
control group hold for both from the start, being the group's; those of a process are set by process 1 from outside.
"""

from __future__ import annotations

import os
import resource
import signal
import socket

from fuyun.runtime import forkhooks, sandbox, wire
from fuyun.runtime.jsontext import dumps
from fuyun.runtime.syscalls import PR_SET_DUMPABLE, prctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

WORKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "node", "worker.js")
#: Compiles large files of the code ahead; folder in the code where they are.
AHEAD = os.path.join(os.path.dirname(WORKER), "ahead.js")
PREPARED = "fuyun-node"
#: What `worker.js` finds its task, its connection, and the two ends of another to rehearse on, at.
_PLACES = (3, 4, 5, 6)
_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",
    "TMPDIR": "/tmp",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
}


class Prepared:
    """A Node process that waits for its task: `pid`, and `pipe`, where the task goes."""

    def __init__(self, pid: int, pipe: int) -> None:
        self.pid = pid
        self.pipe = pipe

    def has_ended(self) -> bool:
        """Whether it is gone already."""
        return os.waitpid(self.pid, os.WNOHANG)[0] != 0

    def tell(self, task: dict[str, Any]) -> None:
        """Let it begin. When it ends meanwhile, `wait` tells how."""
        frame = memoryview(wire.frame(wire.SPECIALIZE, 0, dumps(task, "task")))
        try:
            while frame:
                frame = frame[os.write(self.pipe, frame) :]
        except BrokenPipeError:
            pass
        os.close(self.pipe)

    def wait(self) -> int:
        """Collect whatever ends until Node does; its exit status, 128 and the signal when one ended it."""
        while True:
            pid, status = os.waitpid(-1, 0)
            if pid == self.pid:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code


class Blank:
    """What a blank with Node knows until it gets its task."""

    node = ""
    prepared: Optional[Prepared] = None


_blank = Blank()


def use(node: str) -> None:
    """`main` is to start this executable, which nothing has started ahead."""
    _blank.node = node


def prepare(node: str, channel_fd: int, ruleset: Optional[int]) -> None:
    """Start the executable `node` for the task that is to come, sealed by `sandbox.seal`; unsealed without a `ruleset`.
    The caller keeps both descriptors."""
    _blank.node = node
    _blank.prepared = _start(node, channel_fd, ruleset)


def _start(node: str, channel_fd: int, ruleset: Optional[int]) -> Prepared:
    reader, writer = os.pipe()
    near, far = socket.socketpair()
    forkhooks.arm(False)
    pid = os.fork()
    if pid == 0:
        try:
            _exec(node, [reader, channel_fd, near.fileno(), far.fileno()], ruleset)
        finally:
            os._exit(70)
    forkhooks.arm()
    os.close(reader)
    near.close()
    far.close()
    return Prepared(pid, writer)


def _exec(node: str, inherited: list[int], ruleset: Optional[int]) -> None:
    """Become Node, which has the descriptors `inherited` at `_PLACES`; never returns."""
    if ruleset is not None:
        sandbox.seal(ruleset)
    above = max(*inherited, *_PLACES) + 1
    for index, descriptor in enumerate(inherited):
        os.dup2(descriptor, above + index)
    for index, place in enumerate(_PLACES):
        os.dup2(above + index, place)
    os.closerange(_PLACES[-1] + 1, above + len(_PLACES))
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execve(node, [node, *flags(), WORKER, *map(str, _PLACES)], _ENVIRONMENT)


def flags() -> list[str]:
    """Options of V8 that only hold from the start. The heap may fill the machine: what a function may use is the
    control group's to say, which then also tells that it was memory."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return [f"--max-old-space-size={memory_bytes >> 20}"]


def main(channel: socket.socket, task: dict[str, Any]) -> int:
    """Hand `task` on and wait until Node has ended; the exit status for this process, which is sealed."""
    node = _blank.prepared
    if node is None or node.has_ended():
        node = _start(_blank.node, channel.fileno(), None)
    pids: Optional[int] = task.get("rlimits", {}).get("pids")
    if pids is not None:
        resource.prlimit(node.pid, resource.RLIMIT_NPROC, (pids, pids))
    if os.getpid() == 1:
        prctl(PR_SET_DUMPABLE, 0)  # what Node runs belongs to the same user, who may not write to us (ptrace(2))
    channel.close()
    node.tell(task)
    return node.wait()
