"""Namespaces, keys, secrets and the audit log, durably."""

from __future__ import annotations

from typing import Protocol

from fuyun.domain.tenants import AuditEntry, Key, Namespace, Quotas


class TenantStore(Protocol):
    """The truth about tenants. Same durability and errors as `ports.catalog.Catalog`. Secrets arrive sealed.

    A new store holds the namespace `default`. An `entry` given to a write joins the audit log in the same transaction:
    both are kept, or neither.
    """

    async def create_namespace(self, namespace: Namespace, entry: AuditEntry | None = None) -> None:
        """Conflict when the name is taken."""
        ...

    async def list_namespaces(self) -> list[Namespace]:
        """All, by name."""
        ...

    async def set_quotas(self, name: str, quotas: Quotas, entry: AuditEntry | None = None) -> Namespace:
        """Replace the quotas; NotFound when absent."""
        ...

    async def delete_namespace(self, name: str, entry: AuditEntry | None = None) -> None:
        """Conflict while it holds functions; NotFound when absent. Its keys, secrets and layers go with it."""
        ...

    async def create_key(self, key: Key, token_sha256: bytes, entry: AuditEntry | None = None) -> None:
        """Store a key by the SHA-256 (32 bytes) of its token. NotFound when its namespace (not "*") is absent."""
        ...

    async def list_keys(self) -> list[tuple[Key, bytes]]:
        """All keys with their token hashes, by id; the platform authenticates from memory."""
        ...

    async def delete_key(self, key_id: str, entry: AuditEntry | None = None) -> None:
        """NotFound when absent."""
        ...

    async def put_secret(
        self, namespace: str, name: str, sealed: bytes | None, entry: AuditEntry | None = None
    ) -> None:
        """Store, replace or (None) delete a sealed secret; deleting an absent one raises NotFound, as does an
        absent namespace."""
        ...

    async def list_secrets(self, namespace: str) -> dict[str, bytes]:
        """Name -> sealed bytes."""
        ...

    async def audit(
        self, entry: AuditEntry | None, namespace: str = "*", after: str = "", limit: int = 100
    ) -> list[AuditEntry]:
        """Append `entry` when given (returns []); else a page of entries with id > `after`, oldest first."""
        ...
