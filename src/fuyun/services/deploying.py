"""The deploy path: check, package, build dependencies, warm a candidate, store, publish, move the alias, route.

Nothing that serves changes before the candidate has been loaded once; a step that fails leaves everything as it was.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterable, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from weakref import WeakValueDictionary

import msgspec

from fuyun.base import clock
from fuyun.decide.quotas import check_functions
from fuyun.domain.errors import BadRequest, FuyunError, NotFound
from fuyun.domain.functions import Artifact, FunctionSpec, Version, Weight, Wire
from fuyun.domain.invocations import Invocation
from fuyun.domain.layers import LayerVersion
from fuyun.domain.names import check_name, parse_layer
from fuyun.domain.requirements import check_requirements, lines_of
from fuyun.domain.runtimes import IMAGES, JAVAS, MODULES, NODES, SERVERS
from fuyun.domain.specs import check_function_name, check_spec
from fuyun.domain.tenants import AuditEntry, Principal
from fuyun.ports.blobs import BlobStore
from fuyun.ports.builds import Builder, ImageUnpacker, JavaBuilder, Modules, NodeBuilder, PackageBuilder
from fuyun.ports.catalog import Catalog
from fuyun.ports.instances import InstanceHost, StartReport
from fuyun.services.environments import environment_of
from fuyun.services.layers import Layers
from fuyun.services.storage import Storage
from fuyun.services.tenants import Tenants, entry_of
from fuyun.services.warming import record_of, said_of

Progress = Callable[[str], None]
#: (action, detail) -> the audit log's entry for one write of a deployment.
Entry = Callable[[str, str], AuditEntry]

_DIGEST = re.compile(r"[0-9a-f]{64}")


class DeployRequest(Wire, frozen=True, kw_only=True):
    """A deployment. `code` is the digest of an uploaded archive, `requirements` a requirements.txt text ("" none).

    `publish` freezes the result as a version; `alias` ("" none) then serves it alone, and implies `publish`.
    """

    spec: FunctionSpec
    code: str
    requirements: str = ""
    alias: str = ""
    publish: bool = True
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployParts:
    """What a deployment works with.

    `interpreter_of(runtime)` is the executable that serves a runtime (HostUnable; may block). `on_change(namespace,
    function)` brings the routes up to date; it is awaited after every change, before the deployment is reported done.
    `record` keeps the record of a warm-up call. `upload_bytes` is the largest unpacked archive.
    """

    catalog: Catalog
    blobs: BlobStore
    builder: Builder
    modules: Modules
    java: JavaBuilder
    node: NodeBuilder
    packages: PackageBuilder
    images: ImageUnpacker
    host: InstanceHost
    tenants: Tenants
    layers: Layers
    storage: Storage
    interpreter_of: Callable[[str], Path]
    on_change: Callable[[str, str], Awaitable[None]]
    record: Callable[[Invocation], None]
    upload_bytes: int = 512 * 2**20


class Deployer:
    """Deploys functions, one deployment of a function at a time."""

    def __init__(self, parts: DeployParts) -> None:
        self._parts = parts
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def upload(self, namespace: str, pieces: AsyncIterable[bytes]) -> Artifact:
        """Store an archive of code as it arrives; the caller has checked that its principal may. What no version uses
        is collected after a while. NotFound, BadRequest, PayloadTooLarge, QuotaExceeded, StorageFull."""
        await self._parts.tenants.get_namespace(namespace)
        artifact = await self._parts.blobs.put(pieces, self._parts.upload_bytes)
        await self._parts.storage.check(namespace, (artifact,))
        return artifact

    async def deploy(
        self,
        principal: Principal,
        namespace: str,
        function: str,
        request: DeployRequest,
        progress: Progress,
        source: str = "",
    ) -> Version:
        """Deploy and return the version: the published one, or the draft. `progress` gets lines for people.

        Raises Forbidden, BadRequest, NotFound (namespace, code, secret), QuotaExceeded, BuildFailed, HostUnable, and
        whatever loading the function raises (`ports.instances.InstanceHost.prepare`).
        """
        principal.require("deploy", namespace)
        check_function_name(function)
        check_spec(request.spec)
        if request.alias:
            check_name("alias", request.alias)
        await self._parts.tenants.get_namespace(namespace)
        turn = self._turns.setdefault((namespace, function), asyncio.Lock())
        if turn.locked():
            progress("waiting for another deployment of this function")
        async with turn:
            old = await self._find_draft(namespace, function)
            attached = await self._attached(namespace, request.spec)
            spec = msgspec.structs.replace(request.spec, layers=tuple(layer.reference for layer in attached))
            request = msgspec.structs.replace(request, spec=spec)
            code, layers = await self._build(namespace, request, [layer.content for layer in attached], progress)
            candidate, unchanged = await self._candidate(namespace, function, request, old, code, layers)
            await self._warm_candidate(candidate, progress)

            def entry(action: str, detail: str) -> AuditEntry:
                return entry_of(principal, namespace, action, function, source, detail)

            try:
                version = await self._commit(candidate, unchanged, request, progress, entry)
                await self._move_alias(version, request.alias, progress, entry)
            finally:
                await self._parts.on_change(namespace, function)
            if old is not None and not unchanged:
                self._parts.host.forget(old.key)
            return version

    # --- the steps -------------------------------------------------------------------------------------------------

    async def _find_draft(self, namespace: str, function: str) -> Version | None:
        """The present draft; None for a new function, after checking that one more is allowed."""
        try:
            return await self._parts.catalog.get_version(namespace, function, 0)
        except NotFound:
            quotas = self._parts.tenants.quotas(namespace)
            existing = await self._parts.catalog.list_functions(namespace, limit=max(1, quotas.functions))
            check_functions(quotas, len(existing))
            return None

    async def _build(
        self, namespace: str, request: DeployRequest, shared: list[Artifact], progress: Progress
    ) -> tuple[Artifact, tuple[Artifact, ...]]:
        """Code with bytecode, and the layers in mount order: dependencies first, then `shared`."""
        spec = request.spec
        uploaded = await self._find_artifact("code", request.code)
        progress(f"building: {_readable(uploaded.size_bytes)} of code")
        packages: Artifact | None = None
        if spec.runtime in MODULES:
            code, built = await self._build_module(uploaded, request, progress)
        elif spec.runtime in NODES:
            code, built = await self._build_node(uploaded, request, progress)
        elif spec.runtime in JAVAS:
            code, built = await self._build_java(uploaded, request, progress), None
        elif spec.runtime in IMAGES:
            code, built = await self._unpack_image(uploaded, request, progress), None
        else:
            code, built = await self._build_python(uploaded, request, progress)
            if spec.runtime in SERVERS:
                tell = partial(_tell, progress, "dependencies")
                packages = await self._parts.packages.build(uploaded, "nodejs", tell)
        shared[:0] = [layer for layer in (packages, built) if layer is not None]
        await self._parts.storage.check(namespace, (code, *shared))
        return code, tuple(shared)

    async def _build_python(
        self, uploaded: Artifact, request: DeployRequest, progress: Progress
    ) -> tuple[Artifact, Artifact | None]:
        """Code with bytecode, and the layer of its requirements."""
        interpreter = await asyncio.to_thread(self._parts.interpreter_of, request.spec.runtime)
        builder = self._parts.builder
        code = await builder.compile(uploaded, interpreter, lambda line: progress(f"building: {line}"))
        if not lines_of(check_requirements(request.requirements)):
            return code, None
        tell = partial(_tell, progress, "dependencies")
        return code, await builder.build(request.requirements, interpreter, tell)

    async def _build_node(
        self, uploaded: Artifact, request: DeployRequest, progress: Progress
    ) -> tuple[Artifact, Artifact | None]:
        """The code with its large files compiled, and the layer of what its package.json asks for."""
        _refuse_requirements(
            request, "they are Python's, the runtime is Node's", 'list packages under "dependencies" in package.json'
        )
        spec, tell = request.spec, partial(_tell, progress, "building")
        packages = await self._parts.packages.build(uploaded, spec.runtime, partial(_tell, progress, "dependencies"))
        return await self._parts.node.prepare(uploaded, packages, spec.runtime, spec.memory_bytes, tell), packages

    async def _build_java(self, uploaded: Artifact, request: DeployRequest, progress: Progress) -> Artifact:
        """The code with its classes and their archive."""
        _refuse_requirements(
            request,
            "they are Python's, the runtime is Java's",
            "put JARs into the code, and remove requirements or write `requirements: false`",
        )
        tell = partial(_tell, progress, "building")
        return await self._parts.java.prepare(uploaded, request.spec.handler, tell)

    async def _unpack_image(self, uploaded: Artifact, request: DeployRequest, progress: Progress) -> Artifact:
        """The image's files and configuration."""
        _refuse_requirements(
            request, "an image has all it needs", "install packages when the image is made, and remove requirements"
        )
        return await self._parts.images.unpack(uploaded, request.spec.image, partial(_tell, progress, "image"))

    async def _build_module(
        self, uploaded: Artifact, request: DeployRequest, progress: Progress
    ) -> tuple[Artifact, Artifact | None]:
        """Machine code of a WebAssembly module, and the layer of the engine that made it."""
        _refuse_requirements(
            request,
            "a WebAssembly module has no Python packages",
            "remove requirements, or write `requirements: false`",
        )
        spec = request.spec
        interpreter = await asyncio.to_thread(self._parts.interpreter_of, spec.runtime)
        return await self._parts.modules.compile_module(
            uploaded, spec.handler, interpreter, partial(_tell, progress, "building")
        )

    async def _attached(self, namespace: str, spec: FunctionSpec) -> list[LayerVersion]:
        """The layers that the spec names, in its order; those without a number as they are now. NotFound."""
        found = [await self._parts.layers.get_layer(namespace, *parse_layer(reference)) for reference in spec.layers]
        for layer in found:
            await self._parts.blobs.find(layer.content.digest)  # wanted: it outlives the layer until it is mounted
        return found

    async def _find_artifact(self, kind: str, digest: str) -> Artifact:
        if not _DIGEST.fullmatch(digest):
            raise BadRequest(
                f"{kind}: {digest[:80]!r} is not a digest",
                hint="upload an archive and name the digest it was answered with",
                path=kind,
            )
        found = await self._parts.blobs.find(digest)
        if found is None:
            raise NotFound(
                f"{kind}: nothing is stored under {digest}",
                hint="upload the archive again, then deploy",
                kind=kind,
                name=digest,
            )
        return found

    async def _candidate(
        self,
        namespace: str,
        function: str,
        request: DeployRequest,
        old: Version | None,
        code: Artifact,
        layers: tuple[Artifact, ...],
    ) -> tuple[Version, bool]:
        """What will serve when all goes well, under the key it will have, and whether the draft is that already."""
        unchanged = old is not None and (old.spec, old.code, old.layers) == (request.spec, code, layers)
        draft = Version(
            namespace=namespace,
            function=function,
            number=0,
            spec=request.spec,
            code=code,
            layers=layers,
            created_s=clock.wall_s(),
            revision=1 if old is None else old.revision + (not unchanged),
        )
        if not (request.publish or request.alias):
            return draft, unchanged
        last = 0 if old is None else (await self._parts.catalog.get_function(namespace, function)).last_version
        if unchanged and last:
            latest = await self._parts.catalog.get_version(namespace, function, last)
            if latest.revision == draft.revision:
                return latest, unchanged
        return msgspec.structs.replace(draft, number=last + 1, description=request.description), unchanged

    async def _warm_candidate(self, candidate: Version, progress: Progress) -> None:
        """Load the candidate once and make its warm-up call; when that fails nothing of it stays."""
        environment = await environment_of(self._parts.tenants, candidate)
        try:
            report = await self._parts.host.prepare(candidate, environment)
            progress(_warmth(report))
            self._judge_call(candidate, report, progress)
        except BaseException:
            await self._drop(candidate)
            raise

    def _judge_call(self, candidate: Version, report: StartReport, progress: Progress) -> None:
        """Record the warm-up call, if there was one. Its error, if that is to fail the deployment."""
        call, wanted = report.warm_up, candidate.spec.warm_up
        if call is None or wanted is None:
            return
        self._parts.record(record_of(candidate, report, call))
        progress(said_of(call, wanted.required))
        if call.error is not None and wanted.required:
            raise call.error

    async def _drop(self, candidate: Version) -> None:
        """Let go of a candidate, unless the catalog holds exactly this version."""
        try:
            stored = await self._parts.catalog.get_version(candidate.namespace, candidate.function, candidate.number)
        except FuyunError:
            stored = None
        if stored is None or stored.key != candidate.key:
            self._parts.host.forget(candidate.key)

    async def _commit(
        self, candidate: Version, unchanged: bool, request: DeployRequest, progress: Progress, entry: Entry
    ) -> Version:
        """Store the draft and, if asked, publish it; the version that was made, warm."""
        catalog, namespace, function = self._parts.catalog, candidate.namespace, candidate.function
        now_s = clock.wall_s()
        try:
            if unchanged:
                version = await catalog.get_version(namespace, function, 0)
            else:
                version = await catalog.put_draft(
                    namespace, function, candidate.spec, candidate.code, candidate.layers, now_s,
                    entry("function.deploy", f"code {candidate.code.digest[:12]}"),
                )  # fmt: skip
            if request.publish or request.alias:
                version = await catalog.publish(
                    namespace, function, request.description, now_s,
                    lambda made: entry("function.publish", made.qualifier),
                )  # fmt: skip
        except BaseException:
            await self._drop(candidate)
            raise
        self._parts.storage.add(namespace, (version.code, *version.layers))
        if version.key != candidate.key:  # deleted and made again, or published by another hand, in the meantime
            await self._warm_again(candidate, version, progress)
        return version

    async def _warm_again(self, candidate: Version, version: Version, progress: Progress) -> None:
        self._parts.host.forget(candidate.key)
        try:
            await self._parts.host.prepare(version, await environment_of(self._parts.tenants, version))
        except FuyunError as exc:  # it loaded a moment ago; the first request will start it
            progress(f"warm-up: not kept warm ({exc.detail})")

    async def _move_alias(self, version: Version, name: str, progress: Progress, entry: Entry) -> None:
        """Let the alias serve the version alone. An alias that does already keeps where its rollback goes."""
        if not name:
            return
        catalog = self._parts.catalog
        aliases = await catalog.list_aliases(version.namespace, version.function)
        alias = next((alias for alias in aliases if alias.name == name), None)
        weights = (Weight(version=version.number, weight=100),)
        if alias is None or alias.weights != weights:
            sticky = alias.sticky_header if alias is not None else ""
            await catalog.put_alias(
                version.namespace, version.function, name, weights, clock.wall_s(), sticky_header=sticky,
                entry=entry("alias.set", f"{name} {version.qualifier}"),
            )  # fmt: skip
        progress(f"alias: {name} serves version {version.qualifier}")


def _refuse_requirements(request: DeployRequest, why: str, hint: str) -> None:
    """For runtimes whose packages come another way. BadRequest when there are any."""
    if lines_of(check_requirements(request.requirements)):
        raise BadRequest(f"requirements: {why}", hint=hint, path="requirements")


def _tell(progress: Progress, step: str, line: str) -> None:
    progress(f"{step}: {line}")


def _readable(size_bytes: float) -> str:
    """A size for people, such as `1.7 KiB`."""
    for unit in ("bytes", "KiB", "MiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.3g} GiB"


def _warmth(report: StartReport) -> str:
    """The line about the first start, such as `warm-up: 34 ms (init 21 ms), template ready`."""
    total_ms = report.place_ms + report.start_ms + report.init_ms
    line = f"warm-up: {total_ms:.0f} ms (init {report.init_ms:.0f} ms)"
    if report.kind == "template":
        return f"{line}, template ready"
    if not report.forkable and report.unforkable_reason:
        return f"{line}, starts from blanks: {report.unforkable_reason}"
    return line
