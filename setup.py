"""Builds the invoke path with mypyc where a C compiler is at hand (docs/decisions/0011-the-invoke-path-is-compiled.md).

FUYUN_COMPILE=0 leaves it interpreted (an editable install must: compiled files would hide later edits). 1 makes a
failure to compile one of the installation; without it the lack of a compiler is told, and everything works, slower.
`quick` is 1 without optimisation, for tests. FUYUN_COMPILE_WORK names the folder for the C files, `build` otherwise.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
from typing import Any

from setuptools import setup

#: Modules of the path of a warm call. Structs and enumerations live elsewhere: a compiled class loses its keywords.
COMPILED = (
    "base/ids",
    "decide/billing",
    "decide/instance",
    "decide/quotas",
    "drivers/instances/channel",
    "services/dispatching",
    "services/flights",
    "services/growth",
    "services/measures",
    "services/members",
    "services/pools",
    "services/requests",
    "services/routes",
    "services/turns",
    "transports/gateway/answers",
    "transports/gateway/connection",
    "transports/gateway/exchange",
    "transports/gateway/intake",
    "transports/gateway/reader",
    "transports/gateway/reply",
    "transports/gateway/shared",
)


def _can_compile() -> bool:
    """Whether there is a C compiler with Python's headers."""
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
    command = [*compiler, "-fsyntax-only", "-I", sysconfig.get_path("include"), "-x", "c", "-"]
    try:
        done = subprocess.run(command, input=b"#include <Python.h>\n", capture_output=True)
    except OSError:
        return False
    return done.returncode == 0


def _extensions() -> list[Any]:
    wish = os.environ.get("FUYUN_COMPILE", "auto")
    if wish == "0":
        return []
    if wish == "auto" and not _can_compile():
        print("fuyun: the invoke path is installed interpreted; with gcc and python3-dev it is faster", file=sys.stderr)
        return []
    from mypyc.build import mypycify

    return mypycify(
        [f"src/fuyun/{module}.py" for module in COMPILED],
        opt_level="0" if wish == "quick" else "2",
        debug_level="0",
        group_name="fuyun",
        target_dir=os.environ.get("FUYUN_COMPILE_WORK", "build"),
    )


setup(ext_modules=_extensions())
