"""A process that moves aliases, rolls them back, deletes functions and makes them anew until it is killed.

Each lane does the same steps to a function of its own, one transaction each, and says on stdout when a step was
acknowledged: one line with the lane's number. `play` and `seen` tell the tests what so many steps lead to.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fuyun.domain.errors import NotFound
from fuyun.domain.functions import Weight
from fuyun.domain.tenants import Principal
from fuyun.ports.catalog import Catalog
from fuyun.services.functions import Functions
from fuyun.services.tenants import Tenants
from fuyun.testing.contracts.catalog import Stores
from fuyun.testing.contracts.samples import NOW_S, SPEC, artifact, entry
from tests.drivers.catalog.stores import opened

WHO = Principal(key_id="k", namespace="default", role="admin")


def name_of(lane: int) -> str:
    """The lane's function."""
    return f"f{lane}"


async def _nothing(namespace: str, function: str) -> None:
    pass


async def play(stores: Stores, lane: int) -> AsyncIterator[None]:
    """Do the lane's steps for ever; comes back after each."""
    catalog, name = stores.catalog, name_of(lane)
    functions = Functions(catalog, Tenants(stores.tenants, Path()), _nothing, lambda key: None)
    for life in itertools.count():
        for part in ("first", "second"):
            code = artifact(f"{part} {life}")
            await catalog.put_draft("default", name, SPEC, code, (), NOW_S, entry("deploy", target=name))
            yield
            await catalog.publish("default", name, part, NOW_S, lambda made: entry("publish", target=made.function))
            yield
        numbers = [version.number for version in await catalog.list_versions("default", name)]
        revision = 0
        for weights in ({numbers[1]: 100}, {numbers[1]: 90, numbers[2]: 10}, {numbers[2]: 100}):
            shares = tuple(Weight(version=number, weight=weight) for number, weight in weights.items())
            moved = await catalog.put_alias(
                "default", name, "live", shares, NOW_S, expected_revision=revision, entry=entry("alias", target=name)
            )
            revision = moved.revision
            yield
        for _ in range(2):
            await functions.rollback(WHO, "default", name, "live")
            yield
        await functions.delete_function(WHO, "default", name)
        yield


async def seen(stores: Stores, lane: int) -> dict[str, Any]:
    """All there is of the lane's function, without times and ids: itself, versions, aliases, its audit entries."""
    catalog, name = stores.catalog, name_of(lane)
    told = [found for found in await stores.tenants.audit(None, limit=10**6) if found.target == name]
    audit = sorted((found.action, found.detail) for found in told)
    try:
        function = await catalog.get_function("default", name)
    except NotFound:
        return {"audit": audit}
    return {
        "audit": audit,
        "last_version": function.last_version,
        "versions": await _versions(catalog, name),
        "aliases": [
            (alias.name, alias.weights, alias.previous, alias.revision)
            for alias in await catalog.list_aliases("default", name)
        ],
    }


async def _versions(catalog: Catalog, name: str) -> list[tuple[int, str, int, str]]:
    found = await catalog.list_versions("default", name)
    return [(version.number, version.code.digest, version.revision, version.description) for version in found]


async def main(folder: Path, lanes: int) -> None:
    async with opened(folder) as stores:

        async def run(lane: int) -> None:
            async for _ in play(stores, lane):
                print(lane, flush=True)

        await asyncio.gather(*(run(lane) for lane in range(lanes)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
