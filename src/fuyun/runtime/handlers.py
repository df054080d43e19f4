"""Runs a synchronous `handler(event, context)` at a desk."""

from __future__ import annotations

from fuyun.runtime.answers import Streamed, shape
from fuyun.runtime.context import Context
from fuyun.runtime.events import http_event, payload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from fuyun.runtime.calls import Call
    from fuyun.runtime.desk import Desk


def event_runner(desk: Desk) -> Callable[[Call], None]:
    """A function that answers one call. It raises only Hangup and Leave."""
    app, result_of, task = desk.app, desk.result, desk.app.task
    handler = app.call
    limit = int(task["output_bytes"])

    def run(call: Call) -> None:
        try:
            if not call.ended or call.parts:  # another thread may have read the rest already
                desk.collect(call)
            head = call.head
            http = head["kind"] == "http"
            event = http_event(head, call.body, task) if http else payload(call.body)
            call.context = context = Context(head, task)
            result = handler(event, context)
            if hasattr(result, "__await__"):
                result = desk.complete(result)
            answer = shape(result, http, limit)
            if type(answer) is tuple:
                result_of(call, answer)
            else:
                assert isinstance(answer, Streamed)
                desk.stream(call, answer, http)
        except BaseException as exc:
            desk.fail(call, exc)

    return run
