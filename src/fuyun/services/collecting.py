"""Takes back the room of code and layers that nothing names any more."""

from __future__ import annotations

import asyncio

import structlog

from fuyun.base.tasks import Scope
from fuyun.domain.errors import FuyunError
from fuyun.domain.functions import Version
from fuyun.ports.blobs import BlobStore
from fuyun.ports.catalog import Catalog
from fuyun.ports.layers import LayerStore

_log = structlog.get_logger("fuyun.collect")

#: An artifact is safe this long after it was stored: a deployment between upload and commit needs it.
AGE_S = 86400.0
_EVERY_S = 6 * 3600.0
_PAGE = 1000


class Collector:
    """Collects a minute after the start and every six hours."""

    def __init__(self, catalog: Catalog, layers: LayerStore, blobs: BlobStore) -> None:
        self._catalog = catalog
        self._layers = layers
        self._blobs = blobs

    def start(self, scope: Scope) -> None:
        """Run until the scope closes."""
        scope.start(self._run(), "collect")

    async def collect(self, older_than_s: float = AGE_S) -> int:
        """Remove what no version mounts, no layer holds and is older than that; bytes freed."""
        keep = {content.digest for content in await self._layers.contents("*")}
        after = ""
        while True:
            functions = await self._catalog.list_functions("*", after, _PAGE)
            for function in functions:
                for version in await self._versions(function.namespace, function.name):
                    keep |= {artifact.digest for artifact in (version.code, *version.layers)}
            if len(functions) < _PAGE:
                break
            after = f"{functions[-1].namespace}/{functions[-1].name}"
        return await self._blobs.collect(frozenset(keep), older_than_s)

    async def _versions(self, namespace: str, function: str) -> list[Version]:
        found: list[Version] = []
        while True:
            page = await self._catalog.list_versions(namespace, function, found[-1].number if found else -1, _PAGE)
            found += page
            if len(page) < _PAGE:
                return found

    async def _run(self) -> None:
        await asyncio.sleep(60.0)
        while True:
            try:
                freed = await self.collect()
                if freed:
                    _log.info("unused artifacts removed", bytes=freed)
            except FuyunError as error:
                _log.warning("unused artifacts could not be removed", error=error.detail)
            await asyncio.sleep(_EVERY_S)
