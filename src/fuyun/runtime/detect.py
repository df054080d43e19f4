"""What the object a handler's name leads to is: an event handler, a WSGI or an ASGI application; synchronous or not."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional

_VARARGS, _GENERATOR, _COROUTINE, _ASYNC_GENERATOR = 0x04, 0x20, 0x80, 0x200
_CALL = "__call__"
#: Set by `fuyun.sdk.wsgi` and `fuyun.sdk.asgi`.
MARK = "__fuyun_mode__"


class Signature:
    """Positional parameters of a callable, without a bound first one. `names` is None when they cannot be known."""

    def __init__(self, target: Any) -> None:
        self.is_async = False
        self.names: Optional[tuple[str, ...]] = None
        self.variable = False
        code = self._find(target)
        if code is not None:
            function, bound = code
            names = function.__code__.co_varnames[: function.__code__.co_argcount]
            self.names = names[1:] if bound else names
            self.variable = bool(function.__code__.co_flags & _VARARGS)

    def _find(self, target: Any) -> Optional[tuple[Any, bool]]:
        """The function behind `target`, and whether its first parameter is bound. Looks through decorators that keep
        `__wrapped__` for `async def`, not for parameters: those are the outermost function's."""
        bound = False
        if not hasattr(target, "__code__") and not hasattr(target, "__func__"):
            if hasattr(target, "func") and hasattr(target, "keywords"):  # functools.partial
                self.is_async = _is_async(target.func)
                return None
            target, bound = getattr(type(target), _CALL, None), True
        if hasattr(target, "__func__"):
            target, bound = target.__func__, True
        self.is_async = _is_async(target)
        return (target, bound) if hasattr(target, "__code__") else None

    @property
    def opaque(self) -> bool:
        """Its parameters say nothing: `*args` only, as decorators write it."""
        return self.variable and not self.names

    def accepts(self, count: int) -> bool:
        """Whether it can be called with `count` positional arguments, as far as is known."""
        return self.names is None or self.variable or len(self.names) >= count


def _is_async(target: Any) -> bool:
    for _ in range(32):
        code = getattr(target, "__code__", None)
        if code is not None and code.co_flags & (_COROUTINE | _ASYNC_GENERATOR):
            return True
        target = getattr(target, "__wrapped__", None)
        if target is None:
            return False
    return False


def mode_of(target: Any, colon: bool) -> tuple[str, bool, Any]:
    """(mode, asynchronous, callable). `colon`: the handler was named `module:attribute`, which means an application
    where nothing else tells."""
    mark = getattr(target, MARK, None)
    if mark is not None:
        return mark, mark == "asgi", getattr(target, "app", target)
    signature = Signature(target)
    names = signature.names or ()
    if signature.is_async:
        asgi = names[:3] == ("scope", "receive", "send") or (colon and (len(names) == 3 or signature.opaque))
        return ("asgi" if asgi else "event"), True, target
    if names[:3] == ("scope", "receive", "send"):
        return "asgi", True, target
    if hasattr(target, "wsgi_app") or names[1:2] == ("start_response",):
        return "wsgi", False, target
    if colon and (signature.opaque or (len(names) == 2 and not hasattr(target, "__code__"))):
        return "wsgi", False, target
    return "event", False, target


def with_event_and_context(target: Any) -> Callable[[Any, Any], Any]:
    """`target` as a function of (event, context); a handler of one parameter gets the event only. TypeError says how to
    write it when it takes none."""
    signature = Signature(target)
    if signature.accepts(2):
        return target  # type: ignore[no-any-return]
    if signature.accepts(1):
        return lambda event, context: target(event)
    raise TypeError("takes no arguments; write it as handler(event, context)")


def with_context(target: Any, context: Any) -> Callable[[], Any]:
    """A hook as a function of nothing; one that has a parameter gets `context`."""
    signature = Signature(target)
    if signature.names:
        return lambda: target(context)
    return target  # type: ignore[no-any-return]
