"""Dependency builds with uv, in a sandbox, once per lock.

Two kinds of runs, because a source distribution runs its author's code while it is built. First only wheels are
allowed: that runs no foreign code, so all tenants share one download cache. Where wheels do not do, the run is repeated
with builds allowed and a cache of its own that is thrown away, so that no build can leave anything in another's.

The platform writes nothing into, and follows no link in, a folder that a sandbox may write.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakValueDictionary

import uv

from fuyun.base.ids import new_id
from fuyun.base.tasks import Scope
from fuyun.domain.errors import BadRequest, BuildFailed, NotFound
from fuyun.domain.functions import Artifact
from fuyun.domain.interpreters import Interpreter
from fuyun.domain.requirements import check_requirements, lines_of, names_of
from fuyun.drivers.builds.complaints import FINAL, NETWORK, explain
from fuyun.drivers.builds.flights import Flights, Progress
from fuyun.drivers.builds.rooms import (
    Room,
    copy_modules,
    discard,
    empty,
    finish,
    new_room,
    read_output,
    read_text,
    size_of,
    write_text,
)
from fuyun.drivers.disk import translated
from fuyun.ports.blobs import BlobStore
from fuyun.ports.builds import Sandboxed

#: Settings of the platform's own environment that say how to reach an index. A package that is built from source can
#: read them: give an index a read-only password.
INDEX_ENV = (
    "UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_INSECURE_HOST", "UV_HTTP_TIMEOUT",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "https_proxy", "http_proxy",
    "all_proxy", "no_proxy",
)  # fmt: skip

#: Told before every build where there is no sandbox; the command line keeps it in sight.
UNISOLATED = (
    "warning: this host gives no namespaces, so dependencies are built WITHOUT ISOLATION: a package that is built from "
    "source can read and change all that the platform can, secrets and other tenants' code included; see `fuyun doctor`"
)

_EVENT = re.compile(r"^(Downloading|Building|Built|Updating) .+")
_ADDED = re.compile(r"^ ?\+ ([\w.-]+)==(\S+)")
_BROKEN = re.compile(r"^\*\*\* (?:Error compiling|Sorry:)? ?'?([^']+?)'?(?:\.\.\.|:|$)")


@dataclass(frozen=True, slots=True)
class UvOptions:
    """How uv is run. Durations in seconds, sizes in bytes."""

    args: tuple[str, ...] = ()  # for every run, such as ("--no-index", "--find-links", "/srv/wheels")
    ro: tuple[str, ...] = ()  # the folders `args` name, so that the sandbox shows them
    env: dict[str, str] = field(default_factory=lambda: {k: os.environ[k] for k in INDEX_ENV if k in os.environ})
    network: bool = True
    timeout_s: float = 900.0  # compiling a large package takes minutes
    layer_bytes: int = 2 * 2**30
    cache_bytes: int = 4 * 2**30  # of the shared downloads; emptied above
    at_once: int = 2
    isolated: bool = True  # whether `run` gives a sandbox; what is built without one is warned of


class UvBuilder:
    """Implements `ports.builds.Builder`. Every command goes through `run`; see the module about caches.

    `work` (on the file system of the blob store, so that a finished tree is moved, not copied) holds `locks/`, one file
    per requirements text and interpreter, the shared `cache/` and the running builds' rooms. A known text is never
    resolved again: the same text gives the same packages until someone edits it, with or without a network.
    """

    def __init__(
        self,
        blobs: BlobStore,
        run: Sandboxed,
        describe: Callable[[Path], Interpreter],
        work: Path,
        options: UvOptions | None = None,
    ) -> None:
        """`describe` tells what the interpreter at a path is (may block; it is called in a thread)."""
        self._blobs = blobs
        self._run = run
        self._describe = describe
        self._work = work.absolute()
        self._options = options or UvOptions()
        self._uv = uv.find_uv_bin()
        self._scope = Scope("builds", lambda _: None)
        self._flights: Flights[Artifact] = Flights(self._scope)
        self._slots = asyncio.Semaphore(self._options.at_once)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._active = 0
        with translated(self._work):
            discard(self._work / "rooms")
            for name in ("locks", "cache", "rooms"):
                (self._work / name).mkdir(parents=True, exist_ok=True)

    async def build(self, requirements: str, interpreter: Path, progress: Progress) -> Artifact:
        """See `ports.builds.Builder`. BadRequest when the text asks for what a build cannot see."""
        text = check_requirements(requirements)
        python = await asyncio.to_thread(self._describe, interpreter)
        name = _sha("lock", text, python.abi, _platform(), *self._options.args)
        known = await asyncio.to_thread(read_text, self._work / "locks" / name)
        if known is not None and (found := await self._find(known, python)):
            progress("cached")
            return found
        return await self._flights.join(f"text {name}", lambda tell: self._build(text, name, python, tell), progress)

    async def compile(self, code: Artifact, interpreter: Path, progress: Progress) -> Artifact:
        """See `ports.builds.Builder`."""
        python = await asyncio.to_thread(self._describe, interpreter)
        key = f"code {code.digest} {python.abi}"
        if found := await self._blobs.find(_sha_key(key)):
            return found
        if await self._blobs.find(code.digest) is None:
            raise NotFound(
                f"there is no code {code.digest}", hint="upload the archive first", kind="code", name=code.digest
            )
        return await self._flights.join(key, lambda tell: self._compile(code, key, python, tell), progress)

    async def close(self) -> None:
        """End the builds that run."""
        await self._scope.close()

    async def _find(self, lock: str, python: Interpreter) -> Artifact | None:
        return await self._blobs.find(_sha_key(_layer_key(lock, python)))

    async def _build(self, text: str, name: str, python: Interpreter, tell: Progress) -> Artifact:
        async with self._slots, self._room() as room:
            if not self._options.isolated and names_of(text):
                tell(UNISOLATED)
            file = self._work / "locks" / name
            lock = await asyncio.to_thread(read_text, file)
            if lock is None:
                lock = await self._resolve(text, python, room, tell)
                await asyncio.to_thread(write_text, file, lock)
            key = _layer_key(lock, python)
            async with self._turns.setdefault(key, asyncio.Lock()):
                if found := await self._find(lock, python):
                    tell("cached")
                    return found
                return await self._install(lock, key, python, room, tell)

    async def _resolve(self, text: str, python: Interpreter, room: Room, tell: Progress) -> str:
        """The lock of a requirements text: every package with its version and hashes, one per line."""
        if not names_of(text):
            return ""
        tell(f"resolving {_counted(len(names_of(text)), 'requirement')}")
        source, target = room.path / "requirements.txt", room.out / "lock.txt"
        await asyncio.to_thread(write_text, source, text)
        emit = [
            option
            for words, option in (
                (("-i", "--index-url", "--extra-index-url"), "--emit-index-url"),
                (("--no-binary", "--only-binary"), "--emit-build-options"),
            )
            if any(line.startswith(words) for line in lines_of(text))
        ]
        argv = ["compile", "--generate-hashes", "--no-header", "--no-annotate", *emit, "--output-file", str(target)]
        await self._uv_run([*argv, str(source)], python, room, tell, "resolving the requirements")
        lock = await asyncio.to_thread(read_output, target)
        await asyncio.to_thread(empty, room.out)
        tell(f"locked {_counted(len(names_of(lock)), 'package')}")
        return lock

    async def _install(self, lock: str, key: str, python: Interpreter, room: Room, tell: Progress) -> Artifact:
        if names_of(lock):
            source = room.path / "locked.txt"
            await asyncio.to_thread(write_text, source, lock)
            argv = ["install", "--no-deps", "--link-mode", "copy", "--compile-bytecode", "--target", str(room.out)]
            await self._uv_run([*argv, "--requirements", str(source)], python, room, tell, "installing the packages")
        await asyncio.to_thread(finish, room.out, self._options.layer_bytes)
        try:
            return await self._blobs.adopt(room.out, key)
        except BadRequest as exc:
            raise BuildFailed(
                f"a package left what a layer may not hold: {exc.detail}", hint="remove that package", log=[]
            ) from exc

    async def _uv_run(self, argv: list[str], python: Interpreter, room: Room, tell: Progress, doing: str) -> None:
        """Run `uv pip <argv>`: wheels only with the shared cache, else with builds and the room's own."""
        lines: deque[str] = deque(maxlen=200)
        if not room.built:
            wheels = [*argv, "--no-build", "--cache-dir", str(self._work / "cache")]
            if await self._uv_once(wheels, python, room, self._work / "cache", tell, lines) == 0:
                return
            text = "\n".join(lines)
            if NETWORK.search(text):
                first = list(lines)
                if await self._uv_once([*wheels, "--offline"], python, room, self._work / "cache", tell, lines) == 0:
                    return
                raise explain(first, doing)
            if FINAL.search(text):
                raise explain(list(lines), doing)
            await asyncio.to_thread(empty, room.out)
            tell("no wheels for all packages; building from source")
        room.built = True
        sources = [*argv, "--cache-dir", str(room.cache)]
        if await self._uv_once(sources, python, room, room.cache, tell, lines) != 0:
            raise explain(list(lines), doing)

    async def _uv_once(
        self, argv: list[str], python: Interpreter, room: Room, cache: Path, tell: Progress, lines: deque[str]
    ) -> int:
        common = [
            "--python",
            python.executable,
            "--no-config",
            "--no-python-downloads",
            "--no-progress",
            "--color",
            "never",
        ]
        options = self._options
        lines.clear()

        def hear(line: str) -> None:
            lines.append(line)
            if _EVENT.match(line):
                tell(line[0].lower() + line[1:])
            elif added := _ADDED.match(line):
                tell(f"{added[1]} {added[2]}")

        try:
            return await self._run(
                [self._uv, "pip", *argv, *common, *options.args],
                ro=self._readable(python, str(room.path), *options.ro),
                rw=[str(room.out), str(room.scratch), str(cache)],
                env=self._environment(room),
                cwd=str(room.scratch),
                network=options.network,
                timeout_s=options.timeout_s,
                output=hear,
            )
        except TimeoutError:
            raise BuildFailed(
                f"the build took longer than {options.timeout_s:g} s",
                hint="pin versions that have wheels, so that nothing is compiled",
                log=list(lines)[-40:],
            ) from None

    def _readable(self, python: Interpreter, *more: str) -> list[str]:
        return [path for path in (self._uv, *python.mounts, *more) if os.path.exists(path)]

    def _environment(self, room: Room) -> dict[str, str]:
        certificates = "/etc/ssl/certs/ca-certificates.crt"
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(room.scratch),
            "TMPDIR": str(room.scratch),
            "LC_ALL": "C.UTF-8",
            "UV_NO_CONFIG": "1",
            "PYC_INVALIDATION_MODE": "UNCHECKED_HASH",
            "PYTHONDONTWRITEBYTECODE": "1",
            **({"UV_SYSTEM_CERTS": "1", "SSL_CERT_FILE": certificates} if os.path.exists(certificates) else {}),
            **self._options.env,
        }

    async def _compile(self, code: Artifact, key: str, python: Interpreter, tell: Progress) -> Artifact:
        async with self._slots, self._room() as room:
            if not await asyncio.to_thread(copy_modules, self._blobs.path(code.digest), room.out):
                return code
            broken: list[str] = []

            def hear(line: str) -> None:
                if found := _BROKEN.match(line):
                    broken.append(found[1].removeprefix(f"{room.out}/"))

            argv = [python.executable, "-I", "-S", "-m", "compileall", "-q", "-f", "--invalidation-mode"]
            try:
                await self._run(
                    [*argv, "unchecked-hash", "-s", str(room.out), str(room.out)],
                    ro=self._readable(python),
                    rw=[str(room.out), str(room.scratch)],
                    env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin", "TMPDIR": str(room.scratch)},
                    cwd=str(room.scratch),
                    network=False,
                    timeout_s=min(self._options.timeout_s, 120.0),
                    output=hear,
                )
            except TimeoutError:
                tell("the modules took too long to compile; those left are compiled when they are imported")
            if broken:
                tell(f"not valid {python.name}: {', '.join(broken[:5])}{' ...' if len(broken) > 5 else ''}")
            await asyncio.to_thread(finish, room.out, 4 * code.size_bytes + 2**20)
            return await self._blobs.adopt(room.out, key)

    @asynccontextmanager
    async def _room(self) -> AsyncIterator[Room]:
        """A room for the time of a build; file errors in it as Fuyun's."""
        self._active += 1
        room: Room | None = None
        try:
            with translated(self._work):
                room = await asyncio.to_thread(new_room, self._work / "rooms")
                yield room
        finally:
            self._active -= 1
            if room is not None:
                await asyncio.to_thread(discard, room.path)
            if not self._active:
                self._scope.start(self._trim(), "trim")

    async def _trim(self) -> None:
        """Empty the shared cache when it is too large and nobody uses it."""
        cache = self._work / "cache"
        if await asyncio.to_thread(size_of, cache) <= self._options.cache_bytes or self._active:
            return
        trash = self._work / "rooms" / new_id()
        os.rename(cache, trash)  # at once and on the loop, so that no build can enter between the two
        os.mkdir(cache)
        await asyncio.to_thread(discard, trash)


def _sha(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _sha_key(key: str) -> str:
    """The digest under which `BlobStore.adopt` keeps a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _platform() -> str:
    """What wheels are chosen by besides the interpreter: processor and C library."""
    return f"linux-{os.uname().machine}-{(os.confstr('CS_GNU_LIBC_VERSION') or 'libc').replace(' ', '')}"


def _layer_key(lock: str, python: Interpreter) -> str:
    return f"layer {_sha(lock)} {python.abi} {_platform()}"
