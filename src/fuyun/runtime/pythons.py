"""Where Python interpreters are, which one is preferred, and whether one was built with profile-guided optimisation.

`python pythons.py` exits 0 when the interpreter that runs it is optimised and 1 when it is not. The text of this file
is also run by interpreters that know nothing of Fuyun, so it imports little.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

#: The interpreters that serve functions, oldest first.
NAMES = tuple(f"python3.{minor}" for minor in range(9, 15))
#: Searched after PATH.
FOLDERS = ("/usr/local/bin", "/usr/bin")
#: Searched last: version managers and hand-made installations that need not be on PATH.
PATTERNS = ("~/.pyenv/versions/*/bin", "~/.local/share/uv/python/*/bin", "/opt/python*/bin", "~/.local/bin")
#: What to do about an interpreter that is not optimised. A loop of dictionary and string work takes 60 ms on CPython
#: 3.11.7 as configured by default and 42 ms on Debian's 3.11.2 (one quiet core, best of seven).
ADVICE = "install an optimised build: apt-get install python3, or configure --enable-optimizations; this one is slower"


def optimised() -> bool:
    """True when the interpreter that runs this was built with profile-guided optimisation.

    `configure --enable-optimizations` asks for it, and a build by hand (`make profile-opt`) leaves the compiler's flag.
    Debian and Ubuntu show neither: their program in /usr/bin is linked without libpython and built with a profile,
    while sysconfig describes the other build, that of the shared library (debian/rules, build-static and build-shared).
    """
    try:
        import sysconfig

        said = sysconfig.get_config_vars(
            "CONFIG_ARGS", "PY_CORE_CFLAGS", "PY_CFLAGS_NODIST", "CONFIGURE_CFLAGS_NODIST", "Py_ENABLE_SHARED"
        )
    except ImportError:  # a distribution may leave its sysconfig data out
        return False
    text = " ".join(str(item) for item in said[:4] if item)
    if any(sign in text for sign in ("--enable-optimizations", "-fprofile-use", "-fprofile-instr-use")):
        return True
    return sys.base_prefix == "/usr" and bool(said[4]) and "/libpython" not in _mapped()


def _mapped() -> str:
    with open("/proc/self/maps") as file:
        return file.read()


def order(works: bool, final: bool, version: tuple[int, int, int], fast: bool) -> tuple[object, ...]:
    """Sorts by preference: what works, finals, the newest minor version, optimised builds, the newest patch level."""
    return (not works, not final, -version[0], -version[1], not fast, -version[2])


def candidates(folders: str = "") -> Iterator[str]:
    """Real paths of files that look like an interpreter, each once; `folders`, separated by ':', come first."""
    seen = set()
    for path in _paths(folders):
        real = os.path.realpath(path)
        if real not in seen and _is_binary(real):
            seen.add(real)
            yield real


def _paths(folders: str) -> Iterator[str]:
    import glob

    for folder in filter(None, folders.split(":")):
        expanded = os.path.expanduser(folder)
        yield from _named(expanded)
        yield from _named(os.path.join(expanded, "bin"))
    yield getattr(sys, "_base_executable", "") or sys.executable
    for folder in (*os.environ.get("PATH", os.defpath).split(":"), *FOLDERS):
        if folder:
            yield from _named(folder)
    for pattern in PATTERNS:
        for folder in sorted(glob.glob(os.path.expanduser(pattern)), reverse=True):
            yield from _named(folder)


def _named(folder: str) -> list[str]:
    paths = [os.path.join(folder, name) for name in reversed(NAMES)]
    return [path for path in paths if os.access(path, os.X_OK)]


def _is_binary(path: str) -> bool:
    """True for ELF files: version managers put shell scripts of the same name on PATH."""
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(not optimised())
