"""The package as it is installed where a C compiler is: its invoke path compiled. Made once per state of the source.

    python -m scripts.compiled [--quick]

prints the folder, fit for PYTHONPATH. `--quick` compiles without optimisation: for tests, not for figures.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".state/compiled"


def _state(quick: bool) -> str:
    """A digest of all that the result depends on."""
    found = hashlib.sha256(f"{quick} {sys.version} {sysconfig.get_platform()}".encode())
    for path in (ROOT / "setup.py", ROOT / "pyproject.toml", *sorted((ROOT / "src/fuyun").rglob("*"))):
        if path.is_file() and "__pycache__" not in path.parts:
            found.update(f"\0{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return found.hexdigest()[:16]


def tree(quick: bool = False) -> Path:
    """The folder that holds the package; takes about a minute when the source has changed, half of it with `quick`.

    Raises RuntimeError with the compiler's last words when it cannot be made.
    """
    target = STATE / f"{'quick' if quick else 'full'}-{_state(quick)}"
    if target.is_dir():
        return target
    STATE.mkdir(parents=True, exist_ok=True)
    for old in STATE.glob(f"{'quick' if quick else 'full'}-*"):
        shutil.rmtree(old)
    work = STATE / f"work-{os.getpid()}"
    command = [sys.executable, "setup.py", "-q", "build", "--build-base", str(work), "--build-lib", str(work / "lib")]
    env = {**os.environ, "FUYUN_COMPILE": "quick" if quick else "1", "FUYUN_COMPILE_WORK": str(work / "c")}
    try:
        done = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise RuntimeError(f"compiling failed:\n{done.stdout[-4000:]}")
        (work / "lib").rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


if __name__ == "__main__":
    print(tree(quick="--quick" in sys.argv[1:]))
