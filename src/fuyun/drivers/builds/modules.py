"""WebAssembly modules, compiled ahead: code with machine code beside it, and the engine that runs it as a layer.

A version keeps the engine its module was compiled by, so that an upgrade of Fuyun neither changes nor slows it. The
compiler reads what a stranger wrote: it runs in a build's sandbox.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import stat
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

import fuyun
from fuyun.domain.errors import BuildFailed, FunctionLoadFailed, HostUnable
from fuyun.domain.functions import Artifact
from fuyun.domain.interpreters import Interpreter
from fuyun.drivers.builds.flights import Progress
from fuyun.drivers.builds.rooms import finish
from fuyun.drivers.builds.workshop import Workshop
from fuyun.ports.blobs import BlobStore
from fuyun.ports.builds import Sandboxed
from fuyun.runtime.wasm.engine import LIBRARY
from fuyun.runtime.wasm.serving import COMPILED

#: A module of 30 MB, a whole interpreter, takes ten seconds.
TIMEOUT_S = 300.0
#: Machine code is a few times as large as the module.
_GROWTH, _LEAST_BYTES = 16, 2**24
_PACKAGES = Path(fuyun.__file__).parents[1]
#: A sandbox shows the runtime at /opt/fuyun; without one it is where it is installed.
_RUN = (
    "import sys;sys.path[:0]=['/opt/fuyun',sys.argv[1]];from fuyun.runtime.wasm.compiling import main;"
    "sys.exit(main(sys.argv[2:]))"
)


@dataclass(frozen=True, slots=True)
class Engine:
    """libwasmtime as it is installed."""

    version: str
    library: Path


def find_engine() -> Engine:
    """The one of the `wasmtime` package. HostUnable when it is not installed, or not for this machine."""
    spec = util.find_spec("wasmtime")
    if spec is None or spec.origin is None:
        raise HostUnable(
            "this host has no wasmtime, which runtime wasm needs",
            hint="install it beside Fuyun: pip install 'fuyun[wasm]'",
            feature="wasm",
        )
    machine = os.uname().machine
    library = Path(spec.origin).parent / f"linux-{machine}" / "_libwasmtime.so"
    if not library.is_file():
        raise HostUnable(
            f"the installed wasmtime has no library for this machine ({library} is missing)",
            hint="install a wheel of wasmtime for linux on x86_64 or aarch64",
            feature="wasm",
        )
    return Engine(metadata.version("wasmtime"), library)


class ModuleBuilder:
    """Implements `ports.builds.Modules`. `work` is on the file system of the blob store."""

    def __init__(self, blobs: BlobStore, run: Sandboxed, describe: Callable[[Path], Interpreter], work: Path) -> None:
        """`describe` tells what the interpreter at a path is (may block; it is called in a thread)."""
        self._blobs = blobs
        self._run = run
        self._describe = describe
        self._shop = Workshop("modules", blobs, work)
        self.close = self._shop.close

    async def compile_module(
        self, code: Artifact, module: str, interpreter: Path, progress: Progress
    ) -> tuple[Artifact, Artifact]:
        """See `ports.builds.Modules`."""
        found = await asyncio.to_thread(find_engine)
        key = f"wasm engine {found.version} {os.uname().machine} {found.library.stat().st_size}"
        engine = await self._shop.kept(key, lambda tell: self._adopt_engine(found, key), progress)
        key = f"wasm code {code.digest} {module} {engine.digest} {await asyncio.to_thread(_processor)}"
        python = await asyncio.to_thread(self._describe, interpreter)
        made = await self._shop.kept(key, lambda tell: self._compile(code, module, engine, python, key, tell), progress)
        return made, engine

    async def _adopt_engine(self, engine: Engine, key: str) -> Artifact:
        async with self._shop.room() as room:
            await asyncio.to_thread(_copy_engine, engine, room.out)
            return await self._blobs.adopt(room.out, key)

    async def _compile(
        self, code: Artifact, module: str, engine: Artifact, python: Interpreter, key: str, tell: Progress
    ) -> Artifact:
        source = self._blobs.path(code.digest)
        wanted = source / module
        if not wanted.is_file():
            found = sorted(str(p.relative_to(source)) for p in source.rglob("*.wa[st]*"))
            raise FunctionLoadFailed(
                f"handler: there is no {module} in the code; it holds {', '.join(found[:12]) or 'no module'}",
                hint="name the module's file, such as app.wasm, relative to the code folder",
            )
        tell(f"compiling {module}")
        library = self._blobs.path(engine.digest) / LIBRARY
        lines: deque[str] = deque(maxlen=40)
        async with self._shop.room() as room:
            await asyncio.to_thread(shutil.copytree, source, room.out, symlinks=True, dirs_exist_ok=True)
            target = room.scratch / ("module" + COMPILED)
            try:
                status = await self._run(
                    [python.executable, "-I", "-S", "-c", _RUN, *map(str, (_PACKAGES, library, wanted, target))],
                    ro=[*_readable(python), str(library), str(wanted)],
                    rw=[str(room.scratch)],
                    env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin", "TMPDIR": str(room.scratch)},
                    cwd=str(room.scratch),
                    network=False,
                    timeout_s=TIMEOUT_S,
                    output=lines.append,
                )
            except TimeoutError:
                raise BuildFailed(
                    f"compiling {module} took longer than {TIMEOUT_S:g} s", hint="make the module smaller", log=[]
                ) from None
            if status != 0:
                raise _explained(module, status, list(lines))
            await asyncio.to_thread(_take, target, room.out / (module + COMPILED))
            await asyncio.to_thread(finish, room.out, _GROWTH * code.size_bytes + _LEAST_BYTES)
            return await self._blobs.adopt(room.out, key)


def _readable(python: Interpreter) -> list[str]:
    """What the compiler's process sees besides the system."""
    return [path for path in (python.executable, *python.mounts) if os.path.exists(path)]


def _explained(module: str, status: int, lines: list[str]) -> BuildFailed:
    text = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), "")
    rest = [line for line in lines[1:] if line]
    if not text:
        text = f"the compiler ended with status {status}"
    return BuildFailed(
        f"{module} cannot be compiled: {text}",
        hint="check it with `wasm-tools validate`, and compile it for wasm32-wasip1",
        log=rest,
    )


def _copy_engine(engine: Engine, out: Path) -> None:
    target = out / LIBRARY
    target.parent.mkdir(parents=True)
    shutil.copyfile(engine.library, target)
    facts = {"engine": "wasmtime", "version": engine.version}
    (target.parent / "engine.json").write_text(json.dumps(facts) + "\n")


def _take(made: Path, target: Path) -> None:
    """Copy what a sandbox wrote: a plain file, not a link to something of ours."""
    try:
        descriptor = os.open(made, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        raise BuildFailed("the compiler left no machine code", hint="deploy again", log=[]) from exc
    with open(descriptor, "rb") as source:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise BuildFailed("the compiler left no plain file", hint="deploy again", log=[])
        target.unlink(missing_ok=True)
        with target.open("xb") as out:
            shutil.copyfileobj(source, out)


def _processor() -> str:
    """What machine code depends on: the processor's features, as a digest."""
    lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    features = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    return hashlib.sha256(features.encode()).hexdigest()[:16]
