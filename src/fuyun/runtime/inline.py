"""One synchronous invocation at a time, on the thread that reads the connection. The quickest mode, and the default."""

from __future__ import annotations

from collections import deque
from time import monotonic_ns

from fuyun.runtime.calls import Call, current
from fuyun.runtime.channel import Channel, Splitter
from fuyun.runtime.desk import Desk
from fuyun.runtime.heads import Heads
from fuyun.runtime.hooks import answer_hook
from fuyun.runtime.problems import Hangup
from fuyun.runtime.streams import spool
from fuyun.runtime.wire import BODY, CANCEL, CREDIT, HEADER, HEADER_SIZE, HOOK, INVOKE, META, RECEIVE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from fuyun.runtime.channel import Frame
    from fuyun.runtime.loader import App


class InlineDesk(Desk):
    """While a handler waits, its own thread reads; frames for others wait in `later`."""

    def __init__(self, channel: Channel, app: App) -> None:
        super().__init__(channel, app)
        self.splitter = Splitter()
        self.later: deque[Frame] = deque()

    def wait(self, call: Call) -> None:
        if self._take_own(call):
            return
        self.later.extend(self.splitter.feed(self.channel.receive(self.splitter.wanted)))
        self._take_own(call)

    def _take_own(self, call: Call) -> bool:
        """Take the call's own frames out of `later`; whether there was one."""
        waiting = len(self.later)
        for _ in range(waiting):
            frame = self.later.popleft()
            kind, flags, stream, payload = frame
            if stream == call.stream and kind in (CREDIT, BODY, CANCEL):
                self.note(call, kind, flags, payload)
            else:
                self.later.append(frame)
        return len(self.later) < waiting


def serve(desk: InlineDesk, run: Callable[[Call], None]) -> None:
    """Answer until the platform hangs up (Hangup) or the author's code ends the process (Leave)."""
    app, channel = desk.app, desk.channel
    later, splitter = desk.later, desk.splitter
    receive = channel.receive
    unpack = HEADER.unpack_from
    log_bytes = int(app.task["log_bytes"])
    while True:
        if later:
            kind, flags, stream, payload = later.popleft()
        else:
            data = receive(RECEIVE)
            # The common case is one recv that holds exactly one frame.
            if not splitter.rest and len(data) >= HEADER_SIZE:
                length, kind, flags, _, stream = unpack(data)
                if length + HEADER_SIZE == len(data):
                    payload = data[HEADER_SIZE:]
                else:
                    later.extend(splitter.feed(data))
                    continue
            else:
                later.extend(splitter.feed(data))
                continue
        if kind == INVOKE:
            serve_one(run, stream, flags, payload, log_bytes)
        elif kind == HOOK:
            channel.send(answer_hook(app, stream, payload))
        elif kind not in (CREDIT, BODY, CANCEL):  # these three come late for a call that has ended
            raise Hangup


_read_head = Heads().read


def serve_one(run: Callable[[Call], None], stream: int, flags: int, payload: bytes, log_bytes: int) -> None:
    """One INVOKE."""
    started_ns = monotonic_ns()
    size = META.unpack_from(payload)[0] + 4
    head = _read_head(payload, size)
    call = Call(stream, head, payload[size:], bool(flags & 1), started_ns, log_bytes)
    idle = spool.idle
    idle.log_bytes, idle.log_cut = log_bytes, False
    current.only = call
    try:
        run(call)
    finally:
        current.only = None
