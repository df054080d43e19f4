"""The runtime `java`: a JVM that `java/Bootstrap.java` turns into a client of the instance's Runtime API.

docs/contracts/runtime.md, section "Java". What a deployment prepared stands in the code, in the folder `jdks.PREPARED`.
"""

from __future__ import annotations

import json
import os
import shlex

from fuyun.runtime.custom import Custom
from fuyun.runtime.jdks import ARCHIVE, FACTS, FLAGS, MAIN, heap_bytes
from fuyun.runtime.keeper import keep
from fuyun.runtime.problems import LoadProblem

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any

    from fuyun.runtime.calls import Call

_OUT_OF_MEMORY = "java.lang.OutOfMemoryError"


class Java(Custom):
    """The program is a JVM; everything else is what a custom program has."""

    def command(self) -> list[str]:
        """The JVM's command line, in the code folder."""
        try:
            with open(os.path.join(self.task["code"], FACTS), encoding="utf-8") as file:
                facts = json.load(file)
            java, path = str(facts["java"]), [str(part) for part in facts["class_path"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LoadProblem("function_load_failed", f"the code was not prepared for Java: {error}") from None
        if not os.access(java, os.X_OK):
            raise LoadProblem(
                "function_load_failed", f"{java}, which this version was built with, is not here; deploy it again"
            )
        heap = heap_bytes(int(self.task["memory_bytes"]))
        archive = [f"-XX:SharedArchiveFile={ARCHIVE}"] if os.path.exists(ARCHIVE) else []
        return [
            java, *FLAGS, *archive, "-Xms8m", f"-Xmx{heap // 2**20}m", *self._options(),
            "-cp", os.pathsep.join([*path, *self._attached()]), MAIN,
            "run", self.task["handler"], str(self.task["concurrency"]),
        ]  # fmt: skip

    def _options(self) -> list[str]:
        """The author's own options, as a shell would split them; the last one of a kind counts."""
        text = str(self.task["env"].get("JAVA_OPTS", ""))
        try:
            return shlex.split(text)
        except ValueError as error:
            raise LoadProblem("function_load_failed", f"JAVA_OPTS cannot be split ({error}): {text[:200]}") from None

    def _attached(self) -> list[str]:
        """JARs of the layers, in `java/lib` as AWS Lambda has it. Behind the code's: the archive knows those only."""
        folders = [os.path.join(each, "java/lib") for each in self.task["layers"]]
        return [
            os.path.join(folder, name)
            for folder in folders
            if os.path.isdir(folder)
            for name in sorted(os.listdir(folder))
            if name.endswith(".jar")
        ]

    def refuse(self, call: Call, problem: dict[str, Any]) -> None:
        """As ever, but a heap that is full counts as the limit it is."""
        if problem.get("error_type") == _OUT_OF_MEMORY:
            problem["code"] = "function_out_of_memory"
        super().refuse(call, problem)


def main(sock: socket.socket, task: dict[str, Any]) -> int:
    """Be an instance of `task` until the platform hangs up; the exit status."""
    return keep(Java(sock, task))
