"""The head of the HTTP/1.1 request that a program gets, made of an invocation's head."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from fuyun.ports.instances import Head

decode_head: Final = msgspec.json.Decoder(Head).decode

#: Methods whose requests may be sent again on another connection when the first was closed unanswered (RFC 9110 9.2.2).
IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "PROPFIND", "REPORT", "SEARCH"})
#: Fields written here, whatever the caller sent.
_OURS: Final = frozenset(
    {
        "connection",
        "content-length",
        "transfer-encoding",
        "upgrade",
        "fuyun-request-id",
        "x-forwarded-prefix",
        "fuyun-credential",
    }
)
_FORWARDED: Final = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host")
_unsafe: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]").sub


def wants_upgrade(head: Head) -> bool:
    """Whether it asks for a WebSocket."""
    return any(name == "upgrade" for name, _ in head.headers)


def request_head(head: Head, size_bytes: int) -> bytes:
    """Request line and fields. `size_bytes` of body follow; -1: pieces in chunks; -2: none are told of (an upgrade).

    The path is the one below what named the function, which X-Forwarded-Prefix tells. An `event` is a POST of JSON.
    """
    fields: dict[str, str] = {}
    lines = []
    for name, value in head.headers:
        if name in _FORWARDED or name in ("host", "content-type"):
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
        if name not in _OURS and name not in _FORWARDED and name != "host":
            lines.append(f"{name}: {value}")
    host = fields.get("host", "localhost")
    came_by = fields.get("x-forwarded-for")
    target = f"{head.path}?{head.query}" if head.query else head.path
    first = [f"{head.method} {target} HTTP/1.1", f"host: {host}", f"fuyun-request-id: {head.id}"]
    if head.credential:
        first.append(f"fuyun-credential: {head.credential}")
    if head.source:
        first.append(f"x-forwarded-for: {f'{came_by}, {head.source}' if came_by else head.source}")
    first.append(f"x-forwarded-proto: {fields.get('x-forwarded-proto', head.scheme)}")
    first.append(f"x-forwarded-host: {fields.get('x-forwarded-host', host)}")
    if head.base:
        first.append(f"x-forwarded-prefix: {head.base}")
    if head.kind == "event" and "content-type" not in fields:
        first.append("content-type: application/json")
    if size_bytes == -2:
        first += ["connection: Upgrade", "upgrade: websocket"]
    elif size_bytes == -1:
        first.append("transfer-encoding: chunked")
    elif size_bytes or head.method not in ("GET", "HEAD", "OPTIONS", "TRACE"):
        first.append(f"content-length: {size_bytes}")
    lines = [_unsafe("", line) for line in (*first, *lines)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def declared_length(head: Head) -> int:
    """Length of a body that is still coming, as its sender declared it; -1 when it did not."""
    for name, value in head.headers:
        if name == "content-length" and value.isdigit():
            return int(value)
    return -1
