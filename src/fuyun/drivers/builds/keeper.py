"""Runs one command and lets nothing that it starts survive: executed as a file by `isolated`, standard library only.

Usage: `python -I -S keeper.py JSON` with JSON `{"argv", "env", "cwd", "limits": {"RLIMIT_CORE": 0, ...}}`. Its stdout
and stderr are the command's. It ends everything when the command exits or when its own stdin reaches its end, which
also happens when the platform is killed. It exits with the command's code, or 128 + its signal.
"""

import ctypes
import json
import os
import resource
import select
import signal
import sys
from typing import Any

PR_SET_CHILD_SUBREAPER = 36  # prctl(2): orphans below this process become its children, however they detached


def children() -> list[int]:
    """Direct children of this process."""
    found = []
    me = str(os.getpid())
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/" + name + "/stat") as file:
                    if file.read().rpartition(")")[2].split()[1] == me:
                        found.append(int(name))
            except OSError:
                pass
    return found


def kill_all() -> None:
    """Kill and reap children until there are none; grandchildren become children when their parent dies."""
    while True:
        for pid in children():
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def run(task: dict[str, Any]) -> int:
    """The command's exit status as a shell would give it."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, 0)
            for name, value in task["limits"].items():
                kind = getattr(resource, name)
                hard = resource.getrlimit(kind)[1]
                value = value if hard == resource.RLIM_INFINITY else min(value, hard)
                resource.setrlimit(kind, (value, value))
            os.chdir(task["cwd"])
            os.execve(task["argv"][0], task["argv"], task["env"])
        except OSError as exc:
            os.write(2, f"cannot start {task['argv'][0]}: {exc}\n".encode())
        finally:
            os._exit(127)
    ended = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(0, select.POLLIN | select.POLLHUP)
    code = 128 + signal.SIGKILL
    if any(fd == ended for fd, _ in poll.poll()):
        status = os.waitpid(pid, 0)[1]
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
    kill_all()
    return code


if __name__ == "__main__":
    sys.exit(run(json.loads(sys.argv[1])))
