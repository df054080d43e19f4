"""What a handler returned, as status, headers and bytes; and the frames that carry it.

The rules are docs/contracts/runtime.md, section "Results".
"""

from __future__ import annotations

import struct
from resource import RUSAGE_SELF, getrusage
from time import monotonic_ns, process_time_ns

from fuyun.runtime.jsontext import NotJson, dumps
from fuyun.runtime.wire import CHUNK, ERROR, FINISH, HEAD, HEADER, MAX_FRAME, RESULT, USAGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional, Union

    Headers = list[tuple[str, str]]
    #: status, headers (None: 200 with JSON, as dumped here) and the whole body
    Answer = tuple[int, Optional[Headers], bytes]

#: HEADER, USAGE and META of a RESULT in one go.
_RESULT = struct.Struct("<IBBHIIIII")
_JSON_RESULT = _RESULT.size - HEADER.size
_U32 = 0xFFFFFFFF
_PEAK_NS = 1_000_000
#: A CHUNK never carries more, so that one large piece does not hold the connection.
PIECE = 64 * 1024
#: A buffered result above this leaves as a stream.
LARGEST_RESULT = MAX_FRAME - 1024 * 1024
TEXT = "text/plain; charset=utf-8"
BINARY = "application/octet-stream"
LINES = "application/x-ndjson"
JSON = "application/json"
#: Headers that describe a connection, not an answer (RFC 9110 section 7.6.1).
_HOP = frozenset(("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te", "trailer"))
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")
_QUICK = frozenset((dict, list, str, bytes, int, float, bool, tuple, type(None)))


class BadAnswer(Exception):
    """The result cannot be an answer; `str()` says where and why. `code` is bad_response or response_too_large."""

    def __init__(self, message: str, code: str = "bad_response") -> None:
        super().__init__(message)
        self.code = code


class Streamed:
    """An answer that comes piece by piece. `headers` None: the first piece decides the content type."""

    __slots__ = ("headers", "pieces", "status")

    def __init__(self, pieces: Any, status: int = 200, headers: Optional[Headers] = None) -> None:
        self.pieces = pieces
        self.status = status
        self.headers = headers


class Meter:
    """Counts what the instance used. CPU time is what all its threads used since the previous answer, so that the
    answers' figures sum up to the instance's. The peak of memory is read again when the last reading is a millisecond
    old: that call takes longer than both clocks."""

    def __init__(self) -> None:
        self._peak_kib = 0
        self.restart()

    def restart(self) -> None:
        """Count from now: this is a new process, or a copy of one."""
        self._cpu_ns = process_time_ns()
        self._peak_ns = 0

    def usage(self, started_ns: int) -> tuple[int, int, int]:
        """Run µs since `started_ns`, CPU µs since the last call, peak resident KiB; each fits 32 bits."""
        cpu_ns, now_ns = process_time_ns(), monotonic_ns()
        cpu_us = max(0, cpu_ns - self._cpu_ns) // 1000  # another thread may have read the clock since
        self._cpu_ns += cpu_us * 1000
        run_us = (now_ns - started_ns) // 1000
        if now_ns > self._peak_ns:
            self._peak_ns = now_ns + _PEAK_NS
            self._peak_kib = getrusage(RUSAGE_SELF)[2]
        if run_us > _U32 or cpu_us > _U32:
            return min(run_us, _U32), min(cpu_us, _U32), self._peak_kib
        return run_us, cpu_us, self._peak_kib


def result_frame(stream: int, usage: tuple[int, int, int], answer: Answer) -> bytes:
    """RESULT."""
    status, headers, body = answer
    if headers is None:
        return _RESULT.pack(_JSON_RESULT + len(body), RESULT, 1, 0, stream, *usage, 0) + body
    meta = dumps([status, headers])
    size = _JSON_RESULT + len(meta) + len(body)
    return _RESULT.pack(size, RESULT, 1, 0, stream, *usage, len(meta)) + meta + body


def head_frame(stream: int, status: int, headers: Headers) -> bytes:
    """HEAD."""
    meta = dumps([status, headers])
    return HEADER.pack(len(meta), HEAD, 0, 0, stream) + meta


def chunk_frame(stream: int, piece: bytes) -> bytes:
    """CHUNK."""
    return HEADER.pack(len(piece), CHUNK, 0, 0, stream) + piece


def finish_frame(stream: int, usage: tuple[int, int, int]) -> bytes:
    """FINISH."""
    return HEADER.pack(USAGE.size, FINISH, 1, 0, stream) + USAGE.pack(*usage)


def error_frame(stream: int, usage: tuple[int, int, int], problem: dict[str, Any]) -> bytes:
    """ERROR. Text that has no UTF-8 is escaped."""
    body = dumps(problem, "problem")
    return HEADER.pack(USAGE.size + len(body), ERROR, 1, 0, stream) + USAGE.pack(*usage) + body


def shape(result: Any, http: bool, limit_bytes: int) -> Union[Answer, Streamed]:
    """The answer a handler's result stands for. BadAnswer when it stands for none or is over `limit_bytes`."""
    if type(result) not in _QUICK:
        if isinstance(result, (bytearray, memoryview)):
            result = bytes(result)
        elif _is_iterator(result):
            return Streamed(result)
    if isinstance(result, dict) and http and "statusCode" in result:
        return _response(result, limit_bytes)
    if isinstance(result, bytes):
        answer: Answer = (200, [("content-type", BINARY)], result)
    elif http and isinstance(result, str):
        answer = (200, [("content-type", TEXT)], _utf8(result, "result"))
    else:
        try:
            answer = (200, None, dumps(result))
        except NotJson as exc:
            raise BadAnswer(f"{exc}; return JSON, text, bytes, an iterator or an HTTP response") from None
    _check_size(answer[2], limit_bytes)
    return answer


