"""Code prepared for Java by the real compiler and the real JVM."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

from fuyun.base.archive import pack
from fuyun.domain.errors import BuildFailed, FunctionLoadFailed, HostUnable
from fuyun.domain.functions import Artifact
from fuyun.drivers.blobs.folder import FolderBlobs
from fuyun.drivers.builds.isolated import ProcessRunner
from fuyun.drivers.builds.jars import JarBuilder
from fuyun.runtime.jdks import ARCHIVE, CLASSES, FACTS, FLAGS, find_jdk
from fuyun.runtime.probe import java_runtime
from fuyun.testing.contracts.blobs import pieces
from tests.javacode import jar

pytestmark = pytest.mark.timeout(120)
APP = "package a; public class App { static { System.exit(9); } public static String handle(String e) { return e; } }"


class Bench:
    """A builder over a fresh folder, and what it ran and said."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.blobs = FolderBlobs.open(root / "objects")
        self.lines: list[str] = []
        self.runs = 0
        self.builder = JarBuilder(self.blobs, self._counted, root / "java")

    async def _counted(self, argv: list[str], **options: object) -> int:
        self.runs += 1
        return await ProcessRunner()(argv, **options)  # type: ignore[arg-type]

    async def upload(self, files: dict[str, str | bytes]) -> Artifact:
        folder = self.root / f"upload-{len(list(self.root.iterdir()))}"
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return await self.blobs.put(pieces(pack(folder)), 2**24)

    async def prepare(self, code: Artifact, handler: str = "a.App::handle") -> Path:
        return self.blobs.path((await self.builder.prepare(code, handler, self.lines.append)).digest)


def on_bench(root: Path, scene: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        bench = Bench(root)
        try:
            await scene(bench)
        finally:
            await bench.builder.close()
        assert not list((root / "java").iterdir()), "rooms are gone with their builds"

    asyncio.run(main())


def test_sources_are_compiled_and_archived_once_without_running_them(tmp_path: Path) -> None:
    """[R 19.1] [R 19.2]"""

    async def scene(bench: Bench) -> None:
        code = await bench.upload({"src/a/App.java": APP, "b/words.txt": "kept"})
        tree, same = await asyncio.gather(bench.prepare(code), bench.prepare(code))
        assert tree == same == await bench.prepare(code)
        assert bench.runs == 1
        facts = json.loads((tree / FACTS).read_text())
        assert facts == {"java": f"{find_jdk()[0]}/bin/java", "class_path": [CLASSES]}
        with ZipFile(tree / CLASSES) as classes:
            assert {"a/App.class", "b/words.txt", "fuyun/runtime/Bootstrap.class"} <= set(classes.namelist())
        command = [facts["java"], *FLAGS, "-Xshare:on", f"-XX:SharedArchiveFile={ARCHIVE}", "-Xlog:class+load:stdout"]
        command += ["-cp", CLASSES, "fuyun.runtime.Bootstrap", "check", "a.App"]
        said = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=True, timeout=60).stdout
        loaded = [line for line in said.splitlines() if "a.App " in line or "fuyun.runtime.Json " in line]
        assert len(loaded) == 2
        assert all("source: shared objects file (top)" in line for line in loaded), "the archive holds where it now is"

    on_bench(tmp_path, scene)


def test_a_jar_is_taken_as_it_is(tmp_path: Path) -> None:
    """[R 19.1]"""

    async def scene(bench: Bench) -> None:
        made = jar(tmp_path / "made", {"a/App.java": APP})
        tree = await bench.prepare(await bench.upload({"lib/app.jar": made}))
        assert json.loads((tree / FACTS).read_text())["class_path"] == [CLASSES, "lib/app.jar"]
        assert (tree / "lib/app.jar").read_bytes() == made
        assert (tree / ARCHIVE).stat().st_size > 100_000

    on_bench(tmp_path, scene)


def test_what_cannot_be_prepared_is_explained(tmp_path: Path) -> None:
    """[R 19.2]"""

    async def scene(bench: Bench) -> None:
        code = await bench.upload({"a/App.java": APP})
        with pytest.raises(FunctionLoadFailed, match=r"there is no class a\.Ap in the code's classes and JARs"):
            await bench.prepare(code, "a.Ap")
        with pytest.raises(FunctionLoadFailed, match=r"a\.App has no method"):
            await bench.prepare(code, "a.App::main")
        odd = await bench.upload({"a/App.java": APP.replace("String e", "int e").replace("return e", "return null")})
        with pytest.raises(FunctionLoadFailed, match=r"a\.App::handle takes none of \(InputStream, OutputStream\)"):
            await bench.prepare(odd)
        broken = await bench.upload({"a/App.java": APP.replace("return e", "return f")})
        with pytest.raises(BuildFailed, match="the Java sources do not compile") as found:
            await bench.prepare(broken)
        assert "a/App.java:1: error: cannot find symbol" in found.value.fields["log"]
        with pytest.raises(BuildFailed, match="a JAR has a colon in its name"):
            await bench.prepare(await bench.upload({"x:y.jar": b""}))

    on_bench(tmp_path, scene)


def test_a_host_without_a_jdk_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(bench: Bench) -> None:
        code = await bench.upload({"a/App.java": APP})
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(HostUnable, match="no JDK, which runtime java needs: there is no javac on PATH") as found:
            await bench.prepare(code)
        assert "apt install openjdk-17-jdk-headless" in found.value.hint
        (told,) = java_runtime()
        assert (told["state"], told["found"]) == ("limited", "there is no javac on PATH")

    (here,) = java_runtime()
    assert (here["name"], here["state"], find_jdk()[0] in here["found"]) == ("runtime java", "ok", True)
    on_bench(tmp_path, scene)
