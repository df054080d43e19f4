"""A platform's middle: real catalog, tenants, blobs and builds, and an instance host that only remembers."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fuyun.base.archive import pack
from fuyun.domain.errors import NotFound
from fuyun.domain.functions import FunctionSpec, Version
from fuyun.domain.invocations import Invocation
from fuyun.domain.tenants import Principal
from fuyun.drivers.blobs.folder import FolderBlobs
from fuyun.drivers.builds.images import ImageBuilder
from fuyun.drivers.builds.isolated import ProcessRunner
from fuyun.drivers.builds.jars import JarBuilder
from fuyun.drivers.builds.modules import ModuleBuilder
from fuyun.drivers.builds.nodecode import NodeCode
from fuyun.drivers.builds.npm import NpmBuilder, NpmOptions
from fuyun.drivers.builds.uv import UvBuilder, UvOptions
from fuyun.drivers.catalog.functions import SqlCatalog
from fuyun.drivers.catalog.layers import SqlLayers
from fuyun.drivers.catalog.tenants import SqlTenants
from fuyun.drivers.instances.interpreters import Interpreters
from fuyun.drivers.instances.nodes import Nodes
from fuyun.drivers.sql.sqlite import Database
from fuyun.ports.instances import Instance, StartReport, WarmUpReport
from fuyun.services.collecting import Collector
from fuyun.services.deploying import Deployer, DeployParts, DeployRequest
from fuyun.services.functions import Functions
from fuyun.services.layers import Layers
from fuyun.services.storage import Storage
from fuyun.services.tenants import Tenants
from fuyun.testing.contracts.blobs import pieces

PYTHON = Path(getattr(sys, "_base_executable", sys.executable))
INTERPRETERS = Interpreters()
DEVELOPER = Principal(key_id="dev", namespace="default", role="developer")
VIEWER = Principal(key_id="view", namespace="default", role="viewer")


class RememberingHost:
    """An `InstanceHost` that starts nothing. `warm`: what a real one would keep; `fail`: what the next start raises."""

    def __init__(self) -> None:
        self.warm: dict[str, dict[str, str]] = {}
        self.prepared: list[Version] = []
        self.fail: BaseException | None = None
        self.call: WarmUpReport | None = None
        self.before: Callable[[Version], Any] | None = None

    async def start(
        self, version: Version, env: dict[str, str], on_gone: Callable[[Instance, Exception], None]
    ) -> Instance:
        raise AssertionError("a deployment starts nothing but the warm-up")

    async def prepare(self, version: Version, env: dict[str, str]) -> StartReport:
        if self.before is not None:
            await self.before(version)
        self.prepared.append(version)
        self.warm[version.key] = env
        if self.fail is not None:
            raise self.fail
        return StartReport(kind="template", place_ms=1, start_ms=2, init_ms=21, forkable=True, warm_up=self.call)

    def forget(self, version_key: str) -> None:
        self.warm.pop(version_key, None)

    async def inventory(self) -> dict[str, Any]:
        return {}

    async def close(self) -> None:
        return None


class Bench:
    """Everything a deployment touches."""

    root: Path
    catalog: SqlCatalog
    tenants: Tenants
    blobs: FolderBlobs
    builder: UvBuilder
    modules: ModuleBuilder
    java: JarBuilder
    node: NodeCode
    packages: NpmBuilder
    deployer: Deployer
    functions: Functions
    layers: Layers
    collector: Collector

    def __init__(self) -> None:
        self.host = RememberingHost()
        self.lines: list[str] = []
        self.records: list[Invocation] = []
        self.routed: dict[str, list[int]] = {}  # function -> versions the routes knew after the last change

    async def on_change(self, namespace: str, function: str) -> None:
        try:
            versions = await self.catalog.list_versions(namespace, function)
        except NotFound:
            self.routed.pop(function, None)
        else:
            self.routed[function] = [version.number for version in versions]

    async def upload(self, **files: str) -> str:
        """The digest of an archive of `files` (name__py -> name.py)."""
        packed = _packed(self.root / f"code{len(list(self.root.glob('code*')))}", files)
        return (await self.deployer.upload("default", pieces(packed))).digest

    async def deploy(
        self, function: str = "f", code: str = "", spec: FunctionSpec | None = None, **request: Any
    ) -> Version:
        code = code or await self.upload(app__py="def handler(event, context):\n    return 1\n")
        request = {"spec": spec or FunctionSpec(handler="app.handler"), "code": code, **request}
        return await self.deployer.deploy(
            DEVELOPER, "default", function, DeployRequest(**request), self.lines.append, "192.0.2.7"
        )

    async def audited(self) -> list[tuple[str, str, str]]:
        return [(item.action, item.target, item.detail) for item in await self.tenants.list_audit("default")]


def _packed(folder: Path, files: dict[str, str]) -> bytes:
    folder.mkdir()
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return pack(folder)


@asynccontextmanager
async def bench(root: Path) -> AsyncIterator[Bench]:
    """A bench over a fresh folder; wheels for builds are taken from `root/wheels`."""
    b = Bench()
    b.root = root
    database = await Database.open(root / "fuyun.db")
    (root / "wheels").mkdir()
    b.catalog = SqlCatalog(database)
    b.tenants = await Tenants.open(SqlTenants(database), root / "secret.key")
    b.blobs = FolderBlobs.open(root / "objects")
    options = UvOptions(args=("--no-index", "--find-links", str(root / "wheels")), env={})
    b.builder = UvBuilder(b.blobs, ProcessRunner(), INTERPRETERS.by_path, root / "builds", options)
    b.modules = ModuleBuilder(b.blobs, ProcessRunner(), INTERPRETERS.by_path, root / "modules")
    b.java = JarBuilder(b.blobs, ProcessRunner(), root / "java")
    nodes = Nodes(INTERPRETERS.newest)
    b.node = NodeCode(b.blobs, ProcessRunner(), nodes.get, root / "node")
    offline = NpmOptions(args=("--offline",), env={})
    b.packages = NpmBuilder(b.blobs, ProcessRunner(), nodes.get, root / "builds/npm", offline)
    store = SqlLayers(database)
    storage = Storage(b.catalog, store, b.tenants)
    b.layers = Layers(store, b.blobs, storage, b.tenants)
    b.collector = Collector(b.catalog, store, b.blobs)
    b.deployer = Deployer(
        DeployParts(
            catalog=b.catalog,
            blobs=b.blobs,
            builder=b.builder,
            modules=b.modules,
            java=b.java,
            node=b.node,
            packages=b.packages,
            images=ImageBuilder(b.blobs, ProcessRunner(), root / "images"),
            host=b.host,
            tenants=b.tenants,
            layers=b.layers,
            storage=storage,
            interpreter_of=lambda runtime: (
                PYTHON if runtime == "python3" else Path(INTERPRETERS.by_runtime(runtime).executable)
            ),
            on_change=b.on_change,
            upload_bytes=10 * 2**20,
            record=b.records.append,
        )
    )
    b.functions = Functions(b.catalog, b.tenants, b.on_change, b.host.forget)
    try:
        yield b
    finally:
        await b.packages.close()
        await b.builder.close()
        await b.modules.close()
        await b.java.close()
        await b.node.close()
        await database.close()
