"""A program of the author's inside its instance: started, listened to, waited for.

The process that runs this is sealed already; what it starts inherits the seal (no_new_privs, seccomp, Landlock).
"""

from __future__ import annotations

import codecs
import io
import os
import select
import signal
import threading

from fuyun.runtime.problems import LoadProblem
from fuyun.runtime.streams import spool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Mapping, Optional

_READ = 64 * 1024
#: What an answer waits for at most: a pipe holds 64 KiB (pipe(7)), and what the program wrote before is in there.
_DRAIN_READS = 4
#: How much of the last output an error shows.
_TAIL_CHARS, _TAIL_LINES = 4096, 20
#: CPython ignores these in itself; a program expects them to do what signal(7) says.
_RESTORED = (signal.SIGPIPE, signal.SIGXFSZ)
_SHEBANG = 256


class Output:
    """Pipes for programs' standard output and error. What arrives becomes log lines of the current invocation."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers: dict[int, tuple[int, Any]] = {}  # descriptor -> index in the spool, decoder
        self._recent = ""
        self.writers: list[int] = []
        for index in (0, 1):
            reader, writer = os.pipe()
            os.set_blocking(reader, False)
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            self._readers[reader] = (index, io.IncrementalNewlineDecoder(decoder, translate=True))
            self.writers.append(writer)

    def listen(self) -> None:
        """Pass on what is written, for ever."""
        poll = select.poll()
        for reader in self._readers:
            poll.register(reader, select.POLLIN)
        while True:
            for reader, _ in poll.poll():
                with self._lock:
                    self._take(reader)

    def drain(self) -> None:
        """Take what was written until now."""
        with self._lock:
            for reader in self._readers:
                for _ in range(_DRAIN_READS):
                    if not self._take(reader):
                        break

    def tail(self) -> list[str]:
        """The last lines that were written."""
        return self._recent.splitlines()[-_TAIL_LINES:]

    def _take(self, reader: int) -> bool:
        """One read; whether there may be more."""
        try:
            data = os.read(reader, _READ)
        except BlockingIOError:
            return False
        index, decoder = self._readers[reader]
        text = decoder.decode(data)
        self._recent = (self._recent + text)[-_TAIL_CHARS:]
        spool.write(index, text)
        return True


class Program:
    """One started program. `status` is its exit status once `ended` is set, negative for the signal that ended it."""

    def __init__(self, name: str, pid: int, on_end: Callable[[Program], None]) -> None:
        self.name = name
        self.pid = pid
        self.status = 0
        self.ended = threading.Event()
        self.on_end = on_end

    def signal(self, number: int) -> None:
        """Signal the program itself; nothing when it has ended."""
        if not self.ended.is_set():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass

    def end(self) -> str:
        """How it ended, in words."""
        if self.status < 0:
            return f"was ended by signal {-self.status} ({_signal_name(-self.status)})"
        return f"exited with status {self.status}"


class Household:
    """Everything an instance's process 1 has started, and whatever was left to it: it waits for them all."""

    def __init__(self) -> None:
        self.output = Output()
        self._known: dict[int, Program] = {}
        self._changed = threading.Condition()

    def start(
        self,
        argv: list[str],
        env: Mapping[str, str],
        on_end: Callable[[Program], None],
        passed: Optional[Mapping[int, int]] = None,
    ) -> Program:
        """Start `argv` (an absolute path first) in the working directory. It holds descriptors 0 to 2 and those of
        `passed` (its number -> ours). `on_end` is called in the thread that waits. LoadProblem says why not."""
        out, err = self.output.writers
        actions: list[tuple[Any, ...]] = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]
        actions += [(os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, err, 2)]
        actions += [(os.POSIX_SPAWN_DUP2, ours, number) for number, ours in (passed or {}).items()]
        with self._changed:
            try:
                pid = os.posix_spawn(
                    argv[0], argv, env, file_actions=actions, setpgroup=0, setsigmask=(), setsigdef=_RESTORED
                )
            except OSError as error:
                raise LoadProblem("function_load_failed", _why_not(argv[0], error)) from None
            program = self._known[pid] = Program(os.path.basename(argv[0]), pid, on_end)
            self._changed.notify()
        return program

    def watch(self) -> None:
        """Pass on output and wait for ends from now on, in two threads."""
        threading.Thread(target=self.output.listen, name="fuyun-output", daemon=True).start()
        threading.Thread(target=self._reap, name="fuyun-reaper", daemon=True).start()

    def living(self) -> list[Program]:
        """Programs that have not ended."""
        with self._changed:
            return list(self._known.values())

    def kill_all(self) -> None:
        """SIGKILL to the process group of every program that lives."""
        with self._changed:
            for pid in self._known:
                try:
                    os.killpg(pid, signal.SIGKILL)
                except OSError:
                    pass

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, 0)
            except ChildProcessError:
                with self._changed:
                    self._changed.wait_for(lambda: bool(self._known))
                continue
            with self._changed:
                program = self._known.pop(pid, None)
            if program is not None:
                program.status = os.waitstatus_to_exitcode(status)
                program.ended.set()
                program.on_end(program)


def leave_descriptors() -> None:
    """Let nothing that is started from here on inherit a descriptor above 2 unless it is passed on purpose."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.set_inheritable(int(name), False)
            except OSError:  # the one that was listing
                pass


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def _why_not(path: str, error: OSError) -> str:
    """What stands between a file and its start, with the way out."""
    name = os.path.basename(path)
    if not os.path.exists(path):
        return f"there is no {name} in the code; it must be an executable file at the top of the code folder"
    if not os.access(path, os.X_OK):
        return f"{name} is not executable; run chmod +x {name} and deploy again"
    with open(path, "rb") as source:
        first = source.read(_SHEBANG).split(b"\n", 1)[0]
    if first.startswith(b"#!"):
        interpreter = first[2:].strip().decode("utf-8", "replace").split(" ")[0].rstrip("\r")
        ending = " (its first line ends in a carriage return)" if first.endswith(b"\r") else ""
        if ending or not os.path.exists(interpreter):
            return f"{name} names the interpreter {interpreter!r}, which the sandbox does not have{ending}"
    elif first.startswith(b"\x7fELF"):
        return f"{name} cannot be run: {error.strerror}; was it built for this machine, or does it miss its loader?"
    return f"{name} cannot be run: {error.strerror}; start it with a line such as #!/bin/sh"
