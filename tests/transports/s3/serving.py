"""A process that serves S3 over a folder until its stdin closes: everything but functions is the platform's.

    python -m tests.transports.s3.serving FOLDER

prints one JSON line: the port, and an access key and its secret by name (`admin` of the platform, `acme` a developer of
namespace acme, `viewer` and `invoker` of it). `LEAST_PART_BYTES` in the environment is the size of the smallest part.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from fuyun.base.tasks import Scope
from fuyun.domain.objects import LEAST_PART_BYTES
from fuyun.domain.tenants import Quotas, Role
from fuyun.drivers.catalog.tenants import SqlTenants
from fuyun.drivers.contents.folder import FolderContents
from fuyun.drivers.objects.buckets import SqlBuckets
from fuyun.drivers.objects.objects import SqlObjects
from fuyun.drivers.objects.uploads import SqlUploads
from fuyun.drivers.sql.sqlite import Database
from fuyun.services.buckets import Buckets
from fuyun.services.keeping import Keeper
from fuyun.services.objects import Objects
from fuyun.services.tenants import PLATFORM, Tenants
from fuyun.services.uploads import Uploads
from fuyun.transports.s3.app import S3App, S3Server
from fuyun.transports.s3.calls import Services

#: Bytes that buckets of namespace `small` may hold.
SMALL_BYTES = 100_000


async def _keys(tenants: Tenants) -> dict[str, tuple[str, str]]:
    """Namespaces and keys, made where they are not there yet."""
    known = {namespace.name for namespace in await tenants.list_namespaces()}
    if "acme" not in known:
        await tenants.create_namespace(PLATFORM, "acme", Quotas(buckets=1000), "test")
        await tenants.create_namespace(PLATFORM, "small", Quotas(buckets=2, object_bytes=SMALL_BYTES), "test")
        roles: list[tuple[str, str, Role]] = [
            ("admin", "*", "admin"),
            ("acme", "acme", "developer"),
            ("viewer", "acme", "viewer"),
            ("invoker", "acme", "invoker"),
            ("small", "small", "developer"),
        ]
        for name, namespace, role in roles:
            await tenants.create_key(PLATFORM, namespace, role, name, None, "test")
    found = [key for namespace in ("*", "acme", "small") for key in await tenants.list_keys(namespace)]
    return {key.name: (key.id, tenants.access_secret(key.id)) for key in found}


async def serve(root: Path) -> None:
    """Until stdin closes."""
    async with AsyncExitStack() as stack:
        database = await Database.open(root / "fuyun.db")
        stack.push_async_callback(database.close)
        tenants = await Tenants.open(SqlTenants(database), root / "secret.key")
        contents = await asyncio.to_thread(FolderContents.open_root, root / "contents")
        store, held, under_way = SqlBuckets(database), SqlObjects(database), SqlUploads(database)
        objects = Objects(await Buckets.open(store, tenants), held, contents)
        scope = await stack.enter_async_context(Scope("serving", lambda error: print(error, file=sys.stderr)))
        keeper = Keeper(store, held, under_way, contents)
        objects.on_garbage = keeper.notice
        keeper.start(scope)
        services = Services(
            tenants=tenants,
            buckets=objects.buckets,
            objects=objects,
            uploads=Uploads(objects, under_way, contents, int(os.environ.get("LEAST_PART_BYTES", LEAST_PART_BYTES))),
        )
        server = S3Server(S3App(services), "127.0.0.1", 0)
        ready: dict[str, Any] = {"port": await server.start(), "keys": await _keys(tenants)}
        stack.push_async_callback(server.stop, 5.0)
        print(json.dumps(ready), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve(Path(sys.argv[1])))