def piece_of(value: Any, path: str) -> bytes:
    """One yielded value as bytes: text as UTF-8, bytes as they are, anything else as a line of JSON."""
    if isinstance(value, str):
        return _utf8(value, path)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    try:
        return dumps(value, path) + b"\n"
    except NotJson as exc:
        raise BadAnswer(f"{exc}; yield text, bytes or JSON") from None


def opening(streamed: Streamed, first: Any, http: bool) -> tuple[int, Headers, bytes]:
    """Status, headers and first bytes of a stream whose first value is `first`; a first value that is an HTTP response
    without a body sets status and headers."""
    if http and streamed.headers is None and isinstance(first, dict) and "statusCode" in first:
        status, headers, body = _response(dict(first, body=first.get("body")), _U32)  # type: ignore[misc]
        return status, headers or [], body
    if streamed.headers is not None:
        return streamed.status, streamed.headers, piece_of(first, "chunk 0")
    kind = TEXT if isinstance(first, str) else BINARY if isinstance(first, (bytes, bytearray, memoryview)) else LINES
    return streamed.status, [("content-type", kind)], piece_of(first, "chunk 0")


def clean_headers(pairs: Any, where: str) -> Headers:
    """Names lower-case, values text, connection headers dropped. BadAnswer for what would break the answer apart."""
    cleaned: Headers = []
    for name, value in pairs:
        if isinstance(name, bytes):
            name = name.decode("latin-1")
        if isinstance(value, bytes):
            value = value.decode("latin-1")
        if not isinstance(name, str) or not name or not _TOKEN.issuperset(name.lower()):
            raise BadAnswer(f"{where} has a header name that HTTP does not allow: {name!r:.80}")
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise BadAnswer(f"{where}[{name!r}] is a {type(value).__name__}; a header's value is text")
        text = str(value)
        if "\r" in text or "\n" in text or "\0" in text:
            raise BadAnswer(f"{where}[{name!r}] holds a line break or NUL, which HTTP does not allow")
        name = name.lower()
        if name not in _HOP:
            cleaned.append((name, text.strip()))
    return cleaned


def fixed_length(headers: Headers, size_bytes: int) -> Headers:
    """`headers` without a content-length that is not the body's size."""
    return [pair for pair in headers if pair[0] != "content-length" or pair[1] == str(size_bytes)]


def _response(result: dict[str, Any], limit_bytes: int) -> Union[Answer, Streamed]:
    """API Gateway's response, payload format 2.0 (and `multiValueHeaders` of 1.0)."""
    status = result["statusCode"]
    if isinstance(status, str) and status.isdigit():
        status = int(status)
    if isinstance(status, bool) or not isinstance(status, int) or not 200 <= status <= 599:
        raise BadAnswer(f"result['statusCode'] is {status!r:.80}; use a number from 200 to 599")
    headers = _headers_of(result)
    body = result.get("body")
    kind = TEXT
    if _is_iterator(body):
        return Streamed(
            body,
            status,
            headers if any(n == "content-type" for n, _ in headers) else [*headers, ("content-type", BINARY)],
        )
    if body is None:
        content = b""
    elif result.get("isBase64Encoded"):
        content, kind = _base64(body), BINARY
    elif isinstance(body, str):
        content = _utf8(body, "result['body']")
    elif isinstance(body, (bytes, bytearray, memoryview)):
        content, kind = bytes(body), BINARY
    else:
        try:
            content, kind = dumps(body, "result['body']"), JSON
        except NotJson as exc:
            raise BadAnswer(str(exc)) from None
    if body is not None and not any(name == "content-type" for name, _ in headers):
        headers.append(("content-type", kind))
    _check_size(content, limit_bytes)
    return status, fixed_length(headers, len(content)), content


def _headers_of(result: dict[str, Any]) -> Headers:
    pairs: list[tuple[Any, Any]] = []
    for field in ("headers", "multiValueHeaders"):
        given = result.get(field) or {}
        if not isinstance(given, dict):
            raise BadAnswer(f"result[{field!r}] is a {type(given).__name__}; use an object of names and values")
        for name, value in given.items():
            if isinstance(value, (list, tuple)):
                pairs += [(name, one) for one in value]
            else:
                pairs.append((name, value))
    cookies = result.get("cookies") or ()
    if not isinstance(cookies, (list, tuple)):
        raise BadAnswer(f"result['cookies'] is a {type(cookies).__name__}; use a list of Set-Cookie values")
    pairs += [("set-cookie", cookie) for cookie in cookies]
    return clean_headers(pairs, "result['headers']")


def _base64(body: Any) -> bytes:
    from base64 import b64decode

    try:
        return b64decode(body, validate=True)
    except (ValueError, TypeError) as exc:
        raise BadAnswer(f"result['body'] is not base64 though isBase64Encoded says so: {exc}") from None


def _utf8(text: str, path: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        raise BadAnswer(f"{path} holds a lone surrogate at character {exc.start}, which UTF-8 cannot carry") from None


def _is_iterator(value: object) -> bool:
    kind = type(value)
    return hasattr(kind, "__next__") or hasattr(kind, "__anext__") or hasattr(kind, "__aiter__")


def _check_size(body: bytes, limit_bytes: int) -> None:
    if len(body) > limit_bytes:
        raise BadAnswer(
            f"the result is {len(body)} bytes, over the limit of {limit_bytes}; yield pieces or raise `output`",
            "response_too_large",
        )
