"""What one endpoint is. Routing and the OpenAPI document are both made from these rows, so they cannot differ."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fuyun.domain.errors import BadRequest, FuyunError

if TYPE_CHECKING:
    from starlette.responses import Response

    from fuyun.transports.api.calls import Answer, Call

JSON = "application/json"
NDJSON = "application/x-ndjson"
ZIP = "application/zip"

_NAME = r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"


@dataclass(frozen=True, slots=True)
class Permission:
    """Who may call: `open` needs no key, `offered` none or a good one, `key` any key, `namespace` a key that may do
    `action` in the path's namespace, `platform` one that may do it everywhere."""

    where: Literal["open", "offered", "key", "namespace", "platform"]
    action: str = ""


OPEN = Permission("open")
ANY_KEY = Permission("key")
KEY_OR_NONE = Permission("offered")


def in_namespace(action: str) -> Permission:
    """The key must be allowed `action` in the namespace of the path."""
    return Permission("namespace", action)


def on_platform(action: str) -> Permission:
    """The key must be allowed `action` on the whole platform."""
    return Permission("platform", action)


@dataclass(frozen=True, slots=True)
class PathParam:
    """A variable part of a path: what it may look like (a full-match pattern) and what it is."""

    pattern: str
    description: str
    example: str

    def check(self, name: str, value: str) -> None:
        """BadRequest unless `value` fits."""
        if not re.fullmatch(self.pattern, value):
            raise BadRequest(
                f"{value!r} is not a valid {name}", hint=f"{self.description}; for example {self.example}", path=name
            )


#: Every variable that occurs in a path, by its name there.
PATH_PARAMS = {
    "namespace": PathParam(_NAME, "a namespace: 1 to 63 of a-z, 0-9 and '-', starting with a letter", "default"),
    "scope": PathParam(rf"\*|{_NAME}", "a namespace, or * for the platform's own keys", "default"),
    "function": PathParam(_NAME, "a function: 1 to 63 of a-z, 0-9 and '-', starting with a letter", "hello"),
    "alias": PathParam(_NAME, "an alias: 1 to 63 of a-z, 0-9 and '-', starting with a letter", "live"),
    "version": PathParam(r"\$LATEST|[1-9][0-9]{0,8}", "$LATEST or a version number", "1"),
    "layer": PathParam(_NAME, "a layer: 1 to 63 of a-z, 0-9 and '-', starting with a letter", "fonts"),
    "bus": PathParam(_NAME, "a bus: 1 to 63 of a-z, 0-9 and '-', starting with a letter", "orders"),
    "rule": PathParam(_NAME, "a rule: 1 to 63 of a-z, 0-9 and '-', starting with a letter", "paid"),
    "replay": PathParam(r"[0-9a-f]{32}", "the id of a replay, 32 hex digits", "0199f2c81b7a5d0f3c6b9e21a4000001"),
    "number": PathParam(r"[1-9][0-9]{0,8}", "the number of a layer's version", "1"),
    "stream": PathParam(
        rf"(?:table\.)?{_NAME}",
        "a stream: 1 to 63 of a-z, 0-9 and '-', starting with a letter; table.NAME is a feed",
        "orders",
    ),
    "table": PathParam(_NAME, "a table: 1 to 63 of a-z, 0-9 and '-', starting with a letter", "orders"),
    "group": PathParam(
        r"[a-z][a-z0-9.:_-]{0,254}", "a group: 1 to 255 of a-z, 0-9 and .:_-, starting with a letter", "billing"
    ),
    "queue": PathParam(_NAME, "a queue: 1 to 63 of a-z, 0-9 and '-', starting with a letter", "orders"),
    "endpoint": PathParam(_NAME, "an endpoint: 1 to 63 of a-z, 0-9 and '-', starting with a letter", "billing"),
    "topic": PathParam(_NAME, "a topic: 1 to 63 of a-z, 0-9 and '-', starting with a letter", "prices"),
    "subscription": PathParam(_NAME, "a subscription: 1 to 63 of a-z, 0-9 and '-', starting with a letter", "audit"),
    "bucket": PathParam(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "a bucket: 3 to 63 of a-z, 0-9, '-' and '.'", "photos"),
    "key": PathParam(r"[A-Za-z0-9]{1,64}", "the id of a key", "0199f2c81b7a"),
    "secret": PathParam(
        r"[A-Za-z_][A-Za-z0-9_.-]{0,127}", "a secret: a letter or _, then letters, digits and _.-", "db-password"
    ),
    "invocation": PathParam(
        r"[0-9a-f]{32}", "the id of an invocation, 32 hex digits", "0199f2c81b7a5d0f3c6b9e21a4000001"
    ),
    "delivery": PathParam(r"[0-9a-f]{32}", "the id of a delivery, 32 hex digits", "0199f2c81b7a5d0f3c6b9e21a4000002"),
    "trigger": PathParam(_NAME, "a trigger: 1 to 63 of a-z, 0-9 and '-', starting with a letter", "timer"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Success:
    """One good answer of an endpoint. `body` None means no content (or what `media` says, opaque)."""

    status: int = 200
    body: Any = None
    media: tuple[str, ...] = (JSON,)
    headers: tuple[str, ...] = ()
    description: str = "done"
    stream: Any = None  # type of one NDJSON line


#: Response headers that occur in the table, and what they say.
HEADERS = {
    "ETag": "the revision, as If-Match takes it",
    "Retry-After": "seconds to wait before the next try",
    "Allow": "methods this path has",
    "Fuyun-Version": "version that answered",
    "Fuyun-Start": "how the instance came to be: warm, blank, template, zygote or none",
    "Fuyun-Status": "status that an application answered with, where it is not 200",
    "Server-Timing": "waterfall of the invocation in milliseconds",
    "Location": "where the new thing is",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One method of one path. `errors` are the classes of `domain/errors.py` this endpoint adds to those that follow
    from its path, query, body and permission (`implied_errors`)."""

    method: str
    path: str
    run: Callable[[Call], Awaitable[Answer | Response]]
    summary: str
    permission: Permission
    tag: str
    query: type[Any] | None = None
    request: Any = None  # type of a JSON body
    request_media: str = JSON
    raw_request: bool = False  # the endpoint reads the body itself
    request_headers: tuple[str, ...] = ()
    successes: tuple[Success, ...]
    errors: tuple[type[FuyunError], ...] = ()

    @property
    def names(self) -> list[str]:
        """The path's variables, in order."""
        return re.findall(r"{(\w+)}", self.path)

    @property
    def has_body(self) -> bool:
        """True when the request carries a body."""
        return self.request is not None or self.raw_request

    @property
    def operation_id(self) -> str:
        """A stable name made of the method and the path."""
        words = [w for w in re.split(r"[/{}$.]+", self.path.removeprefix("/v1")) if w]
        return "_".join([self.method.lower(), *words])
