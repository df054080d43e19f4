"""Interpreters made for a test: this one's program with a standard library whose configuration says what is wanted."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

BASE = Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
NAME = f"python3.{sys.version_info[1]}"


def make_interpreter(prefix: Path, *, configure: str = "", core_flags: str = "", without: str = "") -> Path:
    """An interpreter below `prefix` that was configured with `configure` and compiled with `core_flags`, as it says.

    It is a copy of this session's program; its library holds links to the real files, all but the module `without`.
    """
    library = prefix / "lib" / NAME
    library.mkdir(parents=True)
    for item in Path(os.path.realpath(os.__file__)).parent.iterdir():
        if item.name not in ("site-packages", without) and not item.name.startswith("_sysconfigdata"):
            (library / item.name).symlink_to(item)
    variables = {**sysconfig.get_config_vars(), "CONFIG_ARGS": configure, "PY_CORE_CFLAGS": core_flags}
    name = sysconfig._get_sysconfigdata_name()  # type: ignore[attr-defined]
    (library / f"{name}.py").write_text(f"build_time_vars = {variables!r}\n")
    program = prefix / "bin" / NAME
    program.parent.mkdir()
    shutil.copy(BASE, program)
    return program
