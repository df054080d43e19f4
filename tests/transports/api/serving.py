"""The real API on a real socket, over the real services on SQLite and a folder; only the invoker is in memory."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from fuyun.base.tasks import Scope
from fuyun.domain.tenants import Role
from fuyun.drivers.blobs.folder import FolderBlobs
from fuyun.drivers.builds.images import ImageBuilder
from fuyun.drivers.builds.isolated import ProcessRunner
from fuyun.drivers.builds.jars import JarBuilder
from fuyun.drivers.builds.modules import ModuleBuilder
from fuyun.drivers.builds.nodecode import NodeCode
from fuyun.drivers.builds.npm import NpmBuilder, NpmOptions
from fuyun.drivers.catalog.functions import SqlCatalog
from fuyun.drivers.catalog.layers import SqlLayers
from fuyun.drivers.catalog.tenants import SqlTenants
from fuyun.drivers.contents.folder import FolderContents
from fuyun.drivers.instances.interpreters import Interpreters
from fuyun.drivers.instances.nodes import Nodes
from fuyun.drivers.objects.buckets import SqlBuckets
from fuyun.drivers.objects.objects import SqlObjects
from fuyun.drivers.records.folder import FolderRecords
from fuyun.drivers.sql.sqlite import Database
from fuyun.eventpath import EventPath, Surroundings
from fuyun.services.buckets import Buckets
from fuyun.services.deploying import Deployer, DeployParts
from fuyun.services.functions import Functions
from fuyun.services.gauges import Gauges
from fuyun.services.layers import Layers
from fuyun.services.measures import Measures
from fuyun.services.objects import Objects
from fuyun.services.queues import Queues
from fuyun.services.records import Records
from fuyun.services.routes import RouteTable
from fuyun.services.storage import Storage
from fuyun.services.tenants import PLATFORM, Tenants
from fuyun.transports.api.app import Limits, Services, create_app
from fuyun.transports.api.server import ApiServer
from tests.running import archive
from tests.transports.api.host import MemoryBuilder, MemoryHost
from tests.transports.api.invoker import MemoryInvoker


@dataclass(kw_only=True)
class Served:
    """A running API and everything below it."""

    url: str
    key: str  # the platform's
    http: httpx.AsyncClient  # with that key
    tenants: Tenants
    store: FolderRecords
    catalog: SqlCatalog
    blobs: FolderBlobs
    invoker: MemoryInvoker
    host: MemoryHost
    measures: Measures
    queues: Queues
    server: ApiServer
    gauges: Gauges = field(default_factory=Gauges)
    unready: str = ""

    async def token(self, namespace: str, role: Role = "admin") -> str:
        """A new key's token."""
        _, token = await self.tenants.create_key(PLATFORM, namespace, role, "test", None, "test")
        return token

    async def deploy(self, name: str, namespace: str = "default", **rest: Any) -> httpx.Response:
        """Upload a small archive and deploy it; `rest` are further fields of the request."""
        code = archive({"handler.py": "def handler(event, context):\n    return event\n"})
        base = f"/v1/namespaces/{namespace}"
        stored = await self.http.post(f"{base}/archives", content=code, headers={"content-type": "application/zip"})
        assert stored.status_code == 200, stored.text
        body = {"spec": {}, "code": stored.json()["digest"], **rest}
        return await self.http.put(f"{base}/functions/{name}", json=body)

    async def publish_layer(self, name: str, files: dict[str, str], namespace: str = "default") -> httpx.Response:
        """Upload an archive and publish it as a layer's next version."""
        base, headers = f"/v1/namespaces/{namespace}", {"content-type": "application/zip"}
        stored = await self.http.post(f"{base}/archives", content=archive(files), headers=headers)
        assert stored.status_code == 200, stored.text
        return await self.http.post(f"{base}/layers/{name}/versions", json={"content": stored.json()["digest"]})


def bearer(token: str) -> dict[str, str]:
    """Headers that carry a key."""
    return {"authorization": f"Bearer {token}"}


def _reloader(table: RouteTable, events: EventPath) -> Callable[[str, str], Awaitable[None]]:
    async def reload(namespace: str, function: str) -> None:
        await table.load(namespace, function)
        await events.changed()

    return reload


