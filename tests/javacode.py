"""JARs, made from sources by the JDK that is installed."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path


def jar(folder: Path, sources: Mapping[str, str]) -> bytes:
    """A JAR of the classes of `sources` (path -> text). `folder` is made for the work."""
    for name, text in sources.items():
        path = folder / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    names = [str(folder / "src" / name) for name in sources]
    subprocess.run(["javac", "-proc:none", "-d", str(folder / "classes"), *names], check=True, timeout=100)
    target = folder / "made.jar"
    subprocess.run(
        ["jar", "--create", "--file", str(target), "-C", str(folder / "classes"), "."], check=True, timeout=100
    )
    return target.read_bytes()
