"""What a namespace keeps on disk, against its quota."""

from __future__ import annotations

from collections.abc import Iterable

from fuyun.decide.quotas import check_storage
from fuyun.domain.errors import NotFound, QuotaExceeded
from fuyun.domain.functions import Artifact, Version
from fuyun.ports.catalog import Catalog
from fuyun.ports.layers import LayerStore
from fuyun.services.tenants import Tenants

_PAGE = 500


class Storage:
    """Counts every content of a namespace once, however many versions and layers name it."""

    def __init__(self, catalog: Catalog, layers: LayerStore, tenants: Tenants) -> None:
        self._catalog = catalog
        self._layers = layers
        self._tenants = tenants
        self._stored: dict[
            str, dict[str, int]
        ] = {}  # namespace -> digest -> bytes; may hold what is gone, lacks nothing

    async def check(self, namespace: str, adding: Iterable[Artifact]) -> None:
        """QuotaExceeded when what is new of `adding` does not fit. Counts anew before it refuses."""
        quotas = self._tenants.quotas(namespace)
        known = namespace in self._stored
        adding = tuple(adding)
        while True:
            if not known:
                self._stored[namespace] = await self._used(namespace)
            stored = self._stored[namespace]
            fresh = {artifact.digest: artifact.size_bytes for artifact in adding if artifact.digest not in stored}
            try:
                check_storage(quotas, sum(stored.values()), sum(fresh.values()))
                return
            except QuotaExceeded:
                if not known:
                    raise
                known = False

    def add(self, namespace: str, added: Iterable[Artifact]) -> None:
        """The namespace keeps these from now on."""
        stored = self._stored.get(namespace)
        if stored is not None:
            stored.update(_sizes(added))

    async def _used(self, namespace: str) -> dict[str, int]:
        """Digest -> bytes of everything that versions of the namespace mount and its layers hold."""
        catalog = self._catalog
        used = dict(_sizes(await self._layers.contents(namespace)))
        after = ""
        while functions := await catalog.list_functions(namespace, after, _PAGE):
            for function in functions:
                number = -1
                while versions := await _versions(catalog, namespace, function.name, number):
                    for version in versions:
                        used.update(_sizes((version.code, *version.layers)))
                    number = versions[-1].number
            after = functions[-1].name
        return used


async def _versions(catalog: Catalog, namespace: str, function: str, after: int) -> list[Version]:
    try:
        return await catalog.list_versions(namespace, function, after, _PAGE)
    except NotFound:  # deleted since it was listed
        return []


def _sizes(artifacts: Iterable[Artifact]) -> Iterable[tuple[str, int]]:
    return ((artifact.digest, artifact.size_bytes) for artifact in artifacts)
