"""The process 1 of an instance whose user code is a program: starts it, forwards what it prints, tells how it ended.

A runtime derives from `Keeper`: it starts its programs in `begin`, says `ready`, gets calls in `take` and answers each,
after `hand_over`, with `result`, or `head`, `write` and `finish`, or `refuse`. Frames are those of `wire`; the main
thread reads them.
"""

from __future__ import annotations

import os
import signal
import threading
from _queue import SimpleQueue
from abc import abstractmethod
from time import monotonic_ns

from fuyun.runtime import streams
from fuyun.runtime.answers import error_frame
from fuyun.runtime.calls import Call, current
from fuyun.runtime.channel import Channel, Splitter
from fuyun.runtime.desk import Desk
from fuyun.runtime.hooks import answer_hook
from fuyun.runtime.jsontext import dumps, scan
from fuyun.runtime.loader import App
from fuyun.runtime.problems import Hangup, LoadProblem
from fuyun.runtime.program import Household, Program, leave_descriptors
from fuyun.runtime.spent import Spent
from fuyun.runtime.streams import spool
from fuyun.runtime.syscalls import PR_SET_DUMPABLE, prctl
from fuyun.runtime.wire import BODY, CANCEL, CREDIT, FAILED, HEADER, HOOK, INVOKE, META, READY

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any

    from fuyun.runtime.answers import Answer
    from fuyun.runtime.channel import Frame

#: Exit status after a failed start: EX_SOFTWARE of sysexits.h.
START_FAILED = 70


