"""The one file that knows everything: settings -> drivers -> services -> transports, undone in reverse."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import gc
import hashlib
import logging
import resource
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import structlog

from fuyun import objectpath
from fuyun.base.tasks import Scope
from fuyun.domain.errors import HostUnable
from fuyun.domain.runtimes import NODES
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
from fuyun.drivers.instances import memory
from fuyun.drivers.instances.host import HostOptions, LocalHost
from fuyun.drivers.instances.interpreters import Interpreter, Interpreters
from fuyun.drivers.instances.nodes import Nodes
from fuyun.drivers.records.folder import FolderRecords
from fuyun.drivers.sql.sqlite import Database
from fuyun.eventpath import EventPath, Surroundings
from fuyun.objectpath import open_objects
from fuyun.services import calendar
from fuyun.services.collecting import Collector
from fuyun.services.credentials import Credentials
from fuyun.services.deploying import Deployer, DeployParts
from fuyun.services.dispatching import Dispatcher
from fuyun.services.environments import environment_of
from fuyun.services.functions import Functions
from fuyun.services.gauges import StartBudget
from fuyun.services.layers import Layers
from fuyun.services.measures import Measures
from fuyun.services.objectoffers import ObjectOffer
from fuyun.services.records import Records
from fuyun.services.routes import RouteTable
from fuyun.services.sealing import identity_of, load_key
from fuyun.services.storage import Storage
from fuyun.services.tenants import Tenants
from fuyun.services.triggers import objects as object_triggers
from fuyun.settings import Settings
from fuyun.transports.api import calls
from fuyun.transports.api.app import create_app
from fuyun.transports.api.server import ApiServer
from fuyun.transports.gateway.inward import Inward
from fuyun.transports.gateway.limits import GatewayLimits
from fuyun.transports.gateway.server import Gateway
from fuyun.transports.s3.app import S3App, S3Server
from fuyun.transports.s3.calls import Services as ObjectStorage

_log = structlog.get_logger("fuyun")
#: Open files and sockets of the platform at most, if the host allows as many.
_DESCRIPTORS = 2**18


#: `(namespace, function)`: a function changed.
Reload = Callable[[str, str], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Running:
    """A platform that serves."""

    gateway_url: str
    api_url: str
    s3_url: str
    admin_key: str | None  # the first key, told once
    report: list[str]  # what the host gives and what not, for people


#: Requests leave nothing for the collector (a test holds them to it); with the usual 700 it looks 20 times a second.
_GC = (20_000, 10, 10)


async def serve(settings: Settings, on_ready: Callable[[Running], None]) -> int:
    """Run the platform until SIGTERM or SIGINT, then drain and end; the number of the signal. HostUnable, StorageFull,
    SchemaTooNew, OSError (a port in use) when it cannot start; nothing is left running then."""
    _configure_log(settings.log_level)
    _allow_descriptors()
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[int] = loop.create_future()

    def on_signal(number: int) -> None:
        if not stop.done():
            stop.set_result(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    async with AsyncExitStack() as stack:
        running = await _build(settings, stack)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC)
        on_ready(running)
        await stop
        _log.info("stopping")
    return stop.result()


@dataclass(frozen=True, kw_only=True)
class _Drivers:
    """What services are built on, open."""

    database: Database
    catalog: SqlCatalog
    layers: SqlLayers
    blobs: FolderBlobs
    store: FolderRecords
    interpreters: Interpreters
    host: LocalHost
    builder: UvBuilder
    modules: ModuleBuilder
    java: JarBuilder
    node: NodeCode
    packages: NpmBuilder
    images: ImageBuilder
    notes: list[str]


async def _build(settings: Settings, stack: AsyncExitStack) -> Running:
    data = settings.data_path
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    scope = await stack.enter_async_context(Scope("platform", _task_failed))
    drivers = await _open_drivers(settings, stack)
    tenants = await Tenants.open(SqlTenants(drivers.database), data / "secret.key")
    admin_key = await tenants.bootstrap("fuyun up")
    objects = await open_objects(
        objectpath.Surroundings(
            database=drivers.database, tenants=tenants, scope=scope, contents=data / "contents",
            domain=settings.s3_domain, body_idle_s=settings.body_idle_s,
        )
    )  # fmt: skip
    dispatcher, services, events = await _make_services(settings, drivers, tenants, objects, scope, stack)
    events.flows.start(scope)
    await events.buses.start(scope)

    # transports
    state = {"unready": "starting", "gateway": "", "s3": ""}
    deferred, receiving = events.deferring.of("gateway"), events.outside.webhooks
    gateway = Gateway(dispatcher, tenants.authenticate, _gateway_limits(settings), deferred, receiving)
    services = dataclasses.replace(
        services,
        gauges=lambda: dataclasses.replace(
            dispatcher.gauges(gateway.stats.connections),
            network_refused=drivers.host.network_refused,
            lanes=tuple(events.deliverer.gauges()),
            outcomes=dict(events.deliverer.outcomes),
            budget=StartBudget(**drivers.host.budget_of_starts()),
            s3=objects.objects.traffic.gauge(),
        ),
        unready=lambda: state["unready"],
        gateway_url=lambda: state["gateway"],
        s3_url=lambda: state["s3"],
    )
    api = ApiServer(create_app(services), settings.host, settings.api_port, settings.keepalive_s)
    api_port = await api.start()
    stack.push_async_callback(api.stop, 5.0)
    s3 = S3Server(S3App(objects), settings.host, settings.s3_port, settings.keepalive_s)
    s3_port = await s3.start()
    stack.push_async_callback(s3.stop, settings.drain_s)
    gateway_port = await gateway.start(settings.host, settings.port)

    async def drain() -> None:
        state["unready"] = "the platform is going down"
        parts = (
            gateway,
            events.deliverer,
            events.messaging.triggers,
            events.flows.triggers,
            events.outside,
            events.brokers,
        )
        await asyncio.gather(*(part.drain(settings.drain_s) for part in parts))
        await dispatcher.close(settings.drain_s)

    stack.push_async_callback(drain)
    drivers.host.protect_ports((gateway_port, api_port, s3_port))
    urls = {"gateway": gateway_port, "s3": s3_port}
    state.update(unready="", **{name: f"http://{_shown(settings.host)}:{port}" for name, port in urls.items()})
    return Running(
        gateway_url=state["gateway"],
        api_url=f"http://{_shown(settings.host)}:{api_port}",
        s3_url=state["s3"],
        admin_key=admin_key,
        report=drivers.notes,
    )


async def _open_drivers(settings: Settings, stack: AsyncExitStack) -> _Drivers:
    data = settings.data_path
    database = await Database.open(data / "fuyun.db")
    stack.push_async_callback(database.close)
    blobs = await asyncio.to_thread(FolderBlobs.open, data / "objects")
    store = await asyncio.to_thread(FolderRecords.open, data / "records")
    stack.push_async_callback(store.close)
    interpreters = Interpreters(settings.interpreters)
    await asyncio.to_thread(interpreters.discover)
    nodes = Nodes(interpreters.newest, settings.interpreters)

    def interpreter_of(runtime: str) -> Interpreter:
        return nodes.keeper(runtime) if runtime in NODES else interpreters.by_runtime(runtime)

    host = LocalHost(_host_options(settings, data), interpreter_of, store.append_nowait)
    stack.push_async_callback(host.close)
    notes = await _open_host(host, interpreters)
    run = host.run if host.sandboxed else ProcessRunner()
    options = UvOptions(isolated=host.sandboxed)
    builder = UvBuilder(blobs, run, interpreters.by_path, data / "builds", options)
    stack.push_async_callback(builder.close)
    modules = await asyncio.to_thread(ModuleBuilder, blobs, run, interpreters.by_path, data / "modules")
    stack.push_async_callback(modules.close)
    java = await asyncio.to_thread(JarBuilder, blobs, run, data / "java")
    stack.push_async_callback(java.close)
    node = await asyncio.to_thread(NodeCode, blobs, run, nodes.get, data / "node")
    stack.push_async_callback(node.close)
    packages = NpmBuilder(blobs, run, nodes.get, data / "builds/npm", NpmOptions(isolated=host.sandboxed))
    stack.push_async_callback(packages.close)
    images = await asyncio.to_thread(ImageBuilder, blobs, run, data / "images")
    stack.push_async_callback(images.close)
    return _Drivers(
        database=database, catalog=SqlCatalog(database), layers=SqlLayers(database), blobs=blobs, store=store,
        interpreters=interpreters, host=host, builder=builder, modules=modules, java=java,
        node=node, packages=packages, images=images, notes=notes,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Core:
    """What the event path and the other services share."""

    tenants: Tenants
    objects: ObjectStorage
    dispatcher: Dispatcher
    table: RouteTable
    scope: Scope
    identity: str  # of this platform, to brokers


def _event_path(settings: Settings, drivers: _Drivers, core: _Core) -> EventPath:
    events = EventPath.build(
        Surroundings(
            database=drivers.database, invoker=core.dispatcher, table=core.table, scope=core.scope,
            tenants=core.tenants, random=Random().random, records=drivers.store,
            retention_s=settings.delivery_retention_s,
            dead_letter_s=settings.dead_letter_s, reach=settings.reach, identity=core.identity,
        )
    )  # fmt: skip
    events.relay.register("bucket", object_triggers.matcher_of(events.bindings))
    events.relay.register("bucket", object_triggers.notified(core.objects.buckets.notifications))
    return events


def _deployer(
    settings: Settings, drivers: _Drivers, tenants: Tenants, layers: Layers, storage: Storage, reload: Reload
) -> Deployer:
    return Deployer(
        DeployParts(
            catalog=drivers.catalog, blobs=drivers.blobs, builder=drivers.builder, modules=drivers.modules,
            java=drivers.java, node=drivers.node, packages=drivers.packages, images=drivers.images, host=drivers.host,
            tenants=tenants, layers=layers, storage=storage, on_change=reload,
            upload_bytes=settings.upload_bytes, record=drivers.store.append_nowait,
            interpreter_of=lambda runtime: Path(drivers.interpreters.by_runtime(runtime).executable),
        )
    )  # fmt: skip


async def _make_services(
    settings: Settings,
    drivers: _Drivers,
    tenants: Tenants,
    objects: ObjectStorage,
    scope: Scope,
    stack: AsyncExitStack,
) -> tuple[Dispatcher, calls.Services, EventPath]:
    """The services; what the transports know themselves is filled in by `_build`."""
    catalog, blobs, store, host = drivers.catalog, drivers.blobs, drivers.store, drivers.host

    measures = Measures()
    table = RouteTable(catalog)
    dispatcher = Dispatcher(
        table, host, store, measures, quotas_of=tenants.quotas, environment=functools.partial(environment_of, tenants),
        queue_length=settings.queue_length, queue_wait_s=settings.queue_wait_s,
    )  # fmt: skip
    key = await asyncio.to_thread(load_key, settings.data_path / "secret.key", False)
    core = _Core(
        tenants=tenants, objects=objects, dispatcher=dispatcher, table=table, scope=scope, identity=identity_of(key)
    )  # fmt: skip
    events = _event_path(settings, drivers, core)
    offers = {**events.offers, "objects": ObjectOffer(objects.objects)}
    inward = Inward(dispatcher, Credentials(key, settings.credential_s), deferring=events.deferring, offers=offers)
    host.attend_by(inward)
    stack.push_async_callback(inward.close)
    await dispatcher.open()
    calendar.start(scope, dispatcher.provision)
    events.oversight.start_pruning(scope)

    async def reload(namespace: str, function: str) -> None:
        await dispatcher.reload(namespace, function)
        await events.changed()

    functions = Functions(catalog, tenants, reload, host.forget)
    storage = Storage(catalog, drivers.layers, tenants)
    layers = Layers(drivers.layers, blobs, storage, tenants)
    deployer = _deployer(settings, drivers, tenants, layers, storage, reload)
    records = Records(store, settings.retention_s)
    records.start_pruning(scope)
    tenants.on_namespace_deleted(records.forget)
    tenants.on_namespace_deleted(events.oversight.forget)
    Collector(catalog, drivers.layers, blobs).start(scope)
    await events.open(stack)

    async def inventory() -> dict[str, Any]:
        return {**await host.inventory(), "scaling": dispatcher.scaling()}

    services = calls.Services(
        tenants=tenants, functions=functions, deployer=deployer, layers=layers, buckets=objects.buckets,
        objects=objects.objects, records=records, invoker=dispatcher, deferring=events.deferring,
        oversight=events.oversight, triggers=events.governing, messaging=events.messaging, flows=events.flows,
        buses=events.buses, brokers=events.brokers, outside=events.outside,
        measures=measures, gauges=dispatcher.gauges, plan_of=host.plan_of, inventory=inventory,
        unready=lambda: "starting", gateway_url=lambda: "",
        limits=calls.Limits(upload_bytes=settings.upload_bytes, body_idle_s=settings.body_idle_s),
    )  # fmt: skip
    return dispatcher, services, events


async def _open_host(host: LocalHost, interpreters: Interpreters) -> list[str]:
    """Start the warden; fall back to no namespaces only for functions that ask for isolation `process` by name."""
    interpreters.newest()
    try:
        await host.open()
    except HostUnable as error:
        reason = error.detail
        await host.open_without_namespaces()
        notes = [
            f"sandbox: not available ({reason}); only functions with `isolation: process` will run",
            "builds: NOT ISOLATED; a dependency that is built from source can do what the platform can",
        ]
    else:
        notes = [
            "sandbox: namespaces, seccomp, no capabilities" + (", as root" if host.hello["root"] else ", rootless")
        ]
    version = host.hello["cgroup"]
    if version:
        notes.append(f"limits: control groups version {version}")
    else:
        notes.append(f"limits: per process and by a watchdog, no control groups ({host.hello['reason']})")
    return notes


def _host_options(settings: Settings, data: Path) -> HostOptions:
    name = hashlib.sha256(str(data).encode()).hexdigest()[:12]
    return HostOptions(
        store=data / "objects",
        tree=f"fuyun-{name}",
        blanks=settings.blanks,
        template_budget_bytes=settings.template_budget_bytes or memory.of_host() // 8,
        template_from_ms=settings.template_from_ms,
        limits=settings.limits,
        uid_base=settings.uid_base,
        name_servers=tuple(settings.name_servers.replace(",", " ").split()),
    )


def _gateway_limits(settings: Settings) -> GatewayLimits:
    return GatewayLimits(
        head_bytes=settings.head_bytes,
        target_bytes=settings.target_bytes,
        connections=settings.connections,
        body_idle_s=settings.body_idle_s,
        keepalive_s=settings.keepalive_s,
    )


def _shown(host: str) -> str:
    """An address to call, for one to listen on."""
    if host in ("0.0.0.0", ""):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _allow_descriptors() -> None:
    """Every connection and every instance takes some; what runs in sandboxes starts with the usual number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if 0 <= soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _task_failed(error: BaseException) -> None:
    _log.error("a background task failed", exc_info=error)


def _configure_log(level: str) -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
            if sys.stderr.isatty()
            else structlog.processors.LogfmtRenderer(key_order=("timestamp", "level", "event")),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping().get(level.upper(), 20)),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
