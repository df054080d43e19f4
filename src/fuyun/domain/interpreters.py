"""Interpreters found on the host."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Node:
    """One Node.js of the host, as it described itself. Paths are absolute and free of symbolic links. When `works` is
    False only `name`, `executable` and `problem` mean anything."""

    name: str  # "nodejs20"
    executable: str
    works: bool
    problem: str = ""
    version: tuple[int, int, int] = (0, 0, 0)
    abi: str = ""  # what compiled packages depend on: "115-x64-glibc"
    npm: str = ""  # its npm, as a script that it runs; "" when it has none
    mounts: tuple[str, ...] = ()  # what a sandbox must show besides the system's folders

    @property
    def version_text(self) -> str:
        """`20.11.1`."""
        return ".".join(map(str, self.version))


@dataclass(frozen=True, slots=True)
class Interpreter:
    """One CPython of the host, as it described itself. Paths are absolute and free of symbolic links.

    `mounts` are the files and folders that a sandbox must show for it to run, besides the system's libraries. When
    `works` is False only `name`, `executable` and `problem` mean anything.
    """

    name: str  # "python3.12"
    executable: str
    works: bool
    problem: str = ""
    version: tuple[int, int, int] = (0, 0, 0)
    final: bool = True  # False for alphas, betas and release candidates
    optimised: bool = False  # built with profile-guided optimisation
    prefix: str = ""
    stdlib: str = ""
    dynload: str = ""  # extension modules of the standard library
    soabi: str = ""  # "cpython-312-x86_64-linux-gnu"
    cache_tag: str = ""  # "cpython-312"; names the bytecode files it reads
    libpython: str = ""  # folder of a shared libpython, "" when it is linked in
    mounts: tuple[str, ...] = ()
    node: str = ""  # executable of the Node that its blanks start ahead, "" for none

    @property
    def runtime(self) -> str:
        """The runtime it serves, such as `python3.12`."""
        return self.name

    @property
    def version_text(self) -> str:
        """`3.12.1`."""
        return ".".join(map(str, self.version))

    @property
    def abi(self) -> str:
        """What a built layer depends on: two interpreters with the same `abi` load each other's layers."""
        return f"{self.soabi}-{self.cache_tag}{'' if self.final else '-' + self.version_text}"
