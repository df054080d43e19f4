"""Builds of package.json with the real npm in the host's real sandbox, from tarballs that the tests make."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fuyun.domain.errors import BadRequest, BuildFailed, HostUnable, StorageFull
from fuyun.domain.functions import Artifact
from fuyun.domain.interpreters import Node
from fuyun.drivers.blobs.folder import FolderBlobs
from fuyun.drivers.builds.npm import NpmBuilder, NpmOptions
from fuyun.drivers.builds.npmcomplaints import explain
from fuyun.drivers.instances.host import HostOptions, LocalHost
from fuyun.drivers.instances.interpreters import Interpreters
from fuyun.drivers.instances.nodes import Nodes
from fuyun.testing.contracts.blobs import pieces
from tests.drivers.builds.nodepackages import project, tarball
from tests.running import archive

INTERPRETERS = Interpreters()
NODES = Nodes(INTERPRETERS.newest)
#: An install script that writes what it finds.
PRYING = """
const fs = require('fs');
const tried = (action) => { try { return action(); } catch (error) { return error.code; } };
fs.writeFileSync('found.json', JSON.stringify({
  key: tried(() => fs.readFileSync(process.env.PRY + '/secret.key', 'utf8')),
  objects: tried(() => fs.readdirSync(process.env.PRY + '/objects')),
  cache: tried(() => fs.readdirSync(process.env.PRY + '/builds/cache')),
  usr: tried(() => fs.writeFileSync('/usr/lib/planted', '')),
  secret: process.env.FUYUN_TEST_SECRET ?? null,
  processes: fs.readdirSync('/proc').filter((name) => +name)
    .filter((pid) => String(tried(() => fs.readFileSync('/proc/' + pid + '/cmdline'))).includes('pytest')),
}));
"""


@pytest.fixture
def data() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="fuyun-build-", dir="/var/tmp"))
    (folder / "secret.key").write_text("hands off")
    yield folder
    shutil.rmtree(folder)


class Builds:
    """A builder, and what it was told."""

    def __init__(self, blobs: FolderBlobs, builder: NpmBuilder, commands: list[list[str]]) -> None:
        self.blobs, self.builder, self.commands = blobs, builder, commands
        self.lines: list[str] = []

    async def __call__(self, files: dict[str, Any]) -> Path:
        """The tree of the layer that `files` ask for."""
        layer = await self.find(files)
        assert layer is not None
        return self.blobs.path(layer.digest)

    async def find(self, files: dict[str, Any]) -> Artifact | None:
        """The layer, if they ask for one."""
        code = await self.blobs.put(pieces(archive(files)), 2**24)
        return await self.builder.build(code, "nodejs", self.lines.append)


@asynccontextmanager
async def builds(data: Path, env: dict[str, str] | None = None, **options: Any) -> AsyncIterator[Builds]:
    """Builds in the sandboxes of a real host, without a network."""
    host = LocalHost(
        HostOptions(store=data / "objects", tree=f"fuyun-build-{os.getpid()}", blanks=0),
        INTERPRETERS.by_runtime, lambda line: None,
    )  # fmt: skip
    blobs = FolderBlobs.open(data / "objects")
    commands: list[list[str]] = []

    async def run(argv: list[str], **given: Any) -> int:
        commands.append(argv)
        return await host.run(argv, **given)

    settings = NpmOptions(network=False, env=env or {}, timeout_s=60.0, args=("--offline",), **options)
    builder = NpmBuilder(blobs, run, NODES.get, data / "builds", settings)
    try:
        await host.open(())
        assert host.sandboxed, "this host gives no namespaces: allow them (`fuyun doctor` says how)"
        yield Builds(blobs, builder, commands)
    finally:
        await builder.close()
        await host.close()


def said(tree: Path, package: str) -> str:
    """What the module `package` of a layer exports, as Node prints it."""
    script = f"console.log(require({package!r}))"
    env = {"PATH": os.environ["PATH"], "NODE_PATH": str(tree / "node_modules")}
    return subprocess.run(["node", "-e", script], env=env, capture_output=True, text=True, check=True).stdout.strip()


def test_packages_are_built_once(data: Path) -> None:
    async def main() -> None:
        async with builds(data) as build:
            files = project({"tiny": "file:vendor/tiny.tgz"}, {"vendor/tiny.tgz": tarball("tiny"), "index.js": "1"})
            first = await build(files)
            assert said(first, "tiny") == "tiny 1.2.3"
            assert "npm install: 1 package asked for" in build.lines
            count = len(build.commands)
            assert await build({**files, "index.js": "2"}) == first, "other code, the same packages"
            assert build.lines[-1] == "cached"
            assert len(build.commands) == count
            changed = {**files, "vendor/tiny.tgz": tarball("tiny", "2.0.0")}
            assert said(await build(changed), "tiny") == "tiny 2.0.0"
            one, other = await asyncio.gather(*[build(project({"t": "file:t.tgz"}, {"t.tgz": tarball("t")}))] * 1,
                                              build(project({"t": "file:t.tgz"}, {"t.tgz": tarball("t")})))  # fmt: skip
            assert one == other

    asyncio.run(main())


def test_a_lock_is_kept_to(data: Path) -> None:
    async def main() -> None:
        async with builds(data) as build:
            files = project({"tiny": "file:tiny.tgz"}, {"tiny.tgz": tarball("tiny")})
            lock = (await build(files) / "package-lock.json").read_text()
            locked = {**files, "package-lock.json": lock}
            assert said(await build(locked), "tiny") == "tiny 1.2.3"
            assert "ci" in build.commands[-2]
            wanted = {"tiny": "file:tiny.tgz", "other": "file:other.tgz"}
            with pytest.raises(BuildFailed, match="and its lock do not fit each other") as found:
                await build({**locked, **project(wanted, {"other.tgz": tarball("other")})})
            assert found.value.hint == "run npm install and deploy the new lock"

    asyncio.run(main())


def test_scripts_run_in_the_sandbox_only(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUYUN_TEST_SECRET", "not for packages")
    package = tarball("prying", files={"pry.js": PRYING}, scripts={"postinstall": "node pry.js"})

    async def main() -> Path:
        async with builds(data, env={"PRY": str(data)}) as build:
            root_script = {"scripts": {"postinstall": "touch /tmp/never"}}
            return await build(project({"prying": "file:p.tgz"}, {"p.tgz": package}, **root_script))

    tree = asyncio.run(main())
    assert json.loads((tree / "node_modules/prying/found.json").read_text()) == {
        "key": "ENOENT", "objects": "ENOENT", "cache": "ENOENT", "usr": "EROFS", "secret": None, "processes": [],
    }  # fmt: skip
    assert (tree / "node_modules/prying/found.json").stat().st_uid == os.getuid()


@pytest.mark.parametrize(
    ("scripts", "error", "words"),
    [
        ({"install": "echo about to fail >&2; exit 3"}, BuildFailed, "the install script of bad failed: echo about"),
        ({"install": "ln -s /etc/passwd stolen"}, BuildFailed, "may not hold: node_modules/bad/stolen links to"),
        ({"install": "sleep 600"}, BuildFailed, "took longer than 3 s"),
    ],
)
def test_scripts_that_do_wrong(data: Path, scripts: dict[str, str], error: type[Exception], words: str) -> None:
    async def main() -> None:
        async with builds(data) as build:
            if "sleep" in scripts["install"]:
                object.__setattr__(build.builder._options, "timeout_s", 3.0)
            with pytest.raises(error, match=words):
                await build(project({"bad": "file:bad.tgz"}, {"bad.tgz": tarball("bad", scripts=scripts)}))

    asyncio.run(main())


def test_folders_of_the_code_are_packages_too(data: Path) -> None:
    async def main() -> None:
        async with builds(data) as build:
            local = {
                "lib/index.js": "module.exports = 'mine'",
                "lib/package.json": '{"name": "lib", "version": "1.0.0"}',
            }
            tree = await build(project({"lib": "file:./lib"}, local))
            assert said(tree, "lib") == "mine"

    asyncio.run(main())


def test_what_needs_no_build(data: Path) -> None:
    async def main() -> None:
        async with builds(data) as build:
            assert await build.find({"index.js": "1"}) is None
            assert await build.find({"package.json": '{"type": "module"}'}) is None
            assert await build.find({"package.json": '{"devDependencies": {"x": "1"}}'}) is None
            assert await build.find(project({"x": "1"}, {"node_modules/x/index.js": ""})) is None
            assert build.lines == ["the code brings its own node_modules"]
            assert build.commands == []

    asyncio.run(main())


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"package.json": "{"}, "package.json: it is not JSON"),
        ({"package.json": "[]"}, "package.json: it is not an object"),
        ({"package.json": b"\xff"}, "package.json: it is not UTF-8"),
        ({"package.json": '{"dependencies": ["x"]}'}, '"dependencies" is not an object'),
        ({"package.json": '{"dependencies": {"x": 1}}'}, '"dependencies" is not an object'),
        (project({"x": "file:../x"}), "'file:../x', which is not in the code folder"),
        (project({"x": "file:/etc"}), "'file:/etc', which is not in the code folder"),
        (project({"x": "./a/../../x"}), "which is not in the code folder"),
        (project({"x": "link:./x"}), "only works beside its project"),
        (project({"x": "workspace:*"}), "only works beside its project"),
    ],
)
def test_a_package_json_that_asks_for_what_cannot_be(data: Path, files: dict[str, Any], words: str) -> None:
    async def main() -> None:
        async with builds(data) as build:
            with pytest.raises(BadRequest) as found:
                await build.find(files)
            assert words in found.value.detail
            assert build.commands == []

    asyncio.run(main())


def test_a_node_without_npm(data: Path) -> None:
    async def main() -> None:
        async with builds(data) as build:
            build.builder._node_of = lambda runtime: Node(name="nodejs20", executable="/usr/bin/node", works=True)
            with pytest.raises(HostUnable, match="has no npm"):
                await build.find(project({"x": "1"}))

    asyncio.run(main())


def test_an_npmrc_keeps_a_build_from_the_shared_cache(data: Path) -> None:
    async def main() -> None:
        async with builds(data) as build:
            files = project({"t": "file:t.tgz"}, {"t.tgz": tarball("t")})
            await build(files)
            await build({**files, ".npmrc": "git=./evil.sh\n"})
            caches = [argv[argv.index("--cache") + 1] for argv in build.commands if "--ignore-scripts" in argv]
            assert [cache == str(data / "builds/cache") for cache in caches] == [True, False]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("lines", "detail"),
    [
        (["npm ERR! code E404", "npm ERR! 404  'nope@1.0.0' is not in this registry."], "no package nope@1.0.0"),
        (["npm error code ETARGET", "npm error notarget No matching version found for x@^9.0.0."], "version of x@^9"),
        (["npm error code ERESOLVE", "npm error While resolving: a@1.0.0"], "contradict each other: a@1.0.0"),
        (["npm error code ENOTFOUND"], "the registry cannot be reached"),
        (["npm error code EBADENGINE", "npm error notsup Not compatible with your version of node/npm: x@1.0.0"],
         "x@1.0.0 does not run on this Node"),
        (["npm error gyp ERR! stack Error: not found: make"], "there is no compiler"),
        (["npm error something else"], "npm ci failed: something else"),
        ([], "npm ci failed: no output"),
    ],
)  # fmt: skip
def test_complaints(lines: list[str], detail: str) -> None:
    found = explain(lines, "npm ci")
    assert isinstance(found, BuildFailed)
    assert detail in found.detail
    assert found.hint


def test_a_full_disk() -> None:
    assert isinstance(explain(["npm error code ENOSPC"], "npm ci"), StorageFull)
