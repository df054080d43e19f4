"""The JDK that serves the runtime `java`, what a deployment prepares with it, and how a JVM is started."""

from __future__ import annotations

import os
import shutil
import subprocess

SOURCES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "java")
#: Folder in the code: `FACTS`, the classes in `CLASSES`, and the archive of what the JVM makes of them.
PREPARED = "fuyun-java"
FACTS, CLASSES, ARCHIVE = f"{PREPARED}/java.json", f"{PREPARED}/classes.jar", f"{PREPARED}/classes.jsa"
#: An archive is only used with the flags it was made with. The serial collector and the first compiler alone are the
#: smallest and start quickest; code that runs for minutes would want the others: JAVA_OPTS can say so.
FLAGS = (
    "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:ReservedCodeCacheSize=32m", "-XX:-UsePerfData", "-Xss256k",
    "-Xshare:auto", "-Xlog:cds*=off",
)  # fmt: skip
MAIN = "fuyun.runtime.Bootstrap"
#: What a JVM needs beside its heap, and the keeper: classes, compiled code, stacks, the archive's pages.
_BESIDE_BYTES = 96 * 2**20
OLDEST = 17


def heap_bytes(memory_bytes: int) -> int:
    """The largest heap of an instance with so much memory: half of it, or all but what the rest takes."""
    return max(memory_bytes // 2, memory_bytes - _BESIDE_BYTES)


def find_jdk() -> tuple[str, str]:
    """Home and version of the JDK whose `javac` is on PATH, links resolved. LookupError says what is missing."""
    javac = shutil.which("javac")
    if javac is None:
        raise LookupError("there is no javac on PATH")
    home = os.path.dirname(os.path.dirname(os.path.realpath(javac)))
    try:
        said = subprocess.run(
            [os.path.join(home, "bin", "javac"), "-version"], capture_output=True, text=True, timeout=60, check=True
        )
        version = said.stdout.split()[1]
        major = int(version.split(".")[0].split("-")[0])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        raise LookupError(f"the javac in {home} does not tell its version: {error}") from None
    if major < OLDEST:
        raise LookupError(f"the JDK in {home} is {version}, older than {OLDEST}")
    return home, version
