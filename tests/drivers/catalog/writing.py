"""A process that writes until it is killed, and says what was acknowledged: one name a line on stdout.

With a third argument its files may grow to that many bytes only; it says the refusal after a "!" and ends.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from pathlib import Path

from fuyun.domain.errors import FuyunError
from fuyun.domain.functions import Version
from fuyun.domain.tenants import AuditEntry
from fuyun.testing.contracts.samples import CODE, NOW_S, SPEC, entry
from tests.drivers.catalog.stores import opened


def published(version: Version) -> AuditEntry:
    return entry("publish", target=version.function)


async def main(folder: Path, lanes: int, limit_bytes: int) -> None:
    async with opened(folder) as stores:
        if limit_bytes:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

        async def write(lane: int) -> None:
            for count in range(100_000):
                name = f"f{lane}-{count}"
                try:
                    await stores.catalog.put_draft("default", name, SPEC, CODE, (), NOW_S, entry("deploy", target=name))
                    version = await stores.catalog.publish("default", name, "", NOW_S, published)
                except FuyunError as error:
                    print(f"! {error.code} {error.hint}", flush=True)
                    return
                assert version.number == 1
                print(name, flush=True)

        await asyncio.gather(*(write(lane) for lane in range(lanes)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int([*sys.argv, 0][3])))
