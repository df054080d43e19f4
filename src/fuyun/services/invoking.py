"""The invoke path: resolve, admit, take an instance or wait, write one frame, stream the answer, account."""

from __future__ import annotations

from typing import Protocol

from fuyun.domain.errors import FuyunError
from fuyun.services.requests import Request
from fuyun.services.routes import Route


class Responder(Protocol):
    """The caller's side of an invocation. Called on the loop: `on_result` once; or `on_head`, `on_body`*, `on_end`; or
    `on_fail` once, instead of or in the middle of these. Never called after `Flight.cancel`."""

    def on_result(self, status: int, headers: list[tuple[str, str]] | None, body: bytes) -> None:
        """The whole answer; headers None means one `content-type: application/json`."""
        ...

    def on_head(self, status: int, headers: list[tuple[str, str]]) -> None: ...

    def on_body(self, chunk: bytes) -> None: ...

    def on_end(self) -> None: ...

    def on_fail(self, error: FuyunError) -> None: ...

    def on_credit(self, size_bytes: int) -> None:
        """That much more of the request body may be passed to `Flight.send_body`."""
        ...


class Flight(Protocol):
    """An invocation under way."""

    id: str

    @property
    def timing(self) -> str:
        """Value of the Server-Timing header so far: `queue;dur=0.01, start;dur=1.90, init;dur=2.10, run;dur=0.05`."""
        ...

    @property
    def start_kind(self) -> str:
        """warm, blank, template, zygote or none."""
        ...

    @property
    def version(self) -> str:
        """Qualifier of the version that serves it."""
        ...

    def send_body(self, chunk: bytes, end: bool) -> None:
        """More of the request body; stay within the window of `runtime.wire.WINDOW` plus what `on_credit` returned."""
        ...

    def consumed(self, size_bytes: int) -> None:
        """The client took this much of `on_body`."""
        ...

    def cancel(self) -> None:
        """The client is gone."""
        ...

    def sent(self, http_status: int, response_bytes: int) -> None:
        """The answer has been handed to the network: the record is complete. Call exactly once unless cancelled."""
        ...


class Invoker(Protocol):
    """Runs functions. `match` and `resolve` are look-ups in memory; nothing here waits."""

    def match(self, path: str) -> Route:
        """The route of a gateway path (percent-encoded, no query): `/fn/NAMESPACE/FUNCTION[:QUALIFIER][/...]` or a
        trigger's path. NotFound when there is none."""
        ...

    def resolve(self, namespace: str, function: str, qualifier: str) -> Route:
        """The route of a name. NotFound."""
        ...

    def begin(
        self,
        route: Route,
        request: Request,
        body: bytes,
        end: bool,
        responder: Responder,
    ) -> Flight:
        """Start an invocation. Errors, also immediate ones (Throttled, Unavailable), arrive at `responder.on_fail`,
        never before `begin` returned."""
        ...
