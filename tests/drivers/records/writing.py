"""A process that appends records and says, a line each, what has been in the files for sure; until it is killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from fuyun.drivers.records.folder import FolderRecords
from fuyun.testing.contracts.records import query
from fuyun.testing.contracts.samples import invocation, line


async def main(folder: Path) -> None:
    store = FolderRecords.open(folder)
    for count in range(10**6):
        store.append_nowait(invocation(count=count))
        store.append_nowait(line("x" * 5000))
        if count % 20 == 0:
            found = await store.list_invocations(query(limit=1))
            print(found[-1].id, flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
