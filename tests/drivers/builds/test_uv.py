"""Dependency builds with the real uv, without a network: from wheels and source distributions made by the tests."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fuyun.base.archive import digest_of, pack
from fuyun.domain.errors import BadRequest, BuildFailed, NotFound
from fuyun.domain.functions import Artifact
from fuyun.drivers.blobs.folder import FolderBlobs
from fuyun.drivers.builds.isolated import ProcessRunner
from fuyun.drivers.builds.uv import UNISOLATED, UvBuilder, UvOptions
from fuyun.drivers.instances.interpreters import Interpreters
from fuyun.testing.contracts.blobs import pieces
from tests.drivers.builds.packages import make_sdist, make_wheel
from tests.waiting import wait_until

PYTHON = Path(getattr(sys, "_base_executable", sys.executable))
INTERPRETERS = Interpreters()


UNCHECKED_HASH = 0b01  # flags of a bytecode file, PEP 552


def invalidation(module: Path) -> int:
    """The flags word of the bytecode beside a module."""
    return int.from_bytes(Path(importlib.util.cache_from_source(str(module))).read_bytes()[4:8], "little")


def imported(tree: Path, expression: str) -> str:
    """What the interpreter prints for `module.name` with only `tree` on its path."""
    code = f"import sys; sys.path.insert(0, {str(tree)!r}); import {expression.split('.')[0]}; print({expression})"
    return subprocess.run([str(PYTHON), "-I", "-S", "-c", code], capture_output=True, text=True, check=True).stdout


class CountingRunner:
    """The plain runner, remembering what was run."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self._run = ProcessRunner()

    async def __call__(
        self,
        argv: list[str],
        *,
        ro: list[str],
        rw: list[str],
        env: dict[str, str],
        cwd: str,
        network: bool = False,
        timeout_s: float,
        output: Callable[[str], None],
    ) -> int:
        self.commands.append(argv)
        return await self._run(
            argv, ro=ro, rw=rw, env=env, cwd=cwd, network=network, timeout_s=timeout_s, output=output
        )


class Bench:
    """A builder over a fresh folder."""

    def __init__(self, root: Path, **options: object) -> None:
        self.wheels = root / "wheels"
        self.wheels.mkdir(exist_ok=True)
        self.runner = CountingRunner()
        self.blobs = FolderBlobs.open(root / "objects")
        self.lines: list[str] = []
        args = ("--no-index", "--find-links", str(self.wheels))
        merged = UvOptions(**{"args": args, "env": {}, **options})  # type: ignore[arg-type]
        self.builder = UvBuilder(self.blobs, self.runner, INTERPRETERS.by_path, root / "builds", merged)
        self.rooms = root / "builds" / "rooms"

    async def build(self, text: str) -> Artifact:
        return await self.builder.build(text, PYTHON, self.lines.append)


@asynccontextmanager
async def bench(root: Path, **options: object) -> AsyncIterator[Bench]:
    made = Bench(root, **options)
    try:
        yield made
        assert list(made.rooms.iterdir()) == [], "rooms of builds are left"
    finally:
        await made.builder.close()


