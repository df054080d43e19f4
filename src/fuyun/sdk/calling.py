"""Calling other functions of the namespace, at the platform's address inside the instance.

Standard library only. The credential comes with each invocation and is renewed here when it is about to run out.
"""

from __future__ import annotations

import json
import os
import time
from base64 import urlsafe_b64decode
from urllib.parse import quote

from fuyun.sdk.now import current_context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from http.client import HTTPResponse
    from typing import Any, Optional

#: A credential with less than this left is renewed before it is used.
_LEAST_S = 30.0
#: How long a call may take when neither the caller nor the invocation's deadline says.
_LONGEST_S = 900.0
#: How long another service may take to answer, besides what it was asked to wait.
_SERVICE_S = 30.0
#: Renewed credentials, by the one that came with the invocation.
_renewed: dict[str, str] = {}
_MOST_RENEWED = 64
#: Of a body that is read from a file.
_BLOCK_BYTES = 65536
_PROBLEM = "application/problem+json"


class CallError(Exception):
    """A call was not answered with a result. `code` is the platform's error code, `status` the HTTP status (0 when
    nothing answered), `hint` what to do, `request_id` the one of the called invocation, for `fuyun logs`."""

    def __init__(self, detail: str, *, code: str, status: int = 0, hint: str = "", request_id: str = "") -> None:
        super().__init__(f"{detail} ({hint})" if hint else detail)
        self.detail = detail
        self.code = code
        self.status = status
        self.hint = hint
        self.request_id = request_id


class CallRefused(CallError):
    """The platform will not have it: no permission or credential, no such function, a payload too large."""


class CallFailed(CallError):
    """The called function failed: it raised, timed out, ran out of memory or answered nonsense."""


class CallUnavailable(CallError):
    """There was no room for it, or nothing answers. Another try may succeed."""


class LoopDetected(CallRefused):
    """Functions call each other too deep, or in a circle."""


def credential() -> str:
    """The credential of the invocation that runs, for clients of your own: `Authorization: Bearer ...` at the address
    in `FUYUN_ENDPOINT`. Renewed when it is about to run out, or has. CallRefused when the function has no permissions,
    LookupError outside an invocation."""
    given = current_context().credential
    if not given:
        raise CallRefused(
            "this function has no permissions",
            code="forbidden",
            hint="name functions in permissions.invoke, or what else it may use, and deploy",
        )
    token = _renewed.get(given, given)
    if _left_s(token) >= _LEAST_S:
        return token
    answer = _exchange("/credential", token, b"", 10.0)
    if len(_renewed) >= _MOST_RENEWED:
        _renewed.clear()
    found = str(json.loads(answer)["credential"])
    _renewed[given] = found
    return found


def call(
    function: str,
    payload: Any = None,
    *,
    timeout_s: Optional[float] = None,
    wait: bool = True,
    idempotency_key: str = "",
    delay: str = "",
) -> Any:
    """Call `function` (NAME or NAME:QUALIFIER, of the same namespace) with `payload` as its event, and wait for the
    result. The payload is whatever JSON can carry; the result is what the function returned: parsed JSON, or bytes
    where it answered with something else.

    `timeout_s`: seconds to wait at most; the time left to this invocation by default. In `async` code:
    `await asyncio.to_thread(call, ...)`. CallError and what derives from it; ValueError for a payload that is no JSON.

    With `wait=False` the call is asynchronous: the result is its id as soon as the platform has it on its disk, and it
    is tried again when it fails. The same `idempotency_key` within a day is the same call; `delay`, such as 90s, keeps
    it back for so long.
    """
    context = current_context()
    token = credential()
    body = json.dumps({} if payload is None else payload, allow_nan=False).encode()
    path = f"/invoke/{quote(context.namespace)}/{quote(function, safe=':$')}"
    wait_s = timeout_s if timeout_s is not None else min(_LONGEST_S, context.remaining_time_ms() / 1000)
    if wait:
        return _exchange(path, token, body, max(0.001, wait_s), parsed=True)
    named = {"Fuyun-Idempotency-Key": idempotency_key, "Fuyun-Delay": delay}
    headers = {"Fuyun-Invocation-Type": "async", **{name: value for name, value in named.items() if value}}
    return _exchange(path, token, body, max(0.001, wait_s), parsed=True, headers=headers)["id"]


