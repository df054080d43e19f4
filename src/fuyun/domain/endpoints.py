"""HTTP endpoints of others that events are sent to: `endpoint:NAME` is a target.

Signed as Standard Webhooks has it, confirmed by the handshake of CloudEvents' web hooks:
https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/http-webhook.md#4-abuse-protection
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

import msgspec

from fuyun.domain.errors import BadRequest
from fuyun.domain.names import check_name
from fuyun.domain.wire import Wire

Mode = Literal["structured", "binary"]
#: pending: nothing is sent until it has said that it wants to be sent to; gone: it answered 410, and never is again.
EndpointState = Literal["pending", "confirmed", "gone"]
#: Seconds for which the secret before the newest still signs, too.
ROTATION_S: Final = 86400.0
_LEAST_TIMEOUT_S, _MOST_TIMEOUT_S = 1.0, 60.0
#: Scheme, host, port, and the rest without a fragment; all in ASCII.
_URL: Final = re.compile(r"https?://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?(?:[/?][!-\"$-~]*)?")
_CREDENTIALS: Final = re.compile(r"[a-z]+://[^/?#]*@", re.IGNORECASE)


class EndpointSpec(Wire, frozen=True, kw_only=True):
    """Where events are sent, and how."""

    url: Annotated[str, msgspec.Meta(description="https://… or http://…; no credentials in it", max_length=2048)]
    mode: Annotated[Mode, msgspec.Meta(description="a CloudEvent as JSON, or as header fields and its data")] = (
        "structured"
    )
    timeout_s: Annotated[float, msgspec.Meta(description="seconds it may take to answer, 1 to 60")] = 15.0


class HttpEndpoint(Wire, frozen=True, kw_only=True):
    """An endpoint as it is kept. Its secrets are derived from `salts`, the newest first; `rotated_s` is when that one
    came."""

    namespace: str
    name: str
    spec: EndpointSpec
    state: EndpointState = "pending"
    problem: str = ""  # why it is not confirmed
    created_s: float
    rotated_s: float
    salts: tuple[str, ...]


class EndpointView(Wire, frozen=True, kw_only=True):
    """An endpoint as it is shown. `secret` is only told of one that is new or was given another."""

    name: str
    url: str
    mode: Mode
    timeout_s: float
    state: EndpointState
    problem: str
    created_s: float
    rotated_s: float
    secret: str = ""


def view_of(endpoint: HttpEndpoint, secret: str = "") -> EndpointView:
    """What is shown of it."""
    spec = endpoint.spec
    return EndpointView(
        name=endpoint.name, url=spec.url, mode=spec.mode, timeout_s=spec.timeout_s, state=endpoint.state,
        problem=endpoint.problem, created_s=endpoint.created_s, rotated_s=endpoint.rotated_s, secret=secret,
    )  # fmt: skip


def check_endpoint(name: str, spec: EndpointSpec) -> None:
    """BadRequest that says what of it cannot be."""
    check_name("endpoint", name)
    if _CREDENTIALS.match(spec.url):
        raise BadRequest("the address holds credentials", hint="leave them out: what is sent is signed", path="url")
    found = _URL.fullmatch(spec.url)
    if found is None or not 0 < int(found[1] or 1) <= 65535:
        raise BadRequest(
            f"{spec.url[:120]!r} is no address to send to", hint="write https://host/path, all in ASCII", path="url"
        )
    if not _LEAST_TIMEOUT_S <= spec.timeout_s <= _MOST_TIMEOUT_S:
        raise BadRequest(
            f"timeout_s: {spec.timeout_s:g} is out of range", hint=f"use {_LEAST_TIMEOUT_S:g} to {_MOST_TIMEOUT_S:g}",
            path="timeout_s",
        )  # fmt: skip
