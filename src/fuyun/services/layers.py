"""Layers: published from uploaded archives, listed, deleted.

Changes take the principal that asks and the address it asks from, check what it may do, and are written in one
transaction with their audit entry. Reads take no principal: whoever offers them checks (`Principal.require`).
"""

from __future__ import annotations

from fuyun.base import clock
from fuyun.domain.errors import NotFound
from fuyun.domain.layers import LayerVersion
from fuyun.domain.names import check_name, nearest
from fuyun.domain.tenants import Principal
from fuyun.ports.blobs import BlobStore
from fuyun.ports.layers import LayerStore
from fuyun.services.storage import Storage
from fuyun.services.tenants import Tenants, entry_of

_PAGE = 500


class Layers:
    """One per platform."""

    def __init__(self, store: LayerStore, blobs: BlobStore, storage: Storage, tenants: Tenants) -> None:
        self._store = store
        self._blobs = blobs
        self._storage = storage
        self._tenants = tenants

    async def list_layers(self, namespace: str, after: str = "", limit: int = 100) -> list[LayerVersion]:
        """A page of layers by name, each as its newest version. NotFound when the namespace is absent."""
        await self._tenants.get_namespace(namespace)
        return await self._store.list_layers(namespace, after, limit)

    async def list_versions(self, namespace: str, name: str, after: int = 0, limit: int = 100) -> list[LayerVersion]:
        """A page of versions by number. NotFound when the layer is absent."""
        await self.get_layer(namespace, name)
        return await self._store.list_versions(namespace, name, after, limit)

    async def get_layer(self, namespace: str, name: str, number: int = 0) -> LayerVersion:
        """Version `number` of a layer, or its newest (0). NotFound names the nearest layer there is."""
        try:
            return await self._store.get(namespace, name, number)
        except NotFound as exc:
            if exc.fields.get("name") != name:  # the layer is there, the version is not
                raise
            names = [layer.name for layer in await self._store.list_layers(namespace, limit=_PAGE)]
            close = nearest(name, names)
            hint = f"did you mean {close!r}?" if close else f"publish it: fuyun layer publish {name} FOLDER"
            raise NotFound(exc.detail, hint=hint, kind="layer", name=name) from exc

    async def publish(
        self,
        principal: Principal,
        namespace: str,
        name: str,
        content: str,
        description: str = "",
        source: str = "",
    ) -> LayerVersion:
        """Give the archive uploaded as `content` (a digest) the layer's next number; what the newest version holds
        already gives that version. BadRequest, NotFound (namespace, archive), QuotaExceeded."""
        principal.require("deploy", namespace)
        check_name("layer", name)
        await self._tenants.get_namespace(namespace)
        stored = await self._blobs.find(content)
        if stored is None:
            raise NotFound(
                f"content: nothing is stored under {content}",
                hint="upload the archive, then publish it", kind="archive", name=content,
            )  # fmt: skip
        await self._storage.check(namespace, (stored,))
        entry = entry_of(principal, namespace, "layer.publish", name, source, f"content {content[:12]}")
        made = await self._store.publish(namespace, name, stored, description, clock.wall_s(), entry)
        self._storage.add(namespace, (stored,))
        return made

    async def delete(self, principal: Principal, namespace: str, name: str, number: int, source: str = "") -> None:
        """NotFound when absent. Functions that mount the version keep it: their versions name its content."""
        principal.require("delete", namespace)
        await self.get_layer(namespace, name, number)
        entry = entry_of(principal, namespace, "layer.delete", name, source, f"version {number}")
        await self._store.delete(namespace, name, number, entry)
