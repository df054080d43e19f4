"""How a JVM is started in an instance, with what its deployment prepared in the folder `jdks.PREPARED` of the code."""

from __future__ import annotations

import json
import os
import shlex

from fuyun.runtime.jdks import ARCHIVE, FACTS, FLAGS, heap_bytes
from fuyun.runtime.problems import LoadProblem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def command_line(task: dict[str, Any], program: list[str]) -> list[str]:
    """The JVM's command line, in the code folder. `program`: the class whose main method is called, its arguments."""
    try:
        with open(os.path.join(task["code"], FACTS), encoding="utf-8") as file:
            facts = json.load(file)
        java, path = str(facts["java"]), [str(part) for part in facts["class_path"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LoadProblem("function_load_failed", f"the code was not prepared for Java: {error}") from None
    if not os.access(java, os.X_OK):
        raise LoadProblem(
            "function_load_failed", f"{java}, which this version was built with, is not here; deploy it again"
        )
    heap = heap_bytes(int(task["memory_bytes"]))
    archived = os.path.exists(os.path.join(task["code"], ARCHIVE))
    return [
        java, *FLAGS, *([f"-XX:SharedArchiveFile={ARCHIVE}"] if archived else []), "-Xms8m",
        f"-Xmx{heap // 2**20}m", *_options(task), "-cp", os.pathsep.join([*path, *_attached(task)]), *program,
    ]  # fmt: skip


def _options(task: dict[str, Any]) -> list[str]:
    """The author's own options, as a shell would split them; the last one of a kind counts."""
    text = str(task["env"].get("JAVA_OPTS", ""))
    try:
        return shlex.split(text)
    except ValueError as error:
        raise LoadProblem("function_load_failed", f"JAVA_OPTS cannot be split ({error}): {text[:200]}") from None


def _attached(task: dict[str, Any]) -> list[str]:
    """JARs of the layers, in `java/lib` as AWS Lambda has it. Behind the code's: the archive knows those only."""
    folders = [os.path.join(each, "java/lib") for each in task["layers"]]
    return [
        os.path.join(folder, name)
        for folder in folders
        if os.path.isdir(folder)
        for name in sorted(os.listdir(folder))
        if name.endswith(".jar")
    ]
