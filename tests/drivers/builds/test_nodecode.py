"""Large files of Node functions, compiled ahead by the real Node and taken by the real worker."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fuyun.base.archive import pack
from fuyun.domain.functions import Artifact
from fuyun.drivers.blobs.folder import FolderBlobs
from fuyun.drivers.builds.isolated import ProcessRunner
from fuyun.drivers.builds.nodecode import LEAST_BYTES, NodeCode
from fuyun.drivers.instances.nodes import Nodes
from fuyun.runtime.nodejs import PREPARED
from fuyun.testing.contracts.blobs import pieces
from tests.drivers.instances.scenes.rig import INTERPRETERS
from tests.runtime.driver import node_worker

pytestmark = pytest.mark.timeout(120)
MEMORY = 256 << 20
_FILL = "\n" + "".join(f"function f{n}(a) {{ return (b) => a + b; }}\n" for n in range(LEAST_BYTES // 35))
BUNDLE = """
const small = require('./small.js'), big = require('big'), path = require('node:path');
exports.handler = async (event) => {
  if (event.fail) throw new Error('here');
  return [small, big, await require('./other.js')(), path.basename(__filename), path.basename(__dirname) !== '',
          require.main !== module,
          require.resolve('./small.js') === path.join(__dirname, 'small.js'), typeof f7(1)];
};
"""
CODE = {
    "index.js": BUNDLE + _FILL, "small.js": "module.exports = 'small';",
    "module.mjs": "export default 'module';" + _FILL,
    "other.js": "module.exports = async () => (await import('./module.mjs')).default;" + _FILL,
}  # fmt: skip
PACKAGES = {
    "node_modules/big/index.js": "module.exports = 'big';" + _FILL,
    "node_modules/esm/index.js": "export default 1;" + _FILL,
    "node_modules/esm/package.json": '{"type": "module"}',
}


class Bench:
    """A builder over a fresh folder, and what it said."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.blobs = FolderBlobs.open(root / "objects")
        self.lines: list[str] = []
        nodes = Nodes(INTERPRETERS.newest)
        there = str(root / "instance/code"), str(root / "instance/packages")
        self.builder = NodeCode(self.blobs, ProcessRunner(), nodes.get, root / "node", there)

    async def upload(self, files: dict[str, str]) -> Artifact:
        folder = self.root / f"upload-{len(list(self.root.iterdir()))}"
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return await self.blobs.put(pieces(pack(folder)), 2**24)

    async def prepare(self, code: Artifact, packages: Artifact | None = None, memory_bytes: int = MEMORY) -> Artifact:
        return await self.builder.prepare(code, packages, "nodejs", memory_bytes, self.lines.append)


def on_bench(root: Path, scene: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        bench = Bench(root)
        try:
            await scene(bench)
        finally:
            await bench.builder.close()

    asyncio.run(main())


def test_large_files_of_the_code_and_its_packages_are_not_compiled_again(tmp_path: Path) -> None:
    """[R 16.9]"""
    made: list[Path] = []

    async def scene(bench: Bench) -> None:
        code, packages = await bench.upload(CODE), await bench.upload(PACKAGES)
        prepared = await bench.prepare(code, packages)
        assert await bench.prepare(code, packages) == prepared
        assert prepared != code
        assert bench.lines == ["compiling 4 large files"]
        made.extend(bench.blobs.path(one.digest) for one in (prepared, packages))

    on_bench(tmp_path, scene)
    folder = tmp_path / "instance"
    for source, name in zip(made, ("code", "packages"), strict=True):
        shutil.copytree(source, folder / name)
    listed = json.loads((folder / "code" / PREPARED / "list.json").read_text())
    files = [str(folder / name) for name in ("code/index.js", "packages/node_modules/big/index.js")]
    assert sorted(file for file, _ in listed["files"]) == files, "no modules, and nothing that may import one"
    for memory_bytes, taken in ((MEMORY, 2), (2 * MEMORY, 0)):  # V8 has other options there, and compiles
        with node_worker(folder, {}, layers=[str(folder / "packages")], memory_bytes=memory_bytes) as worker:
            assert worker.wait_ready()["compiled_ahead"] == taken
            reply = worker.event({})
            assert reply.error is None, reply.error
            assert reply.json == ["small", "big", "module", "index.js", True, True, True, "function"]
            failed = worker.event({"fail": True}).error
            assert failed is not None
            assert failed["traceback"][1].endswith("/index.js:4:25)"), failed


def test_code_without_large_files_stays_as_it_is(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        code = await bench.upload({"index.js": BUNDLE, f"{PREPARED}/index.js": _FILL, "data.json": _FILL})
        assert await bench.prepare(code) == code
        assert bench.lines == []

    on_bench(tmp_path, scene)
