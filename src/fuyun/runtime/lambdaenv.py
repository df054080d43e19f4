"""Which program a custom function starts, and with which variables.

Source of the names: AWS Lambda developer guide, "Defined runtime environment variables".
"""

from __future__ import annotations

import os
import sys

from fuyun.runtime.problems import LoadProblem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


_BASE = {"HOME": "/tmp", "TMPDIR": "/tmp", "LANG": "C.UTF-8", "TZ": "UTC", "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR"}


def bootstrap(task: dict[str, Any]) -> str:
    """The path of the program: in the code folder, else in the first layer that has one."""
    for folder in (task["code"], *task["layers"]):
        path = os.path.join(folder, "bootstrap")
        if os.path.exists(path):
            return path
    try:
        found = ", ".join(sorted(os.listdir(task["code"]))[:12]) or "nothing"
    except OSError as error:
        found = str(error.strerror)
    raise LoadProblem("handler_missing", f"there is no bootstrap in the code, which holds {found}; add an executable")


def image_command(task: dict[str, Any]) -> list[str]:
    """The command of the function's image. LoadProblem when it has none."""
    argv = list(task["argv"])
    if not argv:
        text = "the image names neither an entrypoint nor a command; set one when it is made, or write `command`"
        raise LoadProblem("handler_missing", text)
    return argv


def environment(task: dict[str, Any], address: str) -> dict[str, str]:
    """The program's variables: the function's over a fixed base, and over those what AWS Lambda defines."""
    mib = str(int(task["memory_bytes"]) // 2**20)
    region = task["env"].get("AWS_REGION", "us-east-1")
    return {
        **_BASE,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        **(task["env"] if task.get("image") else _of_code(task)),
        "AWS_LAMBDA_RUNTIME_API": address,
        "AWS_LAMBDA_FUNCTION_NAME": task["function"],
        "AWS_LAMBDA_FUNCTION_VERSION": task["version"],
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": mib,
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/fuyun/{task['namespace']}/{task['function']}",
        "AWS_LAMBDA_LOG_STREAM_NAME": task["instance"],
        "LAMBDA_TASK_ROOT": task["code"],
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "_HANDLER": task["handler"],
        "FUYUN_NAMESPACE": task["namespace"],
        "FUYUN_FUNCTION": task["function"],
        "FUYUN_VERSION": task["version"],
        "FUYUN_INSTANCE": task["instance"],
        "FUYUN_HANDLER": task["handler"],
        "FUYUN_MEMORY_BYTES": str(task["memory_bytes"]),
        "FUYUN_TIMEOUT_S": str(task["timeout_s"]),
    }


def _of_code(task: dict[str, Any]) -> dict[str, str]:
    """The function's variables over those that lead to what code and layers bring."""
    layers = list(task["layers"])
    python = [os.path.join(each, "python") for each in layers]
    libraries = [os.path.join(each, "lib") for each in (task["code"], *layers)]
    binaries = [folder for each in layers if os.path.isdir(folder := os.path.join(each, "bin"))]
    return {
        "LD_LIBRARY_PATH": os.pathsep.join([task["code"], *libraries]),
        "PYTHONPATH": os.pathsep.join([task["code"], *python, *layers]),
        "NODE_PATH": os.pathsep.join(os.path.join(each, "nodejs/node_modules") for each in layers),
        **task["env"],
        "PATH": os.pathsep.join([*binaries, task["env"].get("PATH", "/usr/local/bin:/usr/bin:/bin")]),
        "FUYUN_PYTHON": sys.executable,
    }
