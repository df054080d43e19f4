"""Which Node.js the host has, and which interpreter keeps it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fuyun.domain.errors import HostUnable
from fuyun.domain.interpreters import Interpreter, Node
from fuyun.runtime import nodes

#: Prefixes that a sandbox shows as they are.
_SYSTEM = ("/usr", "/usr/local", "/")


class Nodes:
    """The Node.js installations of this host, looked for at the first question and when one of them is gone."""

    def __init__(self, newest: Callable[[], Interpreter], folders: str = "") -> None:
        """`newest`: the Python that keeps Node processes. `folders`: searched before the usual ones, separated by
        ':'."""
        self._newest = newest
        self._folders = folders
        self._found: tuple[Node, ...] = ()

    def discover(self) -> tuple[Node, ...]:
        """Every candidate with its verdict, newest first; asks each (a few dozen milliseconds; off the event loop)."""
        with ThreadPoolExecutor(max_workers=2) as pool:
            found = list(pool.map(probe, nodes.candidates(self._folders)))
        self._found = tuple(sorted(found, key=lambda node: (node.works, node.version), reverse=True))
        return self._found

    def get(self, runtime: str) -> Node:
        """The one that serves `nodejs` (the newest) or `nodejsN`. HostUnable lists those that were found."""
        for _ in range(2):
            for node in self._found:
                if node.works and runtime in ("nodejs", node.name) and os.path.exists(node.executable):
                    return node
            self.discover()  # it may have been installed, or replaced, since
        names = ", ".join(dict.fromkeys(node.name for node in self._found if node.works)) or "none"
        broken = "; ".join(f"{node.executable}: {node.problem}" for node in self._found if not node.works)
        raise HostUnable(
            f"this host has no {runtime}; found: {names}",
            hint=f"install Node.js {nodes.OLDEST} or newer (on Debian: apt install nodejs npm)"
            + (f"; found but unusable: {broken}" if broken else ""),
            feature=runtime,
        )

    def keeper(self, runtime: str) -> Interpreter:
        """The interpreter whose blanks have the runtime's Node running. HostUnable."""
        node, python = self.get(runtime), self._newest()
        mounts = (*python.mounts, *node.mounts)
        return dataclasses.replace(python, name=node.name, node=node.executable, mounts=mounts)


def probe(path: str) -> Node:
    """What the Node at `path` is; never raises, `problem` says why it does not work."""
    said = nodes.ask(path)
    if isinstance(said, str):
        return Node(name=Path(path).name, executable=path, works=False, problem=said)
    major, minor, patch = said["version"]
    name = f"nodejs{major}"
    prefix = str(Path(path).parent.parent)
    return Node(
        name=name,
        executable=path,
        works=True,
        version=(major, minor, patch),
        abi=f"{said['modules']}-{said['arch']}",
        npm=said["npm"],
        mounts=() if prefix in _SYSTEM else (prefix,),
    )