async def _opened(around: Surroundings, stack: AsyncExitStack) -> EventPath:
    events = EventPath.build(around)
    await events.open(stack)
    await events.buses.start(around.scope)
    return events


async def _objects(database: Database, tenants: Tenants, root: Path) -> Objects:
    contents = FolderContents.open_root(root / "contents")
    return Objects(await Buckets.open(SqlBuckets(database), tenants), SqlObjects(database), contents)


@asynccontextmanager
async def served(root: Path, limits: Limits | None = None) -> AsyncIterator[Served]:
    """Serve the API over stores in `root` for the time of the block."""
    async with AsyncExitStack() as stack:
        database = await Database.open(root / "fuyun.db")
        stack.push_async_callback(database.close)
        store = FolderRecords.open(root / "records")
        stack.push_async_callback(store.close)
        tenants = await Tenants.open(SqlTenants(database), root / "secret.key")
        key = await tenants.bootstrap("test")
        assert key is not None
        catalog, blobs = SqlCatalog(database), FolderBlobs.open(root / "objects")
        table, host, measures = RouteTable(catalog), MemoryHost(), Measures()
        invoker = MemoryInvoker(table)
        shared = SqlLayers(database)
        storage = Storage(catalog, shared, tenants)
        layers = Layers(shared, blobs, storage, tenants)
        objects = await _objects(database, tenants, root)
        nodes = Nodes(Interpreters().newest)
        packages = NpmBuilder(blobs, ProcessRunner(), nodes.get, root / "npm", NpmOptions(args=("--offline",), env={}))
        stack.push_async_callback(packages.close)
        node = NodeCode(blobs, ProcessRunner(), nodes.get, root / "node")
        stack.push_async_callback(node.close)
        scope = await stack.enter_async_context(Scope("served", lambda error: None))
        around = Surroundings(
            database=database, invoker=invoker, table=table, scope=scope, tenants=tenants,
            random=lambda: 0.5, records=store, retention_s=3600.0, dead_letter_s=3600.0,
        )  # fmt: skip
        events = await _opened(around, stack)
        reload = _reloader(table, events)
        parts = DeployParts(
            java=JarBuilder(blobs, ProcessRunner(), root / "java"),
            images=ImageBuilder(blobs, ProcessRunner(), root / "images"),
            node=node, packages=packages, catalog=catalog, blobs=blobs, host=host, tenants=tenants,
            builder=MemoryBuilder(blobs, root / "scratch"),
            modules=ModuleBuilder(blobs, ProcessRunner(), Interpreters().by_path, root / "modules"),
            interpreter_of=lambda runtime: Path(sys.executable), on_change=reload, layers=layers, storage=storage,
            record=store.append_nowait,
        )  # fmt: skip
        holder: list[Served] = []
        services = Services(
            tenants=tenants, records=Records(store, 3600.0), layers=layers, buckets=objects.buckets, objects=objects,
            s3_url=lambda: "http://127.0.0.1:8082", deployer=Deployer(parts),
            functions=Functions(catalog, tenants, reload, host.forget), invoker=invoker, measures=measures,
            deferring=events.deferring, oversight=events.oversight, triggers=events.governing,
            messaging=events.messaging, flows=events.flows, buses=events.buses, brokers=events.brokers,
            outside=events.outside, gauges=lambda: holder[0].gauges, plan_of=host.plan_of, inventory=host.inventory,
            unready=lambda: holder[0].unready, limits=limits or Limits(),
        )  # fmt: skip
        server = ApiServer(create_app(services), "127.0.0.1", 0)
        url = f"http://127.0.0.1:{await server.start()}"
        stack.push_async_callback(server.stop, 5.0)
        client = httpx.AsyncClient(base_url=url, headers=bearer(key), trust_env=False, verify=False)
        http = await stack.enter_async_context(client)
        holder.append(
            Served(
                url=url, key=key, http=http, tenants=tenants, store=store, catalog=catalog, blobs=blobs,
                invoker=invoker, host=host, measures=measures, queues=events.messaging.queues, server=server,
            )
        )  # fmt: skip
        yield holder[0]
