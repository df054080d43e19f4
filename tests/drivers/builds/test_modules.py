"""WebAssembly modules compiled ahead by the real engine."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fuyun.base.archive import pack
from fuyun.domain.errors import BuildFailed, FunctionLoadFailed
from fuyun.domain.functions import Artifact
from fuyun.drivers.blobs.folder import FolderBlobs
from fuyun.drivers.builds.isolated import ProcessRunner
from fuyun.drivers.builds.modules import ModuleBuilder, find_engine
from fuyun.drivers.instances.interpreters import Interpreters
from fuyun.ports.builds import Sandboxed
from fuyun.runtime.wasm.engine import LIBRARY, EngineError, Library
from fuyun.testing.contracts.blobs import pieces
from tests.runtime.modules import ECHO, text

PYTHON = Path(getattr(sys, "_base_executable", sys.executable))
INTERPRETERS = Interpreters()


class Bench:
    """A builder over a fresh folder, and what it ran and said."""

    def __init__(self, root: Path, run: Sandboxed | None = None) -> None:
        self.root = root
        self.blobs = FolderBlobs.open(root / "objects")
        self.lines: list[str] = []
        self.runs = 0
        self._run = run or ProcessRunner()
        self.builder = ModuleBuilder(self.blobs, self._counted, INTERPRETERS.by_path, root / "modules")

    async def _counted(self, argv: list[str], **options: object) -> int:
        self.runs += 1
        return await self._run(argv, **options)  # type: ignore[arg-type]

    async def upload(self, **files: str) -> Artifact:
        folder = self.root / f"upload-{len(list(self.root.iterdir()))}"
        folder.mkdir()
        for name, content in files.items():
            (folder / name.replace("__", ".")).write_text(content)
        return await self.blobs.put(pieces(pack(folder)), 2**24)

    async def compile(self, code: Artifact, module: str = "app.wat") -> tuple[Artifact, Artifact]:
        return await self.builder.compile_module(code, module, PYTHON, self.lines.append)


def on_bench(
    root: Path, scene: Callable[[Bench], Awaitable[None]], run: Callable[..., Awaitable[int]] | None = None
) -> None:
    async def main() -> None:
        bench = Bench(root, run)  # type: ignore[arg-type]
        try:
            await scene(bench)
        finally:
            await bench.builder.close()
        assert not list((root / "modules").iterdir()), "rooms are gone with their builds"

    asyncio.run(main())


def test_compiled_once_beside_its_source_with_the_engine_as_a_layer(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        code = await bench.upload(app__wat=ECHO, notes__txt="kept")
        both = await asyncio.gather(bench.compile(code), bench.compile(code))
        assert both[0] == both[1]
        made, engine = both[0]
        assert await bench.compile(code) == (made, engine)
        assert bench.runs == 1
        assert "compiling app.wat" in bench.lines
        tree = bench.blobs.path(made.digest)
        assert sorted(path.name for path in tree.iterdir()) == ["app.wat", "app.wat.cwasm", "notes.txt"]
        layer = bench.blobs.path(engine.digest)
        facts = json.loads((layer / "wasm-engine/engine.json").read_text())
        assert facts == {"engine": "wasmtime", "version": find_engine().version}
        library = Library(str(layer / LIBRARY))
        ready = library.new_engine(48 * 2**20)
        module = library.read(ready, str(tree / "app.wat.cwasm"))
        assert library.exports(module) == ["memory", "_start"]
        library.wasmtime_module_delete(module)
        library.wasm_engine_delete(ready)
        other = await bench.upload(app__wat=text("nop"))
        assert (await bench.compile(other))[1] == engine
        assert bench.runs == 2

    on_bench(tmp_path, scene)


def test_what_is_no_module_is_explained(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        code = await bench.upload(broken__wat="(module\n(fun))", app__wasm="hello world", sub__py="")
        with pytest.raises(BuildFailed, match=r"broken.wat cannot be compiled: expected valid module field") as found:
            await bench.compile(code, "broken.wat")
        assert "--> " in "\n".join(found.value.fields["log"]), "the place in the text is shown"
        with pytest.raises(BuildFailed, match="is no WebAssembly binary"):
            await bench.compile(code, "app.wasm")
        with pytest.raises(FunctionLoadFailed, match=r"no ap.wasm in the code; it holds app.wasm, broken.wat"):
            await bench.compile(code, "ap.wasm")

    on_bench(tmp_path, scene)


def test_what_a_compiler_leaves_is_not_trusted(tmp_path: Path) -> None:
    """A link to a file of the platform's, a pipe, nothing: no such thing gets into a version."""
    ways: list[Callable[[str], object]] = [
        lambda target: os.symlink("/etc/passwd", target),
        lambda target: os.mkfifo(target),
        lambda target: None,
    ]

    async def run(argv: list[str], **options: object) -> int:
        ways.pop(0)(argv[-1])
        return 0

    async def scene(bench: Bench) -> None:
        code = await bench.upload(app__wat=ECHO)
        while ways:
            with pytest.raises(BuildFailed, match="the compiler left no"):
                await bench.compile(code)

    on_bench(tmp_path, scene, run)


def test_a_compiler_that_takes_too_long_or_dies(tmp_path: Path) -> None:
    outcomes: list[int | Exception] = [TimeoutError(), 137]

    async def run(argv: list[str], **options: object) -> int:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def scene(bench: Bench) -> None:
        code = await bench.upload(app__wat=ECHO)
        with pytest.raises(BuildFailed, match="took longer than 300 s"):
            await bench.compile(code)
        with pytest.raises(BuildFailed, match="ended with status 137"):
            await bench.compile(code)

    on_bench(tmp_path, scene, run)


def test_machine_code_of_another_shape_is_refused_not_run(tmp_path: Path) -> None:
    library = Library(str(find_engine().library))
    engine = library.new_engine(0)
    code = bytearray(library.compile(engine, ECHO.encode(), True))
    code[200:300] = bytes(100)
    place = tmp_path / "bent.cwasm"
    place.write_bytes(code)
    with pytest.raises(EngineError):
        library.read(engine, str(place))
