"""Object storage, put together: `wiring` builds it, the S3 endpoint and the control API use it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from fuyun.base.tasks import Scope
from fuyun.drivers.contents.folder import FolderContents
from fuyun.drivers.objects.buckets import SqlBuckets
from fuyun.drivers.objects.objects import SqlObjects
from fuyun.drivers.objects.uploads import SqlUploads
from fuyun.drivers.sql.sqlite import Database
from fuyun.services.buckets import Buckets
from fuyun.services.keeping import Keeper
from fuyun.services.objects import Objects
from fuyun.services.tenants import Tenants
from fuyun.services.uploads import Uploads
from fuyun.transports.s3.calls import Services


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What object storage stands on. `contents`: the folder of the bytes; `domain`: below which buckets are hosts."""

    database: Database
    tenants: Tenants
    scope: Scope
    contents: Path
    domain: str
    body_idle_s: float


async def open_objects(on: Surroundings) -> Services:
    """Buckets and what is in them; what nobody needs any more is removed until the scope closes."""
    database, tenants = on.database, on.tenants
    contents = await asyncio.to_thread(FolderContents.open_root, on.contents)
    store, held, under_way = SqlBuckets(database), SqlObjects(database), SqlUploads(database)
    objects = Objects(await Buckets.open(store, tenants), held, contents)
    keeper = Keeper(store, held, under_way, contents)
    objects.on_garbage = keeper.notice
    keeper.start(on.scope)
    return Services(
        tenants=tenants, buckets=objects.buckets, objects=objects, uploads=Uploads(objects, under_way, contents),
        domain=on.domain, body_idle_s=on.body_idle_s,
    )  # fmt: skip
