"""`fuyun.sdk.call` against a real HTTP server that answers what the test says."""

from __future__ import annotations

import base64
import http.server
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fuyun.runtime.calls import Call, current
from fuyun.runtime.context import Context
from fuyun.sdk import CallError, CallFailed, CallRefused, CallUnavailable, LoopDetected, call, credential


def token(left_s: float, mark: str = "") -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": time.time() + left_s, "mark": mark}).encode()).decode()
    return f"fc_{claims.rstrip('=')}.tag"


class Platform(http.server.ThreadingHTTPServer):
    """Keeps what it is asked, answers with `answer`."""

    daemon_threads = False  # closing waits for those that answer a client that is gone

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str, bytes]] = []
        self.answer: tuple[int, str, bytes] = (200, "application/json", b"null")
        self.hold = threading.Event()
        self.hold.set()


class Handler(http.server.BaseHTTPRequestHandler):
    server: Platform

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, self.headers["Authorization"], body))
        self.server.hold.wait(20)
        status, media, data = self.server.answer
        if self.path == "/credential":
            status, media, data = 200, "application/json", json.dumps({"credential": token(300, "new")}).encode()
        self.send_response(status)
        for name, value in (("Content-Type", media), ("Content-Length", len(data)), ("Fuyun-Request-Id", "inner")):
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *given: object) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    with Platform() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        monkeypatch.setenv("FUYUN_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
        try:
            yield server
        finally:
            server.hold.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def invocation() -> Iterator[dict[str, Any]]:
    """The head of the invocation that runs; a test may change it."""
    head: dict[str, Any] = {"id": "outer", "credential": token(300)}
    running = Call(1, head, b"", True, 0, 0)
    running.context = Context(head, {"namespace": "team", "timeout_s": 30})
    current.only = running
    yield head
    current.only = None


def test_a_call_is_a_post_of_json_with_the_invocation_s_credential(
    platform: Platform, invocation: dict[str, Any]
) -> None:
    platform.answer = (200, "application/json", b'{"a": [1]}')
    assert call("other:live", {"x": "é"}) == {"a": [1]}
    assert call("o/t?h r") == {"a": [1]}
    bearer = f"Bearer {invocation['credential']}"
    assert platform.asked == [
        ("/invoke/team/other:live", bearer, b'{"x": "\\u00e9"}'),
        ("/invoke/team/o%2Ft%3Fh%20r", bearer, b"{}"),
    ]
    platform.answer = (200, "application/octet-stream", b"\0\1")
    assert call("other") == b"\0\1"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "unauthenticated", CallRefused), (403, "forbidden", CallRefused), (404, "not_found", CallRefused),
        (413, "payload_too_large", CallRefused), (429, "throttled", CallUnavailable),
        (503, "unavailable", CallUnavailable), (508, "loop_detected", LoopDetected),
        (502, "function_raised", CallFailed), (504, "function_timed_out", CallFailed),
    ],
)  # fmt: skip
def test_every_problem_has_its_error(
    platform: Platform, invocation: dict[str, Any], status: int, code: str, kind: type[CallError]
) -> None:
    problem = {"code": code, "detail": "what happened", "hint": "what to do"}
    platform.answer = (status, "application/problem+json", json.dumps(problem).encode())
    with pytest.raises(CallError) as caught:
        call("other")
    error = caught.value
    assert type(error) is kind
    assert (error.code, error.status, error.request_id) == (code, status, "inner")
    assert str(error) == "what happened (what to do)"


def test_a_credential_about_to_run_out_is_renewed_once(platform: Platform, invocation: dict[str, Any]) -> None:
    invocation["credential"] = old = token(5)
    assert credential() == credential() != old
    assert [(path, bearer) for path, bearer, _ in platform.asked] == [("/credential", f"Bearer {old}")]
    call("other")
    assert platform.asked[-1][1] == f"Bearer {credential()}"


def test_nobody_there_and_nobody_in_time(platform: Platform, invocation: dict[str, Any]) -> None:
    platform.hold.clear()
    with pytest.raises(CallUnavailable, match=r"did not answer within 0\.2 s"):
        call("other", timeout_s=0.2)
    platform.hold.set()
    platform.shutdown()
    platform.server_close()
    with pytest.raises(CallUnavailable, match="broke off"):
        call("other")


def test_what_is_wrong_before_anything_is_asked(platform: Platform, invocation: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        call("other", float("nan"))
    with pytest.raises(TypeError):
        call("other", {1j})
    invocation["credential"] = ""
    with pytest.raises(CallRefused, match=r"no permissions \(name functions in permissions\.invoke"):
        call("other")
    current.only = None
    with pytest.raises(LookupError):
        call("other")
    assert platform.asked == []


def test_a_context_shows_nothing_of_the_credential(invocation: dict[str, Any]) -> None:
    assert current.only is not None
    assert "fc_" not in repr(current.only.context)
