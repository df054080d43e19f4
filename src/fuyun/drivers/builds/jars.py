"""Code for the runtime `java`, prepared at its deployment: sources compiled, classes in one JAR, their archive.

A class-data-sharing archive holds classes as a JVM has them in memory, and is made by a JVM that has loaded them
(JEP 350). It names its JARs as the class path did, with their times and sizes: the class path is relative to the code
folder, which is where a JVM starts, so that an archive made in a build holds at any other place.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
from collections import deque
from pathlib import Path

from fuyun.domain.errors import BuildFailed, FunctionLoadFailed, HostUnable
from fuyun.domain.functions import Artifact
from fuyun.drivers.builds.flights import Progress
from fuyun.drivers.builds.rooms import Room, finish
from fuyun.drivers.builds.workshop import Workshop
from fuyun.ports.blobs import BlobStore
from fuyun.ports.builds import Sandboxed
from fuyun.runtime.jdks import ARCHIVE, CLASSES, FACTS, FLAGS, MAIN, PREPARED, SOURCES, find_jdk

TIMEOUT_S = 300.0
#: Classes and archive beside what they are made of.
_GROWTH, _LEAST_BYTES = 8, 2**26
#: Exit statuses of the script: sources that do not compile, and EX_DATAERR of sysexits.h for a handler that is none.
_NO_CLASSES, _NO_HANDLER = 64, 65
#: $1 bin folder of the JDK, $2 folder of classes, $3 list of sources, $4 class path while compiling, $5 class path at
#: run time, $6 handler, $7 options of the JVM. Strings are joined without the machinery that loads slowly (JEP 280).
_SCRIPT = f"""
"$1/javac" -J-XX:TieredStopAtLevel=1 -J-XX:+UseSerialGC -proc:none -nowarn -encoding UTF-8 -XDstringConcat=inline \\
  -cp "$4" -d "$2" "@$3" || exit {_NO_CLASSES}
"$1/jar" -J-XX:TieredStopAtLevel=1 --create --no-manifest --no-compress --file {CLASSES} -C "$2" . || exit 70
exec "$1/java" $7 -XX:ArchiveClassesAtExit={ARCHIVE} -cp "$5" {MAIN} check "$6"
"""


class JarBuilder:
    """Implements `ports.builds.JavaBuilder`. `work` is on the file system of the blob store."""

    def __init__(self, blobs: BlobStore, run: Sandboxed, work: Path) -> None:
        self._blobs = blobs
        self._run = run
        self._shop = Workshop("java", blobs, work)
        self.close = self._shop.close

    async def prepare(self, code: Artifact, handler: str, progress: Progress) -> Artifact:
        """See `ports.builds.JavaBuilder`."""
        try:
            home, version = await asyncio.to_thread(find_jdk)
        except LookupError as exc:
            raise HostUnable(
                f"this host has no JDK, which runtime java needs: {exc}",
                hint="install one, 17 or newer (on Debian: apt install openjdk-17-jdk-headless)",
                feature="java",
            ) from exc
        key = f"java {code.digest} {handler} {home} {version} {await asyncio.to_thread(_digest_of_ours)}"
        return await self._shop.kept(key, lambda tell: self._prepare(code, handler, home, key, tell), progress)

    async def _prepare(self, code: Artifact, handler: str, home: str, key: str, tell: Progress) -> Artifact:
        async with self._shop.room() as room:
            path = await asyncio.to_thread(_lay_out, self._blobs.path(code.digest), room, home)
            tell("compiling, and archiving classes")
            await self._make(room, home, handler, path)
            await asyncio.to_thread(_check_output, room.out, tell)
            await asyncio.to_thread(finish, room.out, _GROWTH * code.size_bytes + _LEAST_BYTES)
            return await self._blobs.adopt(room.out, key)

    async def _make(self, room: Room, home: str, handler: str, path: list[str]) -> None:
        lines: deque[str] = deque(maxlen=60)
        arguments = [
            f"{home}/bin", str(room.scratch / "classes"), str(room.scratch / "sources"),
            os.pathsep.join(path[1:]) or ".", os.pathsep.join(path), handler, " ".join(FLAGS),
        ]  # fmt: skip
        try:
            status = await self._run(
                ["/bin/sh", "-c", _SCRIPT, "java", *arguments],
                ro=[SOURCES, home, str(room.out)],
                rw=[str(room.scratch), str(room.scratch / "classes"), str(room.out / PREPARED)],
                env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin", "TMPDIR": str(room.scratch)},
                cwd=str(room.out),
                network=False,
                timeout_s=TIMEOUT_S,
                output=lines.append,
            )
        except TimeoutError:
            raise BuildFailed(
                f"compiling took longer than {TIMEOUT_S:g} s", hint="deploy a JAR that is built already", log=[]
            ) from None
        if status == _NO_HANDLER:
            text = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), "it is missing")
            raise FunctionLoadFailed(
                f"handler: {text}", hint="name it as CLASS::METHOD, such as com.example.App::handle"
            )
        if status != 0:
            what = "the Java sources do not compile" if status == _NO_CLASSES else f"the JVM ended with status {status}"
            hint = "correct them" if status == _NO_CLASSES else "see the log"
            raise BuildFailed(what, hint=hint, log=[line.replace(f"{room.out}/", "") for line in lines])


def _digest_of_ours() -> str:
    """What changes when our own classes or the way they are made do."""
    made = hashlib.sha256(" ".join((_SCRIPT, *FLAGS)).encode())
    for source in sorted(Path(SOURCES).glob("*.java")):
        made.update(source.read_bytes())
    return made.hexdigest()[:16]


def _lay_out(source: Path, room: Room, home: str) -> list[str]:
    """Fill the room; the class path relative to the code. What is neither a source nor a JAR goes with the classes."""
    shutil.copytree(source, room.out, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns(PREPARED))
    prepared, classes = room.out / PREPARED, room.scratch / "classes"
    prepared.mkdir()
    shutil.copytree(source, classes, symlinks=True, ignore=shutil.ignore_patterns(PREPARED, "*.java", "*.jar"))
    jars = sorted(str(jar.relative_to(room.out)) for jar in (*room.out.glob("*.jar"), *room.out.glob("lib/*.jar")))
    if any(os.pathsep in jar for jar in jars):
        raise BuildFailed("a JAR has a colon in its name", hint="rename it", log=[])
    path = [CLASSES, *jars]
    sources = [*Path(SOURCES).glob("*.java"), *(found for found in room.out.rglob("*.java") if found.is_file())]
    text = "".join(f'"{name}"\n' for name in sorted(str(found).replace("\\", "\\\\") for found in sources))
    (room.scratch / "sources").write_text(text)
    (room.out / FACTS).write_text(json.dumps({"java": f"{home}/bin/java", "class_path": path}) + "\n")
    return path


def _check_output(out: Path, tell: Progress) -> None:
    """What a sandbox wrote is plain files; without an archive a JVM only starts more slowly."""
    for name in os.listdir(out / PREPARED):
        if (out / PREPARED / name).is_symlink() or f"{PREPARED}/{name}" not in (FACTS, CLASSES, ARCHIVE):
            raise BuildFailed(f"{PREPARED}/{name} is not what was to be made", hint="deploy again", log=[])
    if not (out / ARCHIVE).is_file():
        tell("the JVM made no archive of its classes: instances start more slowly")
