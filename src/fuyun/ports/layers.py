"""Layers, durably."""

from __future__ import annotations

from typing import Protocol

from fuyun.domain.functions import Artifact
from fuyun.domain.layers import LayerVersion
from fuyun.domain.tenants import AuditEntry


class LayerStore(Protocol):
    """The truth about layers. Same durability and errors as `ports.catalog.Catalog`.

    A layer is there while it has a version. Numbers start at 1 and are never reused, not even after a layer lost its
    last version. The bytes are a blob store's (`ports.blobs`): deleting a version here takes nothing from functions
    that mount it, since their versions name the content themselves.
    """

    async def publish(
        self,
        namespace: str,
        name: str,
        content: Artifact,
        description: str,
        now_s: float,
        entry: AuditEntry | None = None,
    ) -> LayerVersion:
        """Give `content` the layer's next number. The content of the newest version published again gives that version,
        which is no change: `entry` is not written. NotFound when the namespace is absent."""
        ...

    async def get(self, namespace: str, name: str, number: int = 0) -> LayerVersion:
        """Version `number`, or the newest (0). NotFound when absent."""
        ...

    async def list_layers(self, namespace: str, after: str = "", limit: int = 100) -> list[LayerVersion]:
        """The newest version of each of the namespace's layers: `limit` of them, by name, after the name `after`."""
        ...

    async def list_versions(self, namespace: str, name: str, after: int = 0, limit: int = 100) -> list[LayerVersion]:
        """A page of versions, by number. NotFound when the layer is absent."""
        ...

    async def delete(self, namespace: str, name: str, number: int, entry: AuditEntry | None = None) -> None:
        """NotFound when absent."""
        ...

    async def contents(self, namespace: str) -> frozenset[Artifact]:
        """Everything that versions of the namespace's layers hold; "*" is every namespace."""
        ...