def test_a_wheel_and_what_it_needs_become_one_layer_with_bytecode(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as b:
            make_wheel(b.wheels, "upper", "1.0", "import lower\nvalue = lower.value + 1\n", ("lower>=2",))
            make_wheel(b.wheels, "lower", "1.0", "value = 1\n")
            make_wheel(b.wheels, "lower", "2.0", "value = 2\n")
            layer = await b.build("# comment\nupper\n")
            tree = b.blobs.path(layer.digest)
            assert imported(tree, "upper.value") == "3\n"
            assert invalidation(tree / "upper.py") == UNCHECKED_HASH
            assert {"upper 1.0", "lower 2.0"} <= set(b.lines)
            assert b.lines[:2] == ["resolving 1 requirement", "locked 2 packages"]

    asyncio.run(main())


def test_an_unchanged_text_runs_nothing_and_another_with_the_same_lock_installs_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as b:
            make_wheel(b.wheels, "small", "1.0", "")
            layer = await b.build("small\n")
            ran = len(b.runner.commands)
            make_wheel(b.wheels, "small", "2.0", "")
            assert await b.build("# only the comment differs\nsmall\n") == layer
            assert len(b.runner.commands) == ran
            assert b.lines[-1] == "cached"
            assert await b.build("small==1.0\n") == layer
            assert [argv[2] for argv in b.runner.commands[ran:]] == ["compile"]

    asyncio.run(main())


def test_two_builds_at_once_are_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as b:
            make_wheel(b.wheels, "small", "1.0", "")
            first, second, third = await asyncio.gather(b.build("small\n"), b.build("small\n"), b.build("small>=1\n"))
            assert first == second == third
            assert sorted(argv[2] for argv in b.runner.commands) == ["compile", "compile", "install"]

    asyncio.run(main())


def test_a_lock_is_built_again_after_its_layer_was_collected(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as b:
            make_wheel(b.wheels, "small", "1.0", "")
            layer = await b.build("small\n")
            await b.blobs.collect(frozenset(), -1.0)
            assert await b.blobs.find(layer.digest) is None
            assert await b.build("small\n") == layer
            assert [argv[2] for argv in b.runner.commands] == ["compile", "install", "install"]

    asyncio.run(main())


def test_a_source_distribution_is_built_with_a_cache_of_its_own(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as b:
            make_sdist(b.wheels, "fromsource", "1.0")
            layer = await b.build("fromsource\n")
            assert (b.blobs.path(layer.digest) / "fromsource.py").read_text() == "built = True\n"
            shared = str(tmp_path / "builds" / "cache")
            for argv in b.runner.commands:
                assert ("--no-build" in argv) == (argv[argv.index("--cache-dir") + 1] == shared)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("reqeusts\n", "there is no package 'reqeusts'"),
        ("small==9\n", "there is no version small==9"),
        ("small>=\n", "cannot be read"),
        ("needsnew\n", "small"),
    ],
)
def test_what_cannot_be_resolved_is_named(tmp_path: Path, text: str, detail: str) -> None:
    async def main() -> None:
        async with bench(tmp_path) as b:
            make_wheel(b.wheels, "small", "1.0", "")
            make_wheel(b.wheels, "needsnew", "1.0", "", ("small>=2",))
            with pytest.raises(BuildFailed) as caught:
                await b.build(text)
            assert detail in caught.value.detail
            assert caught.value.hint
            assert caught.value.fields["log"]

    asyncio.run(main())


def test_a_build_that_fails_names_the_package_and_keeps_the_log(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as b:
            make_sdist(b.wheels, "broken", "1.0", "raise RuntimeError('no such luck')")
            with pytest.raises(BuildFailed) as caught:
                await b.build("broken\n")
            assert "broken" in caught.value.detail
            assert any("no such luck" in line for line in caught.value.fields["log"])

    asyncio.run(main())


def test_a_build_that_never_ends_is_ended(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path, timeout_s=3.0) as b:
            # A setup.py that hangs, and takes no processor for it: only the limit can end it.
            make_sdist(b.wheels, "endless", "1.0", "import time\nwhile True: time.sleep(1)")
            with pytest.raises(BuildFailed, match="longer than 3 s"):
                await b.build("endless\n")

    asyncio.run(main())


def test_a_layer_over_the_limit_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path, layer_bytes=100_000) as b:
            make_wheel(b.wheels, "large", "1.0", "#" * 200_000)
            with pytest.raises(BuildFailed, match="the limit is"):
                await b.build("large\n")

    asyncio.run(main())


def test_a_cancelled_build_leaves_nothing_running_but_goes_on_for_others(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as b:
            go = tmp_path / "go"
            os.mkfifo(go)
            for name in ("shared", "alone"):
                body = f"open({str(tmp_path / name)!r}, 'a').close()\nopen({str(go)!r}).read()"
                make_sdist(b.wheels, name, "1.0", body)

            def start(name: str) -> asyncio.Task[Artifact]:
                return asyncio.get_running_loop().create_task(b.build(f"{name}\n"))

            async def cancel_when_building(name: str, task: asyncio.Task[Artifact]) -> None:
                await asyncio.to_thread(wait_until, (tmp_path / name).exists, f"the build of {name} to begin")
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                assert task.cancelled()

            first, second = start("shared"), start("shared")
            await cancel_when_building("shared", first)
            await asyncio.to_thread(go.write_text, "now")
            assert (await second).digest
            await cancel_when_building("alone", start("alone"))
            assert await asyncio.to_thread(list, b.rooms.iterdir()) == []

    asyncio.run(main())


@pytest.mark.parametrize(
    "line", ["-r other.txt", "-e .", "./local", "x @ file:///etc", "--find-links /srv", "/abs/x.whl"]
)
def test_files_beside_the_text_are_refused(tmp_path: Path, line: str) -> None:
    async def main() -> None:
        async with bench(tmp_path) as b:
            with pytest.raises(BadRequest):
                await b.build(f"{line}\n")
            assert b.runner.commands == []

    asyncio.run(main())


def test_a_text_without_packages_is_an_empty_layer(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as b:
            layer = await b.build("# nothing yet\n")
            assert list(b.blobs.path(layer.digest).iterdir()) == []
            assert b.runner.commands == []

    asyncio.run(main())


def _packed(folder: Path, files: dict[str, str]) -> bytes:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return pack(folder)


async def _stored(b: Bench, folder: Path, files: dict[str, str]) -> Artifact:
    packed = _packed(folder, files)
    artifact = await b.blobs.put(pieces(packed), 10**7)
    assert artifact.digest == digest_of(packed)
    return artifact


def test_code_gets_bytecode_beside_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as b:
            code = await _stored(b, tmp_path / "code", {"app.py": "x = 1\n", "pkg/__init__.py": "", "data.txt": "kept"})
            compiled = await b.builder.compile(code, PYTHON, b.lines.append)
            tree = b.blobs.path(compiled.digest)
            assert compiled.digest != code.digest
            assert (tree / "data.txt").read_text() == "kept"
            for module in ("app.py", "pkg/__init__.py"):
                assert invalidation(tree / module) == UNCHECKED_HASH
            ran = len(b.runner.commands)
            assert await b.builder.compile(code, PYTHON, b.lines.append) == compiled
            assert len(b.runner.commands) == ran
            assert b.lines == []

    asyncio.run(main())


def test_code_that_does_not_compile_is_told_and_kept(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as b:
            code = await _stored(b, tmp_path / "code", {"good.py": "x = 1\n", "pkg/bad.py": "def f(:\n"})
            compiled = await b.builder.compile(code, PYTHON, b.lines.append)
            tree = b.blobs.path(compiled.digest)
            assert (tree / "pkg" / "bad.py").exists()
            assert invalidation(tree / "good.py") == UNCHECKED_HASH
            assert len(b.lines) == 1
            assert "pkg/bad.py" in b.lines[0]

    asyncio.run(main())


def test_code_without_modules_is_itself_and_unknown_code_is_not_found(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as b:
            code = await _stored(b, tmp_path / "code", {"page.html": "<p>"})
            assert await b.builder.compile(code, PYTHON, b.lines.append) == code
            with pytest.raises(NotFound):
                await b.builder.compile(Artifact(digest="0" * 64, size_bytes=1), PYTHON, b.lines.append)

    asyncio.run(main())


@pytest.mark.parametrize("isolated", [True, False])
def test_a_build_without_a_sandbox_is_warned_of_each_time_it_runs(tmp_path: Path, isolated: bool) -> None:
    async def main() -> None:
        async with bench(tmp_path, isolated=isolated) as b:
            make_wheel(b.wheels, "small", "1.0", "value = 1\n")
            make_wheel(b.wheels, "other", "1.0", "value = 1\n")
            await b.build("small\n")
            assert b.lines.count(UNISOLATED) == (0 if isolated else 1)
            await b.build("other\n")
            assert b.lines.count(UNISOLATED) == (0 if isolated else 2)
            b.lines.clear()
            await b.build("small\n")
            assert b.lines == ["cached"]

    asyncio.run(main())
