"""Values for contract suites."""

from __future__ import annotations

import hashlib
from typing import Any

from fuyun.base import ids
from fuyun.domain.functions import Artifact, FunctionSpec, Weight
from fuyun.domain.invocations import Invocation, LogLine, Waterfall
from fuyun.domain.tenants import AuditEntry, Key

#: 2026-01-31 07:30:00 UTC, half past an hour.
NOW_S = 1769844600.0


def artifact(text: str) -> Artifact:
    """An artifact that is nowhere."""
    return Artifact(digest=hashlib.sha256(text.encode()).hexdigest(), size_bytes=len(text))


CODE = artifact("code")
SPEC = FunctionSpec(handler="app.handler", env={"GREETING": "你好"}, tags={"team": "a"})


def all_to(version: int) -> tuple[Weight, ...]:
    """Every request to one version."""
    return (Weight(version=version, weight=100),)


def key(id_: str, namespace: str = "default", **fields: Any) -> tuple[Key, bytes]:
    """A key and the hash of a token."""
    made = Key(**{"id": id_, "namespace": namespace, "role": "developer", "created_s": NOW_S, **fields})
    return made, hashlib.sha256(id_.encode()).digest()


def entry(action: str = "test", namespace: str = "default", target: str = "t") -> AuditEntry:
    """An audit entry."""
    return AuditEntry(
        id=ids.new_id(), at_s=NOW_S, key_id="k", namespace=namespace, action=action, target=target, source="::1"
    )


def id_at(at_s: float, count: int = 0) -> str:
    """An id made at a time."""
    return f"{int(at_s * 1000):012x}{count:020x}"


def invocation(at_s: float = NOW_S, count: int = 0, **fields: Any) -> Invocation:
    """A record of default/hello."""
    values = {
        "id": id_at(at_s, count), "at_s": at_s, "namespace": "default", "function": "hello", "version": 1,
        "status": "ok", "start_kind": "warm", "waterfall": Waterfall(run=1.5), "duration_ms": 1.5,
    }  # fmt: skip
    return Invocation(**{**values, **fields})


def line(text: str, at_s: float = NOW_S, **fields: Any) -> LogLine:
    """A line of default/hello."""
    values = {"at_s": at_s, "namespace": "default", "function": "hello", "version": 1, "instance": "i1", "text": text}
    return LogLine(**{**values, **fields})
