"""Who runs on a data directory: a lock that dies with its holder, and a file that says where to find it.

The lock is the truth (`flock` on `platform.lock`, released by the kernel however the platform ends); `platform.json`
beside it says which process holds it and what it listens on.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from fuyun.domain.errors import Conflict, HostUnable

LOCK = "platform.lock"
STATE = "platform.json"
LOG = "platform.log"


@dataclass(frozen=True, slots=True)
class RunState:
    """A running platform. `started_s` is wall-clock seconds; addresses are "" until it is ready."""

    pid: int
    started_s: float
    version: str
    api: str = ""
    gateway: str = ""
    s3: str = ""


@contextmanager
def hold(data: Path, state: RunState) -> Iterator[None]:
    """Own the data directory while inside. Conflict when another platform does, HostUnable when it is not writable."""
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Not truncated: the file of a holder that is alive stays as it is.
        lock = os.open(data / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise HostUnable(
            f"the data directory {data} cannot be used: {exc.strerror}", hint="choose one: --data DIR"
        ) from exc
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = find_running(data)
            who = (
                f"by process {other.pid}" + (f" at {other.api}" if other.api else "") if other else "by another process"
            )
            raise Conflict(
                f"a platform is running on {data} already, {who}",
                hint="`fuyun status` shows it, `fuyun down` stops it, --data DIR starts another one elsewhere",
            ) from None
        write_state(data, state)
        try:
            yield
        finally:
            with suppress(OSError):  # on a disk that became read-only it stays: without the lock it says nothing
                (data / STATE).unlink()
    finally:
        os.close(lock)


def write_state(data: Path, state: RunState) -> None:
    """Replace the state file."""
    draft = data / f".{STATE}.{os.getpid()}"
    draft.write_text(json.dumps(asdict(state)), encoding="utf-8")
    os.replace(draft, data / STATE)


def is_held(data: Path) -> bool:
    """True when a platform holds the lock."""
    try:
        lock = os.open(data / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def find_running(data: Path) -> RunState | None:
    """The platform that runs on the directory, or None. A state file whose writer is gone does not count."""
    if not is_held(data):
        return None
    try:
        return RunState(**json.loads((data / STATE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


class Process:
    """A process that stays the one it was: signals cannot reach another one that got its pid."""

    def __init__(self, pid: int) -> None:
        """ProcessLookupError when there is none."""
        self._fd = os.pidfd_open(pid)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when it has ended."""
        try:
            signal.pidfd_send_signal(self._fd, number)
        except ProcessLookupError:
            pass

    def wait(self, timeout_s: float) -> bool:
        """True when it ended within the time."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)
