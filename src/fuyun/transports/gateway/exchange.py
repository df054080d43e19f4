"""One request and its answer: admitted when it is its turn, run as one flight, answered once.

A request with a small body (or none) is handed over whole; a larger one starts its flight when `buffer_bytes` are here
and streams the rest within the window of `runtime.wire`. The answer is written as it comes; a streamed one is
acknowledged to the flight only as the client takes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from fuyun.domain.errors import BadRequest, FuyunError, Internal, MethodNotAllowed, PayloadTooLarge, Unsupported
from fuyun.runtime.wire import WINDOW
from fuyun.services.requests import Request
from fuyun.transports.gateway.answers import CONTINUE, STATUS_LINES
from fuyun.transports.gateway.cors import answer_lines, is_preflight, preflight_lines
from fuyun.transports.gateway.intake import (
    METHODS,
    RARE,
    check_framing,
    check_repeats,
    drop_keys,
    split_target,
    wants_continue,
    without_hops,
)
from fuyun.transports.gateway.reply import COPY_BYTES, Reply, log

if TYPE_CHECKING:
    from fuyun.transports.gateway.reader import Reader


@final
class Exchange(Reply):
    """The connection calls `open` when it is this request's turn, `take` with pieces of its body and `proceed` once it
    is complete and its turn."""

    __slots__ = (
        "_below",
        "_chunks",
        "_credit",
        "_expected",
        "_fatal",
        "_headers",
        "_limit",
        "_local",
        "_query",
        "_rare",
        "_raw",
        "_request",
        "_size",
        "_streamed",
        "_target",
        "error",
        "length",
        "opened",
        "upgrade",
    )

    def __init__(
        self,
        connection: Reader,
        method: str,
        target: bytes,
        headers: list[tuple[str, str]],
        fields: dict[str, str],
        keep: bool,
        http10: bool,
    ) -> None:
        self.connection = connection
        self._method = method
        self._target = target
        self._headers = headers
        self._fields = fields
        self.keep = keep
        self._http10 = http10
        self.complete = False
        self.opened = False
        self.done = False
        self.error: FuyunError | None = None
        self.length = 0
        self.upgrade = False
        self._route = None
        self._flight = None
        self._early = None
        self._extra = ""
        self._local = False
        self._fatal = False
        self._size = 0
        self._started = False
        self._streamed = False
        self._chunks: list[bytes] | None = None
        self._rare = False
        self._request: Request | None = None

    def again(self) -> Exchange | None:
        """A new exchange for the same head, come again; None when this one was answered without asking a function."""
        request = self._request
        if request is None:
            return None
        repeated = Exchange(self.connection, self._method, self._target, self._headers, self._fields, True, False)
        repeated._request = request
        return repeated

    def look(self) -> FuyunError | None:
        """Read the fields the gateway itself obeys; what makes the connection unusable, or None."""
        fields = self._fields
        self._raw = 0
        self._expected = False
        self._rare = not RARE.isdisjoint(fields)
        if self._rare:
            try:
                self.length = check_framing(fields, self._http10)
                self._expected = wants_continue(fields, self._http10)
            except FuyunError as error:
                return error
        return None

    @property
    def full(self) -> bool:
        """True when it holds as much of the body as it may: the connection stops reading."""
        if self.done or self.error is not None or self._chunks is None:
            return False
        if self._streamed:
            return bool(self._chunks)
        return not self.opened and self._size > self.connection.shared.limits.buffer_bytes

    @property
    def missing(self) -> int:
        """Bytes of a declared body that are still to come."""
        return self.length - self._size

    def is_padded(self, size_bytes: int) -> bool:
        """Count `size_bytes` of a chunked body as they came; True when extensions and trailers outgrow the content."""
        self._raw += size_bytes
        return self._raw > self.connection.shared.limits.head_bytes + 16 * self._size

    def refuse_fatally(self, error: FuyunError) -> None:
        """Answer with `error` in its turn and end the connection: what follows on it cannot be trusted."""
        if self.error is None:
            self.error = error
        self._fatal = True
        self.keep = False

    def open(self) -> None:
        """Its turn has come: find the route, check what the head alone can tell, ask for the body if it is wanted."""
        self.opened = True
        self.connection.shared.stats.requests += 1
        if self.error is None:
            try:
                self._admit()
            except FuyunError as error:
                self.error = error
            except Exception as error:
                self.error = self._bug("admitting a request", error)
        if self.error is not None:
            # A short body is read to its end, so that the connection can go on; a long or withheld one is not.
            if self._fatal or self._is_long or (self._rare and self._expected):
                self.keep = False
                self._refuse(self.error)
        elif self._rare and self._expected and self.length and not self._size and not self.complete:
            self.connection.write(CONTINUE)

    def run(self) -> None:
        """The short way of a request that is complete with its head: `look`, `open` and `proceed` in one."""
        self.complete = self.opened = True
        self.connection.shared.stats.requests += 1
        try:
            self._admit()
        except FuyunError as error:
            self._refuse(error)
        except Exception as error:
            self._refuse(self._bug("admitting a request", error))
        else:
            if self._local:
                self._answer_locally()
            else:
                self._begin(b"", True)

    @property
    def _is_long(self) -> bool:
        """True when the body is, or has become, one that is streamed."""
        return max(self.length, self._size) > self.connection.shared.limits.buffer_bytes

    def _admit(self) -> None:
        fields, connection = self._fields, self.connection
        if self._request is None and len(fields) != len(self._headers):
            check_repeats(self._headers)
        if not self._http10 and "host" not in fields:
            raise BadRequest("the request has no Host header", hint="send Host, or use HTTP/1.0")
        if self._target == b"*" and self._method == "OPTIONS":
            self._local, self._extra = True, f"Allow: {', '.join(sorted(METHODS.values()))}\r\n"
            return
        path, self._query, authority = split_target(self._target)
        if authority:
            self._headers = [("host", authority), *(field for field in self._headers if field[0] != "host")]
        route = self._route = connection.shared.invoker.match(path)
        if route.cors is not None:
            if is_preflight(self._method, fields):
                self._local, self._extra = True, preflight_lines(route, route.cors, fields)
                return
            self._extra = answer_lines(route.cors, fields.get("origin"))
        methods = route.methods
        if methods and self._method not in methods and not (self._method == "HEAD" and "GET" in methods):
            allowed = methods | ({"HEAD"} if "GET" in methods else set()) | ({"OPTIONS"} if route.cors else set())
            raise MethodNotAllowed(
                f"{path} does not take {self._method}", hint="use one of the allowed methods", allowed=sorted(allowed)
            )
        if route.auth == "key":
            connection.shared.authorise(route.namespace, route.function, fields)
        if self.upgrade and not route.takes_websockets:
            raise Unsupported(
                "this function takes requests, not WebSocket connections",
                hint="use the runtime `web`, or ask without Upgrade; streamed answers and server-sent events work",
            )
        self._limit = route.payload_bytes
        if self.length > self._limit:
            raise self._too_large()
        self._below = path[len(route.base) :] or "/"

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(
            f"the request body is over {self._limit} bytes",
            hint="send less, or raise the function's payload limit",
            limit_bytes=self._limit,
        )

    def take(self, chunk: bytes) -> None:
        """A piece of the request body."""
        self._size += len(chunk)
        if self.done or self._local:
            return
        if self.error is not None:
            if self.opened and self._is_long:
                self.keep = False
                self._refuse(self.error)
            return
        if self.opened and self._size > self._limit:
            self.break_off(self._too_large())
            return
        if self._chunks is None:
            self._chunks = [chunk]
        else:
            self._chunks.append(chunk)
        if self._streamed:
            self._pump()
        elif self.opened and self._size > self.connection.shared.limits.buffer_bytes:
            self._stream()

    def catch_up(self) -> None:
        """Its turn came while its body was arriving."""
        if self.done or self.error is not None or self._local:
            return
        if self._size > self._limit:
            self.break_off(self._too_large())
        elif self._size > self.connection.shared.limits.buffer_bytes:
            self._stream()

    def _stream(self) -> None:
        """Start the flight with the part of the body that is here."""
        body = b"".join(self._chunks or ())
        self._chunks = []
        self._streamed = True
        self._credit = WINDOW
        self._begin(body, False)

    def _pump(self) -> None:
        """Pass on what the window allows, and the end once everything is passed."""
        flight, chunks = self._flight, self._chunks
        if flight is None or chunks is None:
            return
        while chunks and len(chunks[0]) <= self._credit:
            chunk = chunks.pop(0)
            self._credit -= len(chunk)
            flight.send_body(chunk, False)
        if self.complete and not chunks and self._chunks is not None:
            self._chunks = None
            flight.send_body(b"", True)

    def proceed(self) -> None:
        """The request is complete and it is its turn."""
        if self.done:
            return
        if self.error is not None:
            self._refuse(self.error)
        elif self._local:
            self._answer_locally()
        elif self.upgrade:
            self._open_tunnel()
        elif self._streamed:
            self._pump()
        elif self._chunks is None:
            self._begin(b"", True)
        else:
            chunks = self._chunks
            self._chunks = None
            self._begin(chunks[0] if len(chunks) == 1 else b"".join(chunks), True)

    def _open_tunnel(self) -> None:
        """Ask the function for a WebSocket: a request whose body is all that the client sends from now on."""
        self.complete = False
        self._chunks = self._chunks or []
        self._streamed = True
        self._credit = WINDOW
        self._begin(b"", False)
        self._pump_tunnel()

    def feed(self, data: bytes, end: bool = False) -> None:
        """Bytes of the client behind its request for a WebSocket; `end`: there will be no more."""
        if self._chunks is None:
            if self._streamed:
                return
            self._chunks = []
        if not self.done:
            self._size += len(data)
            self._chunks += [data[at : at + COPY_BYTES] for at in range(0, len(data), COPY_BYTES)]
            self.complete = self.complete or (end and self._streamed)
            self._pump_tunnel()

    def _pump_tunnel(self) -> None:
        if self._streamed:
            self._pump()
        self.connection.throttle(bool(self._chunks))

    @property
    def moved(self) -> int:
        """Bytes of a WebSocket that have passed, both ways."""
        return self._size + (self._sent if self._started else 0)

    def _begin(self, body: bytes, end: bool) -> None:
        route, request, shared = self._route, self._request, self.connection.shared
        assert route is not None
        if request is None or request.path != self._below:
            headers = self._headers
            if request is None:
                fields = self._fields
                if ("authorization" in fields or "fuyun-key" in fields) and not route.webhook:
                    drop_keys(headers, fields)
                headers = without_hops(headers, fields) if self._rare else headers
                if self.upgrade:
                    headers.append(("upgrade", "websocket"))
            request = Request("http", self._method, self._below, self._query, headers, self.connection.source, "http")
            self._request = request
        try:
            special = self._rare or route.webhook != ""
            invoker = shared.invoker_for(route, self._fields, self.upgrade) if special else shared.invoker
            # By position: a keyword costs compiled code a comparison for each.
            self._flight = invoker.begin(route, request, body, end, self)
        except FuyunError as error:
            self._refuse(error)
        except Exception as error:
            self._refuse(self._bug("starting an invocation", error))
        else:
            if self._early is not None:
                self.on_result(*self._early)

    def on_credit(self, size_bytes: int) -> None:
        """The function took this much of the request body."""
        if self._streamed and not self.done:
            self._credit += size_bytes
            if self.upgrade:
                self._pump_tunnel()
            elif self._chunks:
                self._pump()
                if not self._chunks:
                    self.connection.unhold()

    def _refuse(self, error: FuyunError) -> None:
        """Answer with an error of the gateway's own; the flight, if there is one, has been cancelled."""
        self._flight = None
        self.connection.shared.stats.refused += 1
        self._answer_problem(error)
        self.error = None  # its traceback holds frames that hold this object

    def _answer_locally(self) -> None:
        self._write_whole(204, STATUS_LINES[204], "", b"")

    def break_off(self, error: FuyunError) -> None:
        """The request will never be complete, or may not be: answer with `error` and end the connection."""
        if self.done:
            return
        self.refuse_fatally(error)
        if self._flight is not None:
            self._flight.cancel()
        if self._started:
            self._cut()
        elif self.opened:
            self._refuse(error)

    def lost(self) -> None:
        """The client is gone: end the flight."""
        if not self.done:
            self.done = True
            flight, self._flight = self._flight, None
            if flight is not None:
                flight.cancel()

    def _bug(self, doing: str, error: Exception) -> Internal:
        log.error("%s %s failed", doing, self._target[:200], exc_info=error)
        return Internal("the gateway failed", hint="the platform's log has the reason; report it")
