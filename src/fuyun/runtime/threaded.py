"""Several synchronous invocations at once: leader and followers.

One thread, the leader, reads the connection. When an INVOKE arrives it hands the lead on and answers the call itself,
so that a request never waits for another thread to wake. Threads are made when a request finds none resting, and kept;
there is always one more than invocations run, because answers that stream need someone to read their CREDIT.
"""

from __future__ import annotations

import os
import sys
import threading
from _queue import SimpleQueue
from collections import deque
from time import monotonic_ns

from fuyun.runtime.calls import Call, current
from fuyun.runtime.channel import Channel, Splitter
from fuyun.runtime.desk import Desk, Leave
from fuyun.runtime.hooks import answer_hook
from fuyun.runtime.jsontext import scan
from fuyun.runtime.problems import Hangup, LoadProblem
from fuyun.runtime.streams import spool
from fuyun.runtime.wire import BODY, CANCEL, CREDIT, HOOK, INVOKE, META

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Union

    from fuyun.runtime.channel import Frame
    from fuyun.runtime.loader import App


class ThreadedDesk(Desk):
    """A waiting handler sleeps on its call's queue; the leader wakes it."""

    def __init__(self, channel: Channel, app: App) -> None:
        super().__init__(channel, app)
        self.calls: dict[int, Call] = {}
        self._splitter = Splitter()
        self._frames: deque[Frame] = deque()
        self._lead = threading.Lock()
        self._state = threading.Lock()  # guards the next three
        self._resting = 0
        self._count = 1  # the main thread
        self._held: deque[Union[Call, Frame]] = deque()  # read, and waiting for a thread
        self._most = int(app.task["concurrency"]) + 1
        self._log_bytes = int(app.task["log_bytes"])
        self._run = app.runner(self)
        self._local = threading.local()

    def start(self) -> None:
        """Start the second thread, without which nobody could lead while the first works. LoadProblem."""
        with self._state:
            if not self._start_thread():
                raise LoadProblem("function_init_failed", "no second thread can be started; raise pids")

    def serve(self) -> None:
        """Work as one of the threads until the end."""
        while True:
            task = self._take()
            if isinstance(task, Call):
                self._answer(task)
            else:
                self.channel.send(answer_hook(self.app, task[2], task[3]))

    def wait(self, call: Call) -> None:
        call.waiter.get()

    def _own_loop(self) -> Any:
        loop = getattr(self._local, "loop", None)
        if loop is None:
            import asyncio

            loop = self._local.loop = asyncio.new_event_loop()
        return loop

    def _take(self) -> Union[Call, Frame]:
        """Something to do: what is held, or, once this thread leads, what comes next."""
        with self._state:
            if self._held:
                return self._held.popleft()
            self._resting += 1
        with self._lead:
            with self._state:
                self._resting -= 1
            while True:
                task = self._next_task()
                with self._state:
                    if self._resting or self._start_thread():
                        return task
                    # Nobody could lead after this thread, so it leads on; the next one to finish takes the task.
                    self._held.append(task)

    def _start_thread(self) -> bool:
        if self._count == self._most:
            return False
        try:
            threading.Thread(target=self._follow, name=f"fuyun-{self._count}", daemon=True).start()
        except RuntimeError:  # the instance's limit of processes and threads is reached
            return False
        self._count += 1
        return True

    def _follow(self) -> None:
        try:
            self.serve()
        except Leave as leave:
            os._exit(leave.code)
        except Hangup:
            os._exit(0)
        except BaseException:  # a defect of the runtime: an instance with a thread less would hang sooner or later
            import traceback

            traceback.print_exc(file=sys.__stderr__)
            os._exit(70)

    def _next_task(self) -> Union[Call, Frame]:
        """Read until there is a call or a HOOK to answer; frames for running calls are handed over on the way."""
        while True:
            while self._frames:
                frame = self._frames.popleft()
                kind, flags, stream, payload = frame
                if kind == INVOKE:
                    return self._admit(stream, flags, payload)
                if kind == HOOK:
                    return frame
                if kind not in (CREDIT, BODY, CANCEL):
                    raise Hangup
                call = self.calls.get(stream)
                if call is not None:
                    self.note(call, kind, flags, payload)
                    call.waiter.put(None)
            self._frames.extend(self._splitter.feed(self.channel.receive(self._splitter.wanted)))

    def _admit(self, stream: int, flags: int, payload: bytes) -> Call:
        started_ns = monotonic_ns()
        size = META.unpack_from(payload)[0] + 4
        head = scan(str(payload[4:size], "utf-8"), 0)[0]
        call = Call(stream, head, payload[size:], bool(flags & 1), started_ns, self._log_bytes)
        call.waiter = SimpleQueue()
        self.calls[stream] = call
        spool.idle.log_bytes, spool.idle.log_cut = self._log_bytes, False
        return call

    def _answer(self, call: Call) -> None:
        current.var.set(call)
        try:
            self._run(call)
        finally:
            current.var.set(None)
            self.calls.pop(call.stream, None)