class Keeper(Desk):
    """One per instance. `calls` are inside, `running` those that the program has."""

    def __init__(self, sock: socket.socket, task: dict[str, Any]) -> None:
        self._sock = sock
        self.task = task
        app = App(task, None, "event", False)
        app.reason = f"a program ({task['runtime']}) is not forked"
        app.hooks["pre_stop"] = self.stop
        super().__init__(Channel(sock), app)
        streams.install(task["function"], int(task["log_bytes"]), self.send)
        self.isolated = os.getpid() == 1
        self.household = Household()
        self.meter: Spent = Spent(self.household, self.isolated)
        self.calls: dict[int, Call] = {}
        self.running: dict[int, Call] = {}
        self.is_ready = False
        self.stopping = False
        self._state = threading.Lock()
        self._began_ns = monotonic_ns()

    # for a runtime to fill in ----------------------------------------------------------------------------------------

    @abstractmethod
    def begin(self) -> None:
        """Start what is to be started; `ready` may be called later, from any thread. LoadProblem."""

    @abstractmethod
    def take(self, call: Call) -> None:
        """An invocation arrived. Must not block: it runs on the thread that reads."""

    def dropped(self, call: Call) -> None:
        """Its caller is gone; an answer is still due."""

    def stop(self) -> None:
        """The hook `pre_stop`: ask all programs to end and wait until they have. The hook's limit cuts it off."""
        self.stopping = True
        for program in self.household.living():
            program.signal(signal.SIGTERM)
        for program in self.household.living():
            program.ended.wait()

    # for a runtime to use --------------------------------------------------------------------------------------------

    def launch(self, argv: list[str], env: dict[str, str]) -> Program:
        """Start the program whose end is the instance's. LoadProblem."""
        return self.household.start(argv, env, self.lost)

    def ready(self) -> None:
        """The program is ready to be called: READY, once."""
        with self._state:
            if self.is_ready:
                return
            self.is_ready = True
        self.app.init_ms = (monotonic_ns() - self._began_ns) / 1e6
        payload = dumps(self.app.ready())
        self.send(HEADER.pack(len(payload), READY, 0, 0, 0) + payload)

    def fail_start(self, problem: LoadProblem) -> None:
        """FAILED, with the last lines of output where the problem has none of its own; the instance ends."""
        self.household.output.drain()
        problem.traceback = problem.traceback or self.household.output.tail()
        payload = dumps(problem.problem(), "problem")
        try:
            self.send(streams.frames_for_failure() + HEADER.pack(len(payload), FAILED, 0, 0, 0) + payload)
        except Hangup:
            pass
        self.leave(START_FAILED)

    def hand_over(self, call: Call) -> None:
        """The program gets the call now: its time begins, and what is printed is its."""
        with self._state:
            call.started_ns = monotonic_ns()
            self.running[call.stream] = call
            self._attribute()
        idle = spool.idle
        idle.log_bytes, idle.log_cut = int(self.task["log_bytes"]), False

    def result(self, call: Call, answer: Answer) -> None:
        """A whole answer; what was printed until now leaves before it."""
        self.household.output.drain()
        super().result(call, answer)
        self._forget(call)

    def finish(self, call: Call) -> None:
        """A streamed answer is complete."""
        self.household.output.drain()
        super().finish(call)
        self._forget(call)

    def refuse(self, call: Call, problem: dict[str, Any]) -> None:
        """Answer with a Problem, also in the middle of a streamed answer."""
        self.household.output.drain()
        spool.finish(call)
        self.send(error_frame(call.stream, self.meter.usage(call.started_ns), problem))
        self._forget(call)

    def _forget(self, call: Call) -> None:
        with self._state:
            self.calls.pop(call.stream, None)
            self.running.pop(call.stream, None)
            self._attribute()

    def _attribute(self) -> None:
        current.only = next(iter(self.running.values())) if len(self.running) == 1 else None

    # the end ---------------------------------------------------------------------------------------------------------

    def lost(self, program: Program) -> None:
        """The program ended. The platform learns from our exit status how: 128 and the signal, as a shell would say.
        Only it can tell whether SIGKILL was for memory."""
        if self.stopping:
            return
        if not self.is_ready and program.status != -signal.SIGKILL:
            self.fail_start(LoadProblem("function_init_failed", f"{program.name} {program.end()} before it was ready"))
        self.household.output.drain()
        for call in list(self.running.values()):
            spool.finish(call)
        self.leave(program.status if program.status >= 0 else 128 - program.status)

    def note_failure(self, text: str) -> None:
        """A line of the log for what goes wrong beside the program."""
        spool.record("error", text)

    def leave(self, status: int) -> None:
        """End this process, and with it the instance."""
        self.household.kill_all()
        os._exit(status)

    # reading ---------------------------------------------------------------------------------------------------------

    def wait(self, call: Call) -> None:
        call.waiter.get()

    def serve(self) -> None:
        """Read frames until the platform hangs up: Hangup."""
        splitter = Splitter()
        while True:
            for frame in splitter.feed(self.channel.receive(splitter.wanted)):
                self._on_frame(frame)

    def _on_frame(self, frame: Frame) -> None:
        kind, flags, stream, payload = frame
        if kind == INVOKE:
            self._admit(stream, flags, payload)
        elif kind == HOOK:
            self.send(answer_hook(self.app, stream, payload))
        elif kind in (CREDIT, BODY, CANCEL):
            call = self.calls.get(stream)
            if call is not None:
                self.note(call, kind, flags, payload)
                call.waiter.put(None)
                if kind == CANCEL:
                    self.dropped(call)
        else:
            raise Hangup

    def _admit(self, stream: int, flags: int, payload: bytes) -> None:
        size = META.unpack_from(payload)[0] + 4
        head = scan(str(payload[4:size], "utf-8"), 0)[0]
        call = Call(stream, head, payload[size:], bool(flags & 1), monotonic_ns(), int(self.task["log_bytes"]))
        call.waiter = SimpleQueue()
        self.calls[stream] = call
        self.take(call)


def keep(keeper: Keeper) -> int:
    """Begin and serve until the end; the exit status. The process must end with it."""
    leave_descriptors()
    if keeper.isolated:
        prctl(PR_SET_DUMPABLE, 0)  # the program runs as the same user: it may not write to us (ptrace(2))
    try:
        try:
            os.chdir(keeper.task["code"])
            keeper.begin()
        except LoadProblem as problem:
            keeper.fail_start(problem)
        keeper.serve()
    except Hangup:
        keeper.household.kill_all()
    return 0
