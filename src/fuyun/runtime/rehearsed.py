"""The functions that `rehearsal` plays."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def handler(event: Any, context: Any) -> Any:
    """A synchronous handler."""
    return {"event": event.get("version", event), "request": context.request_id}


async def asynchronous(event: Any, context: Any) -> Any:
    """An asynchronous handler."""
    return handler(event, context)


def application(environ: Any, start_response: Any) -> Any:
    """A WSGI application."""
    start_response("200 OK", [("content-type", "text/plain")])
    return [environ["wsgi.input"].read()]
