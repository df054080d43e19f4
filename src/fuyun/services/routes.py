"""The routing table: which function and version a path or name means. In memory; rebuilt when the catalog changes."""

from __future__ import annotations

from dataclasses import dataclass, field

from fuyun.domain.functions import Auth, Cors, Version


@dataclass(slots=True)
class Route:
    """Where a request goes before its version is chosen. Raises nothing; `Invoker.begin` may."""

    namespace: str
    function: str
    qualifier: str  # as asked: "$LATEST", "3" or an alias
    base: str  # the part of the path that named the function, without trailing slash; "" for a trigger at its own path
    auth: Auth
    methods: frozenset[str]  # empty: any
    cors: Cors | None
    sticky_header: str  # lower-case header whose value pins the version, "" for none
    payload_bytes: int
    choices: list[tuple[float, Version]] = field(default_factory=list)  # (cumulative weight up to 100, version)
