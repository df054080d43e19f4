"""A process with an event path on a real database, and a function that answers at once; it may be killed at any moment.

It accepts so many invocations, says on stdout what was acknowledged (`accepted ID`) and what ran (`ran ID`), and ends
when nothing waits any more. With ticks, a timer fires every second until so many deliveries of it are done.
"""

from __future__ import annotations

import asyncio
import random
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from fuyun.base import ids
from fuyun.base.tasks import Scope
from fuyun.domain.deliveries import FINISHED, Order, Parcel
from fuyun.domain.events import Target
from fuyun.domain.triggers import TimerTrigger, Trigger
from fuyun.drivers.deliveries.sql import SqlDeliveries
from fuyun.drivers.records.folder import FolderRecords
from fuyun.drivers.sql.sqlite import Database
from fuyun.eventpath import EventPath, Surroundings
from fuyun.ports.deliveries import DeliveryQuery
from fuyun.testing.hosts import FakeCall
from tests.services.events import KnownTenants
from tests.services.platforms import Platform


def tell(call: FakeCall) -> None:
    print("ran", dict(call.head.headers)["fuyun-delivery"], flush=True)
    call.answer()


async def main(folder: Path, count: int, ticks: int) -> None:
    async with AsyncExitStack() as stack:
        database = await Database.open(folder / "fuyun.db")
        stack.push_async_callback(database.close)
        platform = Platform(0.0)
        platform.host.on_call = tell
        triggers = (Trigger(timer=TimerTrigger(every_s=1, missed="all")),) if ticks else ()
        await platform.deploy(triggers=triggers)
        await platform.dispatcher.open()
        stack.push_async_callback(platform.dispatcher.close, 5.0)
        scope = await stack.enter_async_context(Scope("test", lambda error: print("!", error, flush=True)))
        tenants: Any = KnownTenants(platform.quotas)
        path = EventPath.build(
            Surroundings(
                database=database, invoker=platform.dispatcher, table=platform.dispatcher._table, scope=scope,
                tenants=tenants, random=random.Random(1).random, retention_s=1e6, dead_letter_s=1e6,
                records=FolderRecords.open(folder / "records"),
            )
        )  # fmt: skip
        await path.open(stack)

        async def accept() -> None:
            target = Target(kind="function", name="f")
            id_ = await path.acceptor.accept(
                Order(id=ids.new_id(), namespace="default", target=target, parcel=Parcel(body=b"1"))
            )
            print("accepted", id_, flush=True)

        await asyncio.gather(*(accept() for _ in range(count)))
        store = SqlDeliveries(database)
        while True:
            found = await store.list_deliveries(DeliveryQuery(namespace="default", limit=10**6))
            if all(one.state in FINISHED for one in found) and len(found) >= ticks:
                return
            await asyncio.sleep(0.02)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
