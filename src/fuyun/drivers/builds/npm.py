"""Builds of package.json with npm, in a sandbox, once per lock.

Two runs. The first fetches and unpacks with scripts off: it runs nobody's code, so all tenants share one download
cache. The second runs the packages' install scripts, with a cache of its own that is thrown away. What could make the
first run somebody's code (an .npmrc, packages from Git) keeps it from the shared cache.

The platform writes nothing into, and follows no link in, a folder that a sandbox has had.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fuyun.base.ids import new_id
from fuyun.base.tasks import Scope
from fuyun.domain.errors import BadRequest, BuildFailed, HostUnable
from fuyun.domain.functions import Artifact
from fuyun.domain.interpreters import Node
from fuyun.drivers.builds.flights import Flights, Progress
from fuyun.drivers.builds.manifests import Manifest, read_manifest
from fuyun.drivers.builds.npmcomplaints import explain
from fuyun.drivers.builds.rooms import Room, discard, finish, new_room, size_of, write_text
from fuyun.drivers.disk import translated
from fuyun.ports.blobs import BlobStore
from fuyun.ports.builds import Sandboxed

#: Settings of the platform's own environment that say how to reach a registry. A package's script can read them.
REGISTRY_ENV = (
    "NPM_CONFIG_REGISTRY", "npm_config_registry", "NPM_CONFIG_CAFILE", "NODE_EXTRA_CA_CERTS", "HTTPS_PROXY",
    "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy",
)  # fmt: skip
#: Told before scripts run where there is no sandbox.
UNISOLATED = (
    "warning: this host gives no namespaces, so packages' install scripts run WITHOUT ISOLATION: they can read and "
    "change all that the platform can, secrets and other tenants' code included; see `fuyun doctor`"
)
_QUIET = ("--no-audit", "--no-fund", "--no-update-notifier", "--no-progress", "--color=false")
_ADDED = re.compile(r"^added \d+ packages?")
_DEPRECATED = re.compile(r"^npm (?:warn|WARN) deprecated (.+)")


@dataclass(frozen=True, slots=True)
class NpmOptions:
    """How npm is run. Durations in seconds, sizes in bytes."""

    args: tuple[str, ...] = ()  # for the run that fetches, such as ("--offline",)
    env: dict[str, str] = field(default_factory=lambda: {k: os.environ[k] for k in REGISTRY_ENV if k in os.environ})
    network: bool = True
    timeout_s: float = 900.0
    layer_bytes: int = 2 * 2**30
    cache_bytes: int = 4 * 2**30  # of the shared downloads; emptied above
    at_once: int = 2
    isolated: bool = True  # whether `run` gives a sandbox


class NpmBuilder:
    """Implements `ports.builds.PackageBuilder`. `work` holds the shared `cache/` and the running builds' rooms."""

    def __init__(
        self,
        blobs: BlobStore,
        run: Sandboxed,
        node_of: Callable[[str], Node],
        work: Path,
        options: NpmOptions | None = None,
    ) -> None:
        """`node_of(runtime)` raises HostUnable (may block; it is called in a thread)."""
        self._blobs = blobs
        self._run = run
        self._node_of = node_of
        self._work = work.absolute()
        self._options = options or NpmOptions()
        self._scope = Scope("npm builds", lambda _: None)
        self._flights: Flights[Artifact] = Flights(self._scope)
        self._slots = asyncio.Semaphore(self._options.at_once)
        self._active = 0
        with translated(self._work):
            discard(self._work / "rooms")
            for name in ("cache", "rooms"):
                (self._work / name).mkdir(parents=True, exist_ok=True)

    async def build(self, code: Artifact, runtime: str, progress: Progress) -> Artifact | None:
        """See `ports.builds.PackageBuilder`."""
        manifest = await asyncio.to_thread(read_manifest, self._blobs.path(code.digest))
        if manifest is None:
            return None
        if manifest.complete:
            progress("the code brings its own node_modules")
            return None
        node = await asyncio.to_thread(self._node_of, runtime)
        if not node.npm:
            raise HostUnable(
                f"{node.executable} has no npm, which builds what package.json asks for",
                hint="install npm (on Debian: apt install npm), or deploy with node_modules in the code folder",
                feature="npm",
            )
        key = f"npm {manifest.digest} {node.abi} {_platform()}"
        if found := await self._blobs.find(_digest_of(key)):
            progress("cached")
            return found
        return await self._flights.join(key, lambda tell: self._build(manifest, key, node, tell), progress)

    async def close(self) -> None:
        """End the builds that run."""
        await self._scope.close()

    async def _build(self, manifest: Manifest, key: str, node: Node, tell: Progress) -> Artifact:
        async with self._slots:
            self._active += 1
            room: Room | None = None
            try:
                with translated(self._work):
                    room = await asyncio.to_thread(new_room, self._work / "rooms")
                    await asyncio.to_thread(_furnish, room, manifest)
                    await self._install(manifest, node, room, tell)
                    await asyncio.to_thread(finish, room.out, self._options.layer_bytes)
                    return await self._adopt(room, key)
            finally:
                self._active -= 1
                if room is not None:
                    await asyncio.to_thread(discard, room.path)
                if not self._active:
                    self._scope.start(self._trim(), "trim")

    async def _adopt(self, room: Room, key: str) -> Artifact:
        try:
            return await self._blobs.adopt(room.out, key)
        except BadRequest as exc:
            raise BuildFailed(
                f"a package left what a layer may not hold: {exc.detail}", hint="remove that package", log=[]
            ) from exc

    async def _install(self, manifest: Manifest, node: Node, room: Room, tell: Progress) -> None:
        command = "ci" if manifest.lock else "install"
        tell(f"npm {command}: {manifest.count} package{'s' if manifest.count > 1 else ''} asked for")
        cache = room.cache if manifest.private else self._work / "cache"
        fetch = [command, "--omit=dev", "--ignore-scripts", "--install-links", *self._options.args]
        lines = await self._npm(fetch, node, room, cache, tell)
        if lines is not None:
            raise explain(lines, f"npm {command}")
        if manifest.scripts:
            if not self._options.isolated:
                tell(UNISOLATED)
            lines = await self._npm(["rebuild", "--foreground-scripts"], node, room, room.cache, tell)
            if lines is not None:
                raise explain(lines, "running the packages' install scripts")

    async def _npm(self, words: list[str], node: Node, room: Room, cache: Path, tell: Progress) -> list[str] | None:
        """Run npm; None when it succeeds, else the last lines it printed."""
        lines: deque[str] = deque(maxlen=200)

        def hear(line: str) -> None:
            lines.append(line)
            if found := _DEPRECATED.match(line):
                tell(f"deprecated: {found[1]}")
            elif _ADDED.match(line):
                tell(line)

        options = self._options
        npm_folder = str(Path(node.npm).parent.parent)
        try:
            status = await self._run(
                [node.executable, node.npm, *words, *_QUIET, "--cache", str(cache)],
                ro=[path for path in (node.executable, npm_folder, *node.mounts, str(room.path)) if _exists(path)],
                rw=[str(room.out), str(room.scratch), str(cache)],
                env={
                    "PATH": f"{Path(node.executable).parent}:/usr/local/bin:/usr/bin:/bin",
                    "HOME": str(room.scratch),
                    "TMPDIR": str(room.scratch),
                    "LC_ALL": "C.UTF-8",
                    **options.env,
                },
                cwd=str(room.out),
                network=options.network,
                timeout_s=options.timeout_s,
                output=hear,
            )
        except TimeoutError:
            raise BuildFailed(
                f"the build took longer than {options.timeout_s:g} s",
                hint="see the log for the package that takes so long",
                log=list(lines)[-40:],
            ) from None
        return None if status == 0 else list(lines)

    async def _trim(self) -> None:
        """Empty the shared cache when it is too large and nobody uses it."""
        cache = self._work / "cache"
        if await asyncio.to_thread(size_of, cache) <= self._options.cache_bytes or self._active:
            return
        trash = self._work / "rooms" / new_id()
        os.rename(cache, trash)  # at once and on the loop, so that no build can enter between the two
        os.mkdir(cache)
        await asyncio.to_thread(discard, trash)


def _furnish(room: Room, manifest: Manifest) -> None:
    """Put what npm reads into the room, before any sandbox has had it. Blocking."""
    for name, text in manifest.files.items():
        write_text(room.out / name, text)
    for name in manifest.local:
        source, target = manifest.folder / name, room.out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copyfile(source, target)


def _exists(path: str) -> bool:
    return os.path.exists(path)


def _digest_of(key: str) -> str:
    """The digest under which `BlobStore.adopt` keeps a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def _platform() -> str:
    """What compiled packages depend on besides Node: processor and C library."""
    return f"linux-{os.uname().machine}-{(os.confstr('CS_GNU_LIBC_VERSION') or 'libc').replace(' ', '')}"
