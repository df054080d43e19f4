"""A control API on a real socket that answers what a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit


@dataclass
class Asked:
    """A request as it arrived. Header names are lower-case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Reply:
    """What to answer; `body` is sent as JSON unless it is bytes."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


Answering = Reply | Callable[[Asked], Reply]


class ApiServer:
    """Routes are (method, path below /v1, decoded); anything else is a not_found problem."""

    def __init__(self) -> None:
        self.routes: dict[tuple[str, str], Answering] = {}
        self.asked: list[Asked] = []
        self.url = ""

    def on(self, method: str, path: str, answer: Answering | Any) -> None:
        """Answer `method path` with a Reply, a function of the request, or a JSON value."""
        self.routes[method, path] = answer if isinstance(answer, Reply) or callable(answer) else Reply(answer)

    def requests(self, method: str, path: str) -> list[Asked]:
        """What was asked of one route."""
        return [asked for asked in self.asked if (asked.method, asked.path) == (method, path)]

    def answer(self, asked: Asked) -> Reply:
        self.asked.append(asked)
        route = self.routes.get((asked.method, asked.path))
        if route is None:
            return problem("not_found", f"there is no {asked.method} {asked.path}", 404)
        return route if isinstance(route, Reply) else route(asked)


def problem(code: str, detail: str, status: int, **fields: Any) -> Reply:
    """A problem document."""
    body = {"type": f"urn:fuyun:error:{code}", "status": status, "code": code, "detail": detail, "hint": ""}
    body |= {"request_id": "r1", **fields}
    return Reply(body, status, {"content-type": "application/problem+json"})


def lines(*items: Any) -> Reply:
    """An NDJSON answer."""
    return Reply(
        b"".join(json.dumps(item).encode() + b"\n" for item in items), 200, {"content-type": "application/x-ndjson"}
    )


@contextmanager
def serving() -> Iterator[ApiServer]:
    """A server on a free port of the loopback."""
    api = ApiServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            path = unquote(url.path).removeprefix("/v1")
            reply = api.answer(Asked(self.command, path, dict(parse_qsl(url.query)), headers, body))
            sent = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            if reply.status == 204:
                sent = b""
            self.send_response(reply.status)
            self.send_header("content-length", str(len(sent)))
            for name, value in ({"content-type": "application/json"} | reply.headers).items():
                self.send_header(name, value)
            try:
                self.end_headers()
                self.wfile.write(sent)
            except ConnectionError:  # the test's client has left
                self.close_connection = True

        do_GET = do_PUT = do_POST = do_DELETE = _any  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    api.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
