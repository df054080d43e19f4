"""The warm-up call of a version that becomes a template: one invocation, answered before the process is forked from.

What the handler loads and keeps meanwhile is in every instance. Handlers on an event loop are left out, since what they
keep may belong to that loop; an instance takes their call.
"""

from __future__ import annotations

from fuyun.runtime import inline, streams
from fuyun.runtime.channel import Channel, Splitter, release
from fuyun.runtime.problems import Hangup
from fuyun.runtime.wire import ERROR, FINISH, HEADER, HEADER_SIZE, INVOKE, RECEIVE, RESULT

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from fuyun.runtime.loader import App


class _Once(Channel):
    """A connection that counts as closed once one invocation is answered."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.answered = False

    def send(self, data: bytes) -> None:
        """Pass frames on, and look for the one that ends an answer."""
        super().send(data)
        start = 0
        while start < len(data):
            length, kind, _, _, _ = HEADER.unpack_from(data, start)
            self.answered = self.answered or kind in (RESULT, FINISH, ERROR)
            start += HEADER_SIZE + length

    def receive(self, size: int = RECEIVE) -> bytes:
        """More, until there was an answer."""
        if self.answered:
            raise Hangup
        return super().receive(size)


def answer_one(sock: socket.socket, app: App) -> None:
    """Take the invocation that the platform has sent behind the task, and answer it where that can be done here:
    `app.warmed`."""
    channel = _Once(sock)
    try:
        if app.style == "async" or app.initializer is not None:
            _pass_over(channel)
        else:
            streams.spool.bind(channel.send)
            app.warmed = True
            desk = inline.InlineDesk(channel, app)
            inline.serve(desk, app.runner(desk))
    except Hangup:
        pass
    finally:
        release()
        streams.spool.unbind()
        streams.spool.bind(sock.sendall)


def _pass_over(channel: Channel) -> None:
    splitter = Splitter()
    while True:
        for kind, _, _, _ in splitter.feed(channel.receive(splitter.wanted)):
            if kind == INVOKE:
                return
