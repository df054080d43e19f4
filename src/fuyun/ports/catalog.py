"""Functions, versions and aliases, durably."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from fuyun.domain.functions import Alias, Artifact, Function, FunctionSpec, Version, Weight
from fuyun.domain.tenants import AuditEntry


class Catalog(Protocol):
    """The truth about functions.

    Every write is one transaction and is on disk when it returns. Reads see every write that returned before. Version
    numbers are never reused, not even after `delete_function`. Raises NotFound, Conflict, PreconditionFailed,
    StorageFull. Lists are ordered by name (versions by number), `limit` items after `after`.

    An `entry` given to a write joins the audit log (`ports.tenants.TenantStore`) in the same transaction: both are
    kept, or neither.
    """

    async def put_draft(
        self,
        namespace: str,
        function: str,
        spec: FunctionSpec,
        code: Artifact,
        layers: tuple[Artifact, ...],
        now_s: float,
        entry: AuditEntry | None = None,
    ) -> Version:
        """Create the function or replace its draft (`$LATEST`, number 0); its revision rises by one.

        NotFound when the namespace is absent, QuotaExceeded when it has its quota of functions already."""
        ...

    async def publish(
        self,
        namespace: str,
        function: str,
        description: str,
        now_s: float,
        entry: Callable[[Version], AuditEntry] | None = None,
    ) -> Version:
        """Freeze the draft as the next number. The same draft published twice in a row gives the same version, which is
        no change: `entry`, called with the version that was made, is not. It may be called on any thread."""
        ...

    async def get_function(self, namespace: str, function: str) -> Function:
        """NotFound when absent."""
        ...

    async def list_functions(self, namespace: str, after: str = "", limit: int = 100) -> list[Function]:
        """A page of the namespace's functions; "*" lists every namespace's, ordered by namespace/name."""
        ...

    async def get_version(self, namespace: str, function: str, number: int) -> Version:
        """Version `number` (0 is the draft); NotFound when absent."""
        ...

    async def list_versions(self, namespace: str, function: str, after: int = -1, limit: int = 100) -> list[Version]:
        """A page of versions, the draft first; NotFound when the function is absent."""
        ...

    async def delete_function(self, namespace: str, function: str, entry: AuditEntry | None = None) -> None:
        """Remove the function, its versions and aliases. NotFound when absent."""
        ...

    async def put_alias(
        self,
        namespace: str,
        function: str,
        name: str,
        weights: tuple[Weight, ...],
        now_s: float,
        sticky_header: str = "",
        expected_revision: int | None = None,
        entry: AuditEntry | None = None,
    ) -> Alias:
        """Create or move an alias. `previous` becomes what it was, unless the weights stay the same.

        `expected_revision` 0 means "must not exist"; another value than the current one raises PreconditionFailed. A
        revision is never reused, not even after `delete_alias`. NotFound when a version is absent."""
        ...

    async def list_aliases(self, namespace: str, function: str) -> list[Alias]:
        """All aliases of the function, by name; NotFound when the function is absent."""
        ...

    async def delete_alias(
        self,
        namespace: str,
        function: str,
        name: str,
        expected_revision: int | None = None,
        entry: AuditEntry | None = None,
    ) -> None:
        """NotFound when absent, PreconditionFailed when it is not at `expected_revision`."""
        ...
