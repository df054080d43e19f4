"""What a request's head says: names, targets, and the few headers the gateway itself obeys."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from fuyun.domain.errors import (
    BadRequest,
    ExpectationFailed,
    FuyunError,
    HeadTooLarge,
    TargetTooLong,
    Unsupported,
    VersionUnsupported,
)
from fuyun.services.deferring import TYPE_FIELD
from fuyun.transports.gateway.limits import GatewayLimits

#: Methods a request may have. The parser knows more (RTSP, SOURCE): those are not HTTP.
METHODS: Final[dict[bytes, str]] = {
    name.encode(): name
    for name in (
        *("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "QUERY", "PURGE", "LINK", "UNLINK"),
        *("COPY", "LOCK", "MKCOL", "MOVE", "PROPFIND", "PROPPATCH", "SEARCH", "UNLOCK", "BIND", "REBIND", "UNBIND"),
        *("ACL", "REPORT", "MKACTIVITY", "CHECKOUT", "MERGE", "MKCALENDAR", "M-SEARCH", "NOTIFY", "SUBSCRIBE"),
        "UNSUBSCRIBE",
    )
}

#: Headers that end at this hop (RFC 9110 section 7.6.1, plus the historical ones); functions neither see nor set them.
HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
    }
)

#: A request without any of these takes the short way: nothing to check, nothing to remove.
RARE: Final = HOP_BY_HOP | {"content-length", "expect", TYPE_FIELD}

#: Headers of which a second one makes a request ambiguous.
SINGLE: Final = ("host", "authorization", "fuyun-key", "expect", "upgrade", "content-type", "origin")

_KEPT: Final = 4096
_names: Final[dict[bytes, str]] = {}
_targets: Final[dict[bytes, tuple[str, str, str]]] = {}


def name_of(name: bytes) -> str:
    """The lower-case text of a header name, remembered (at most 4096, names up to 64 bytes)."""
    known = _names.get(name)
    if known is not None:
        return known
    text = name.decode("ascii").lower()
    if len(name) <= 64:
        if len(_names) >= _KEPT:
            _names.clear()
        _names[name] = text
    return text


def split_target(target: bytes) -> tuple[str, str, str]:
    """(path, query, authority) of an origin-form or absolute-form target, percent-encoding untouched.

    Remembered. The authority is "" unless the target was absolute. Raises BadRequest for anything else.
    """
    known = _targets.get(target)
    if known is not None:
        return known
    text = target.decode("ascii")
    authority = ""
    if not text.startswith("/"):
        scheme, separator, rest = text.partition("://")
        if not separator or scheme.lower() not in ("http", "https"):
            raise BadRequest(
                f"the request target {text[:64]!r} is neither a path nor an http URL", hint="ask for /path"
            )
        stop = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
        authority, text = rest[:stop], rest[stop:]
        if not authority or "@" in authority:
            raise BadRequest(f"the request target {target[:64]!r} has no plain host", hint="ask for http://host/path")
        if not text.startswith("/"):
            text = "/" + text
    path, _, query = text.partition("?")
    if "#" in text:
        raise BadRequest(
            "the request target has a fragment", hint="drop '#' and what follows; clients keep it themselves"
        )
    found = (path, query, authority)
    if len(target) <= 256:
        if len(_targets) >= _KEPT:
            _targets.clear()
        _targets[target] = found
    return found


def check_version(version: str) -> None:
    """Raise VersionUnsupported unless 1.0 or 1.1."""
    if version not in ("1.0", "1.1"):
        raise VersionUnsupported(f"HTTP/{version} is not spoken here", hint="use HTTP/1.1")


def head_too_large(target_bytes: int, limits: GatewayLimits) -> FuyunError:
    """The error for a head over the limits, by the size of its target."""
    if target_bytes > limits.target_bytes:
        return TargetTooLong(
            f"the request target is over {limits.target_bytes} bytes",
            hint="shorten path and query",
            limit_bytes=limits.target_bytes,
        )
    return HeadTooLarge(
        f"the request's head is over {limits.head_bytes} bytes",
        hint="send fewer or shorter headers",
        limit_bytes=limits.head_bytes,
    )


def check_odd(
    line: bytes, version: str, known: bool, headers: list[tuple[str, str]], fields: dict[str, str], upgrade: bool
) -> tuple[FuyunError | None, bytes]:
    """(what is wrong, the head to read instead) for a head that is not a plain HTTP/1.1 one; `line` is its first line,
    `known` whether its method is HTTP's. An upgrade to something other than WebSocket is ignored (RFC 9110 section
    7.8): its head is to be read again without it."""
    try:
        check_version(version)
    except VersionUnsupported as unknown:
        return unknown, b""
    if not known:
        name = line.partition(b" ")[0].decode("ascii")
        return Unsupported(f"the method {name} is not supported", hint="use one of HTTP's own methods"), b""
    if not upgrade:
        return None, b""
    if "websocket" in tokens(fields["upgrade"]):
        body = "transfer-encoding" in fields or fields.get("content-length", "0") != "0"
        if body or version != "1.1" or not line.startswith(b"GET "):  # RFC 6455 section 4.1
            text = "a WebSocket is asked for by GET, in HTTP/1.1 and without a body"
            return BadRequest(text, hint="correct the client"), b""
        return None, b""
    kept = [token for token in tokens(fields.get("connection")) if token not in ("upgrade", "http2-settings")]
    lines = [f"connection: {', '.join(kept)}"]
    lines += [f"{name}: {value}" for name, value in headers if name not in ("upgrade", "connection", "http2-settings")]
    return None, line + b"\r\n" + "\r\n".join([*lines, "", ""]).encode("latin-1")


def check_repeats(headers: Iterable[tuple[str, str]]) -> None:
    """Raise BadRequest when a header that may stand once stands twice."""
    names = [name for name, _ in headers]
    for name in SINGLE:
        if names.count(name) > 1:
            raise BadRequest(f"the header {name!r} stands more than once", hint="send it once")


def check_framing(fields: dict[str, str], http10: bool) -> int:
    """The declared length of the body: its bytes, -1 when chunked, 0 without one.

    The parser has refused contradictory lengths already (both kinds, repeated or malformed Content-Length). Raises
    BadRequest for chunks in HTTP/1.0 (RFC 9112 section 6.1) and Unsupported for codings other than chunked.
    """
    coding = fields.get("transfer-encoding")
    if coding is None:
        return int(fields.get("content-length", 0))
    if http10:
        raise BadRequest("HTTP/1.0 has no Transfer-Encoding", hint="send Content-Length, or use HTTP/1.1")
    if coding.strip(" \t").lower() != "chunked":
        raise Unsupported(
            f"the transfer coding {coding[:64]!r} is not supported", hint="send the body chunked, or with its length"
        )
    return -1


def wants_continue(fields: dict[str, str], http10: bool) -> bool:
    """True for `Expect: 100-continue`; ExpectationFailed for any other expectation."""
    expected = fields.get("expect")
    if expected is None or http10:
        return False
    if expected.strip(" \t").lower() != "100-continue":
        raise ExpectationFailed(
            f"the expectation {expected[:64]!r} is not known", hint="drop the header, or expect 100-continue"
        )
    return True


def tokens(value: str | None) -> list[str]:
    """Members of a comma-separated header value, lower-case."""
    return [part.strip(" \t").lower() for part in value.split(",")] if value else []


_has_key: Final = re.compile(r"(?:^|\s)fk_").search


def drop_keys(headers: list[tuple[str, str]], fields: dict[str, str]) -> None:
    """Remove `Fuyun-Key`, and `Authorization` when it holds a Fuyun token, from `headers`.

    Handing a caller's key to the function would let its author act as the caller.
    """
    key = fields.get("fuyun-key")
    if key is not None:
        headers.remove(("fuyun-key", key))
    value = fields.get("authorization")
    if value is not None and (value.startswith("Bearer fk_") or _has_key(value)):
        headers.remove(("authorization", value))


def without_hops(headers: list[tuple[str, str]], fields: dict[str, str]) -> list[tuple[str, str]]:
    """The headers that go on to a function: none that end at this hop."""
    dropped = HOP_BY_HOP.union(tokens(fields.get("connection"))) - {"host", "content-length", "content-type"} | {
        "expect"
    }
    return [field for field in headers if field[0] not in dropped]