def ask(word: str, name: str, verb: str, body: Any, *, wait_s: float = 0.0) -> Any:
    """Ask another service of the platform (`queues`, `topics`) about `name`; what it answers. CallError; ValueError for
    a body that is no JSON."""
    context = current_context()
    token = credential()
    data = json.dumps(body, allow_nan=False).encode()
    path = f"/{word}/{quote(context.namespace)}/{quote(name, safe='')}/{verb}"
    return _exchange(path, token, data, wait_s + _SERVICE_S, parsed=True)


def _left_s(token: str) -> float:
    """Seconds until it expires."""
    claims = token.partition(".")[0].partition("_")[2]
    return float(json.loads(urlsafe_b64decode(claims + "=="))["exp"]) - time.time()


def open_answer(word: str, name: str, verb: str, body: Any, fields: Mapping[str, str]) -> HTTPResponse:
    """POST bytes, or an iterable of them, to another service of the platform; its answer, to be read and closed.
    CallError."""
    token = credential()
    path = f"/{word}/{quote(current_context().namespace)}/{quote(name, safe='')}/{verb}"
    return _open(path, token, body, _SERVICE_S, fields)


def _open(path: str, token: str, body: Any, timeout_s: float, fields: Mapping[str, str]) -> HTTPResponse:
    """POST to the platform; its answer, of which the head is here and which closes the connection when it is closed.
    CallError for a problem."""
    from http.client import HTTPConnection, HTTPException

    host, _, port = os.environ["FUYUN_ENDPOINT"].partition("://")[2].partition(":")
    connection = HTTPConnection(host, int(port), timeout=timeout_s, blocksize=_BLOCK_BYTES)
    sent = {"Authorization": f"Bearer {token}", "Connection": "close", **fields}
    try:
        try:
            connection.request("POST", path, body, sent)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before all of it was sent: the answer may be there
        answer = connection.getresponse()
        problem = answer.read() if answer.getheader("Content-Type", "").startswith(_PROBLEM) else None
    except (OSError, HTTPException) as error:
        connection.close()
        raise _broken(path, timeout_s, error) from error
    except BaseException:  # of the body's own source
        connection.close()
        raise
    if problem is not None:
        connection.close()
        raise _error(answer, json.loads(problem))
    return answer


def _exchange(
    path: str, token: str, body: bytes, timeout_s: float, parsed: bool = False, headers: Optional[dict[str, str]] = None
) -> Any:
    """POST to the platform; the body of the answer, `parsed` where it is JSON. CallError."""
    from http.client import HTTPException

    answer = _open(path, token, body, timeout_s, {"Content-Type": "application/json", **(headers or {})})
    try:
        data = answer.read()
    except (OSError, HTTPException) as error:
        raise _broken(path, timeout_s, error) from error
    finally:
        answer.close()
    is_json = answer.getheader("Content-Type", "").startswith("application/json")
    return json.loads(data) if parsed and is_json else data


def _broken(path: str, timeout_s: float, error: BaseException) -> CallUnavailable:
    slow = isinstance(error, TimeoutError) or type(error).__name__ == "timeout"
    what = f"did not answer within {timeout_s:g} s" if slow else f"broke off: {str(error) or type(error).__name__}"
    return CallUnavailable(f"POST {path} {what}", code="unavailable")


def _error(answer: HTTPResponse, problem: dict[str, Any]) -> CallError:
    code = str(problem.get("code", "error"))
    kind: type[CallError] = CallFailed
    if code == "loop_detected":
        kind = LoopDetected
    elif answer.status in (429, 503):
        kind = CallUnavailable
    elif answer.status < 500 or code == "unsupported":
        kind = CallRefused
    return kind(
        str(problem.get("detail", "the call failed")),
        code=code,
        status=answer.status,
        hint=str(problem.get("hint", "")),
        request_id=answer.getheader("Fuyun-Request-Id", "") or "",
    )
