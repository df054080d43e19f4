"""The runtime `java`: a JVM that `java/Bootstrap.java` turns into a client of the instance's Runtime API.

docs/contracts/runtime.md, section "Java". What a deployment prepared stands in the code, in the folder `jdks.PREPARED`.
"""

from __future__ import annotations

from fuyun.runtime.custom import Custom
from fuyun.runtime.jdks import MAIN
from fuyun.runtime.jvmline import command_line
from fuyun.runtime.keeper import keep

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
        return command_line(self.task, [MAIN, "run", self.task["handler"], str(self.task["concurrency"])])

    def refuse(self, call: Call, problem: dict[str, Any]) -> None:
        """As ever, but a heap that is full counts as the limit it is."""
        if problem.get("error_type") == _OUT_OF_MEMORY:
            problem["code"] = "function_out_of_memory"
        super().refuse(call, problem)


def main(sock: socket.socket, task: dict[str, Any]) -> int:
    """Be an instance of `task` until the platform hangs up; the exit status."""
    return keep(Java(sock, task))
