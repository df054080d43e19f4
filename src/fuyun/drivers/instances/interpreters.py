"""Which Python interpreters the host has: found once, each asked once what it is."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fuyun.domain.errors import HostUnable
from fuyun.domain.interpreters import Interpreter
from fuyun.domain.runtimes import MODULES, PROGRAMS, PYTHONS
from fuyun.runtime import pythons

__all__ = ["Interpreter", "Interpreters"]

#: A cold interpreter on a slow disk answers within a second; one that needs longer is of no use for quick starts.
PROBE_TIMEOUT_S = 20.0

_NAMES = tuple(name for name in PYTHONS if "." in name)
_GLIBC = re.compile(r"glibc \d")

#: Runs in the candidate with -I -S, prints one literal, and imports a few extension modules to prove that they load.
_PROBE = r"""
import os, sys
import importlib.machinery as m
told = {"__name__": "pythons"}
exec(compile(open(PYTHONS, encoding="utf-8").read(), PYTHONS, "exec"), told)
impl = sys.implementation
try:
    libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
except (ValueError, OSError):
    libc = ""
lib = ""
for line in open("/proc/self/maps"):
    path = line.rstrip("\n").split(" ")[-1]
    if "/libpython" in path:
        lib = path
        break
std = os.path.dirname(os.path.realpath(os.__file__))
dyn = next((p for p in sys.path if p.endswith("lib-dynload")), "")
suffix = next((s for s in m.EXTENSION_SUFFIXES if s.startswith(".cpython")), "")
out = {
    "impl": impl.name, "version": list(sys.version_info[:3]), "level": sys.version_info[3],
    "cache_tag": impl.cache_tag or "", "soabi": suffix[1:].rsplit(".", 1)[0], "libc": libc, "lib": lib,
    "prefix": os.path.realpath(sys.base_prefix), "stdlib": std, "dynload": os.path.realpath(dyn) if dyn else "",
    "exe": os.path.realpath(sys.executable), "gil": getattr(sys, "_is_gil_enabled", lambda: True)(),
    "optimised": told["optimised"](),
}
import array, math, select, socket, zlib, _struct
print(repr(out))
"""


class Interpreters:
    """The interpreters of this host.

    `discover` looks for them (a few dozen milliseconds each, in threads; call it off the event loop) and remembers them
    by path, size and time, so that a second call asks only the new ones.
    """

    def __init__(self, folders: str = "") -> None:
        """`folders`: more folders to search, separated by ':', before the usual ones (`settings.interpreters`)."""
        self._folders = folders
        self._cache: dict[tuple[str, int, int], Interpreter] = {}
        self._found: tuple[Interpreter, ...] | None = None

    def discover(self) -> tuple[Interpreter, ...]:
        """Every candidate with its verdict, in the order of preference (`runtime.pythons.order`)."""
        paths = [Path(path) for path in pythons.candidates(self._folders)]
        with ThreadPoolExecutor(max_workers=2) as pool:
            found = list(pool.map(self._probe_cached, paths))
        found.sort(key=lambda item: pythons.order(item.works, item.final, item.version, item.optimised))
        self._found = tuple(found)
        return self._found

    def all(self) -> tuple[Interpreter, ...]:
        """What `discover` found; it is called when it has not been."""
        return self.discover() if self._found is None else self._found

    def newest(self) -> Interpreter:
        """The best one that works: finals before pre-releases, the newest minor version, optimised builds of it first.

        HostUnable when there is none.
        """
        for item in self.all():
            if item.works:
                return item
        raise HostUnable(
            "no usable Python interpreter was found",
            hint=f"install one of {', '.join(reversed(_NAMES))} (on Debian: apt install python3){self._problems()}",
            feature="python3",
        )

    def by_runtime(self, runtime: str) -> Interpreter:
        """The one that serves `python3` (the newest) or `python3.N`, an optimised build when there is one. Programs and
        modules are kept by the newest.

        HostUnable lists those that were found.
        """
        if runtime == "python3" or runtime in (*PROGRAMS, *MODULES):
            return self.newest()
        for item in self.all():
            if item.works and item.runtime == runtime:
                return item
        names = ", ".join(dict.fromkeys(item.runtime for item in self.all() if item.works)) or "none"
        raise HostUnable(
            f"this host has no {runtime}; found: {names}",
            hint=f"use one of those, or python3 for the newest, or install {runtime}{self._problems(runtime)}",
            feature=runtime,
        )

    def by_path(self, executable: Path | str) -> Interpreter:
        """The one at `executable` (links followed), asked now when it is new. HostUnable when it does not work."""
        found = self._probe_cached(Path(os.path.realpath(executable)))
        if not found.works:
            raise HostUnable(f"{executable}: {found.problem}", hint="name a working CPython", feature="python3")
        return found

    def _problems(self, runtime: str = "") -> str:
        broken = [item for item in self.all() if not item.works and runtime in ("", item.name)]
        lines = [f"{item.executable}: {item.problem}" for item in broken]
        return "; found but unusable: " + "; ".join(lines) if lines else ""

    def _probe_cached(self, path: Path) -> Interpreter:
        try:
            status = path.stat()
        except OSError as exc:
            return _unusable(path, f"cannot be read: {exc.strerror}")
        key = (str(path), status.st_size, status.st_mtime_ns)
        if key not in self._cache:
            self._cache[key] = probe(path)
        return self._cache[key]


def _unusable(path: Path, problem: str) -> Interpreter:
    return Interpreter(name=path.name, executable=str(path), works=False, problem=problem)


def probe(path: Path) -> Interpreter:
    """Ask the interpreter at `path` what it is; never raises, `problem` says why it does not work."""
    try:
        done = subprocess.run(
            [str(path), "-I", "-S", "-c", f"PYTHONS = {pythons.__file__!r}\n{_PROBE}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_TIMEOUT_S,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
            check=False,
            cwd="/",
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return _unusable(path, f"does not start: {exc}")
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"exit code {done.returncode}"]
        return _unusable(path, f"is broken: {lines[-1]}")
    try:
        return _described(path, ast.literal_eval(done.stdout.decode()))
    except (ValueError, SyntaxError, KeyError, TypeError) as exc:
        return _unusable(path, f"gave no sensible answer: {exc}")


def _described(path: Path, answer: dict[str, object]) -> Interpreter:
    version = answer["version"]
    if not isinstance(version, list) or len(version) != 3:
        raise ValueError(f"version {version!r}")
    major, minor, micro = (int(part) for part in version)
    name = f"python{major}.{minor}"
    text = {key: str(answer[key]) for key in ("prefix", "stdlib", "dynload", "soabi", "cache_tag", "lib", "exe")}
    if answer["impl"] != "cpython":
        problem = f"is {answer['impl']}, not CPython"
    elif not _GLIBC.match(str(answer["libc"])):
        problem = "is not linked against glibc"
    elif name not in _NAMES:
        problem = f"is {name}; Fuyun runs {_NAMES[0]} to {_NAMES[-1]}"
    elif answer["gil"] is not True:
        problem = "is a free-threaded build"
    elif not text["soabi"] or not text["cache_tag"]:
        problem = "cannot load extension modules or bytecode"
    else:
        problem = ""
    library = os.path.dirname(os.path.realpath(text["lib"])) if text["lib"] else ""
    return Interpreter(
        name=name,
        executable=text["exe"] or str(path),
        works=not problem,
        problem=problem,
        version=(major, minor, micro),
        final=answer["level"] == "final",
        optimised=answer["optimised"] is True,
        prefix=text["prefix"],
        stdlib=text["stdlib"],
        dynload=text["dynload"],
        soabi=text["soabi"],
        cache_tag=text["cache_tag"],
        libpython=library,
        mounts=_mounts(text, library),
    )


def _mounts(text: dict[str, str], library: str) -> tuple[str, ...]:
    """The smallest set of paths that holds it: its own prefix when it has one to itself, else its parts."""
    if text["prefix"] not in ("/usr", "/usr/local", "/"):
        wanted = [text["prefix"], text["exe"], text["stdlib"], text["dynload"], library]
    else:
        wanted = [text["exe"], text["stdlib"], text["dynload"], os.path.realpath(text["lib"]) if text["lib"] else ""]
    kept: list[str] = []
    for path in sorted({item for item in wanted if item}, key=len):
        if not any(path == parent or path.startswith(parent + "/") for parent in kept):
            kept.append(path)
    return tuple(kept)
