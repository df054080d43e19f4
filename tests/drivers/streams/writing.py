"""A process that appends records and changes a table until it is killed, and says what was acknowledged: one line each
on stdout, `append PARTITION OFFSET TEXT` or `change KEY N`.

With a third argument its files may grow to that many bytes only; it says the refusal after a "!" and ends.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from pathlib import Path

from fuyun.domain.errors import FuyunError
from fuyun.domain.streams import StreamSpec
from fuyun.domain.tables import Change, Index, TableSpec
from fuyun.domain.tenants import Quotas
from fuyun.drivers.sql.sqlite import Database
from fuyun.drivers.streams.store import SqlStreams
from fuyun.drivers.tables.store import SqlTables
from fuyun.testing.contracts.samples import NOW_S
from fuyun.testing.contracts.streams import record

STREAM = StreamSpec(partitions=2, versioned=True, retention_s=50.0)
TABLE = TableSpec(indexes=(Index(name="by-n", partition_key="n"),))


async def main(folder: Path, lanes: int, limit_bytes: int) -> None:
    database = await Database.open(folder / "fuyun.db")
    streams, tables = SqlStreams(database), SqlTables(database)
    await streams.put("default", "s", STREAM, Quotas(), NOW_S)
    await tables.put("default", "t", TABLE, Quotas(), NOW_S)
    if limit_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    async def write(lane: int) -> None:
        for count in range(100_000):
            texts = [f"{lane}-{count}-{place}" for place in range(3)]
            records = [record(text, f"k{lane}", expected=3 * count + place) for place, text in enumerate(texts)]
            now_s = NOW_S + count
            try:
                made = await streams.append(
                    "default", "s", records, Quotas(), now_s, producer=f"p{lane}", sequence=count + 1
                )
                for text, one in zip(texts, made, strict=True):
                    print("append", one.partition, one.offset, text, flush=True)
                changes = [Change(update={"id": f"{lane}-{half}"}, set={"n": count}) for half in "ab"]
                await tables.write("default", "t", changes, Quotas(), now_s)
                print("change", f"{lane}-a", count, flush=True)
                if lane == 0:
                    await streams.trim(now_s, 20)
            except FuyunError as error:
                print(f"! {error.code} {error.hint}", flush=True)
                return

    try:
        await asyncio.gather(*(write(lane) for lane in range(lanes)))
    finally:
        await database.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int([*sys.argv, 0][3])))
