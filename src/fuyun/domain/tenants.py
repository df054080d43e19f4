"""Namespaces, keys, roles and quotas."""

from __future__ import annotations

from typing import Literal

from fuyun.domain.errors import Forbidden
from fuyun.domain.functions import Wire

Role = Literal["admin", "developer", "invoker", "viewer"]

_READ = frozenset({"read", "read objects"})
_USE = frozenset({"invoke", "send", "receive"})
_CHANGE = _USE | {"deploy", "delete", "secrets", "write objects"}
#: What each role may do inside its namespace. `*` as a key's namespace is the whole platform.
ROLE_ACTIONS: dict[str, frozenset[str]] = {
    "admin": _READ | _CHANGE | {"keys", "namespaces"},
    "developer": _READ | _CHANGE,
    "invoker": _USE,
    "viewer": _READ,
}


class Quotas(Wire, frozen=True, kw_only=True):
    """Limits of a namespace. 0 means none of it."""

    functions: int = 1000
    concurrency: int = 1000  # requests inside functions at once
    instances: int = 500
    memory_bytes: int = 64 * 2**30  # sum of the limits of running instances
    storage_bytes: int = 10 * 2**30  # code and layers
    queues: int = 1000
    queue_messages: int = 1_000_000  # in all queues together
    queue_bytes: int = 4 * 2**30  # of those messages
    topics: int = 1000
    streams: int = 100
    stream_bytes: int = 10 * 2**30  # records kept, change feeds of tables included
    buses: int = 100
    tables: int = 100
    table_bytes: int = 10 * 2**30  # items
    endpoints: int = 100  # of others, that events are sent to
    deliveries: int = 1_000_000  # asynchronous invocations and events that wait
    buckets: int = 100
    object_bytes: int = 100 * 2**30  # what buckets hold: every version, and parts of uploads


class Namespace(Wire, frozen=True, kw_only=True):
    """A tenant's boundary."""

    name: str
    quotas: Quotas = Quotas()
    created_s: float
    revision: int = 1


class Key(Wire, frozen=True, kw_only=True):
    """A key without its secret. The token `fk_<id>_<secret>` is shown once; only its SHA-256 is stored."""

    id: str
    namespace: str  # "*" is the platform's own: admin of everything
    role: Role
    name: str = ""
    created_s: float
    expires_s: float | None = None


class Principal(Wire, frozen=True, kw_only=True):
    """Who is asking: what a token proves. `hops` and `trail`: of a function, those of its invocation, which what it
    changes follows from."""

    key_id: str
    namespace: str
    role: Role
    hops: int = 0
    trail: str = ""

    def may(self, action: str, namespace: str) -> bool:
        """True when this principal may do `action` in `namespace` (`*` for platform-wide actions)."""
        return self.namespace in ("*", namespace) and action in ROLE_ACTIONS[self.role]

    def require(self, action: str, namespace: str) -> None:
        """Forbidden unless `may`. The message never says whether the thing exists."""
        if not self.may(action, namespace):
            raise Forbidden(
                f"this key may not {action} in namespace {namespace!r}",
                hint=f"use a key of {namespace!r} whose role allows it; this one is {self.role} of {self.namespace!r}",
            )


class AuditEntry(Wire, frozen=True, kw_only=True):
    """One change: who, what, when, from where."""

    id: str
    at_s: float
    key_id: str
    namespace: str
    action: str  # "function.deploy", "alias.set", "key.create" ...
    target: str
    source: str  # address the request came from
    detail: str = ""
