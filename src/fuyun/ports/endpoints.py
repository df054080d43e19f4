"""HTTP endpoints of others: where they are kept, and how something is sent to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from fuyun.domain.endpoints import HttpEndpoint
from fuyun.domain.tenants import AuditEntry


class EndpointStore(Protocol):
    """Durable when a write returns; an `entry` joins the audit log in the same transaction. StorageFull."""

    async def list_endpoints(self) -> list[HttpEndpoint]:
        """All, by namespace and name."""
        ...

    async def put(self, endpoint: HttpEndpoint, entry: AuditEntry | None = None) -> None:
        """Keep it in place of the one of that name. NotFound when the namespace is gone."""
        ...

    async def delete(self, namespace: str, name: str, entry: AuditEntry | None = None) -> None:
        """NotFound."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What an endpoint answered: header fields with lower-case names. Its body is nobody's business."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)


class Sender(Protocol):
    """Sends requests to addresses that may be reached, and only to those: a name is looked up once, its addresses are
    checked, and one of them is connected to. Redirects are answers like others.

    Raises Forbidden for an address that may not be reached, EndpointFailed when there is no answer in time.
    """

    async def ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Said:
        """Send one request and wait for the head of its answer."""
        ...

    async def close(self) -> None:
        """End all connections."""
        ...
