"""What a handler gets as its event.

`kind` http: the event of API Gateway's payload format 2.0 (docs/contracts/runtime.md, section "Events"); every key is
always there. `kind` event: the JSON payload itself, `{}` when there is none.
"""

from __future__ import annotations

import time
from binascii import b2a_base64

from fuyun.runtime.jsontext import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TEXT_TYPES = (
    "application/json", "application/xml", "application/javascript", "application/x-javascript", "application/graphql",
    "application/x-www-form-urlencoded", "application/yaml", "application/x-yaml", "application/x-ndjson",
    "application/toml", "application/sql", "image/svg+xml",
)  # fmt: skip
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_known_types: dict[str, bool] = {}
_clock: tuple[int, str] = (0, "")


class BadPayload(Exception):
    """The payload of an `event` invocation is not JSON."""


def payload(body: bytes) -> Any:
    """The value of a JSON body."""
    if not body:
        return {}
    try:
        return loads(str(body, "utf-8"))
    except ValueError as exc:
        raise BadPayload(f"the payload is not JSON: {exc}") from None


def http_event(head: dict[str, Any], body: bytes, task: dict[str, Any]) -> dict[str, Any]:
    """The event of an HTTP request."""
    pairs = head["headers"]
    headers: dict[str, str] = dict(pairs)
    cookies: list[str] = []
    if "cookie" in headers or len(headers) != len(pairs):
        headers, cookies = _join(pairs)
    query = head.get("query", "")
    now_ms = time.time_ns() // 1_000_000
    if body:
        text, encoded = _body(headers, body)
    else:
        text, encoded = "", False
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": head["path"],
        "rawQueryString": query,
        "cookies": cookies,
        "headers": headers,
        "queryStringParameters": query_parameters(query) if query else {},
        "pathParameters": {},
        "stageVariables": {},
        "requestContext": {
            "accountId": task.get("namespace", ""),
            "apiId": head.get("function", ""),
            "domainName": headers.get("host", ""),
            "http": {
                "method": head["method"],
                "path": head.get("base", "") + head["path"],
                "protocol": "HTTP/1.1",
                "sourceIp": head.get("source", ""),
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": head["id"],
            "routeKey": "$default",
            "stage": "$default",
            "time": _common_log_time(now_ms // 1000),
            "timeEpoch": now_ms,
        },
        "body": text,
        "isBase64Encoded": encoded,
    }


def _join(pairs: list[tuple[str, str]]) -> tuple[dict[str, str], list[str]]:
    """Headers with repeated ones joined by commas, and the cookies, one each."""
    headers: dict[str, str] = {}
    cookies: list[str] = []
    for name, value in pairs:
        if name == "cookie":
            cookies.extend(value.split("; "))
        elif name in headers:
            headers[name] = f"{headers[name]},{value}"
        else:
            headers[name] = value
    return headers, cookies


def query_parameters(query: str) -> dict[str, str]:
    """Names and values of a query string, decoded; a repeated name's values are joined by commas."""
    plain = "%" not in query and "+" not in query
    if not plain:
        from urllib.parse import unquote_plus
    found: dict[str, str] = {}
    for pair in query.split("&"):
        if not pair:
            continue
        name, _, value = pair.partition("=")
        if not plain:
            name, value = unquote_plus(name), unquote_plus(value)
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def is_text(content_type: str) -> bool:
    """Whether a media type carries text. No type at all counts as text: `curl -d` and tests send it."""
    essence = content_type.partition(";")[0].strip().lower()
    return (
        not essence
        or essence.startswith("text/")
        or essence in _TEXT_TYPES
        or essence.endswith(("+json", "+xml", "+yaml"))
    )


def _body(headers: dict[str, str], body: bytes) -> tuple[str, bool]:
    kind = headers.get("content-type", "")
    text = _known_types.get(kind)
    if text is None:
        text = is_text(kind)
        if len(_known_types) < 64:
            _known_types[kind] = text
    if text and headers.get("content-encoding", "identity") == "identity":
        try:
            return str(body, "utf-8"), False
        except UnicodeDecodeError:
            pass
    return b2a_base64(body, newline=False).decode("ascii"), True


def _common_log_time(now_s: int) -> str:
    """`07/Mar/2026:19:03:58 +0000`, made once a second."""
    global _clock
    if _clock[0] != now_s:
        t = time.gmtime(now_s)
        text = f"{t.tm_mday:02}/{_MONTHS[t.tm_mon - 1]}/{t.tm_year}:{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02} +0000"
        _clock = (now_s, text)
    return _clock[1]
