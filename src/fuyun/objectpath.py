"""Object storage, put together: `wiring` builds it, the S3 endpoint and the control API use it."""

from __future__ import annotations

import asyncio

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
from fuyun.settings import Settings
from fuyun.transports.s3.calls import Services


async def open_objects(settings: Settings, database: Database, tenants: Tenants, scope: Scope) -> Services:
    """Buckets and what is in them; what nobody needs any more is removed until the scope closes."""
    contents = await asyncio.to_thread(FolderContents.open_root, settings.data_path / "contents")
    store, held, under_way = SqlBuckets(database), SqlObjects(database), SqlUploads(database)
    objects = Objects(await Buckets.open(store, tenants), held, contents)
    keeper = Keeper(store, held, under_way, contents)
    objects.on_garbage = keeper.notice
    keeper.start(scope)
    return Services(
        tenants=tenants, buckets=objects.buckets, objects=objects, uploads=Uploads(objects, under_way, contents),
        domain=settings.s3_domain, body_idle_s=settings.body_idle_s,
    )  # fmt: skip
