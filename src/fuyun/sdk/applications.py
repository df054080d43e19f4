"""Says what an application is where its shape does not."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Application:
    """A marked application; calling it calls the application."""

    def __init__(self, mode: str, app: Any) -> None:
        self.__fuyun_mode__ = mode
        self.app = app

    def __call__(self, *given: Any) -> Any:
        return self.app(*given)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.app, name)


def wsgi(app: Any) -> Any:
    """Mark `app` as a WSGI application (PEP 3333), whatever its parameters are called. Also a decorator."""
    return Application("wsgi", app)


def asgi(app: Any) -> Any:
    """Mark `app` as an ASGI 3 application, whatever its parameters are called. Also a decorator."""
    return Application("asgi", app)
