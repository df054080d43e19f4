"""The invocation that runs now."""

from __future__ import annotations

from fuyun.runtime.calls import current

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fuyun.runtime.context import Context


def current_context() -> Context:
    """The context of the invocation this code runs in, for code that no `context` argument reaches, such as WSGI and
    ASGI applications. LookupError outside an invocation."""
    call = current.find()
    if call is None or call.context is None:
        raise LookupError("no invocation is running here; current_context() works inside a handler or an application")
    return call.context
