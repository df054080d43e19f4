"""Dependency builds: from a requirements text to a read-only layer, and from code to code with bytecode."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from fuyun.domain.functions import Artifact


class Builder(Protocol):
    """Builds a requirements text once per (lock, interpreter, platform); the result is shared by everyone who needs it.

    The build runs sandboxed: it sees its own work folder, the interpreter and the network, never the data directory.
    Raises BuildFailed with the last lines of the tool's output. Two builds of one lock at once are one build.
    """

    async def build(self, requirements: str, interpreter: Path, progress: Callable[[str], None]) -> Artifact:
        """The layer for a requirements.txt text; `progress` gets lines for people ("resolving", "pillow 11.3")."""
        ...

    async def compile(self, code: Artifact, interpreter: Path, progress: Callable[[str], None]) -> Artifact:
        """`code` with the bytecode of its modules for `interpreter` beside them, never checked against their times.

        Modules that do not compile are left as they are and reported through `progress`; they fail when imported. The
        same code and the same kind of interpreter give the same artifact. NotFound when `code` is not stored.
        """
        ...


class Modules(Protocol):
    """Compiles WebAssembly modules ahead, once per (code, module, engine, processor), sandboxed."""

    async def compile_module(
        self, code: Artifact, module: str, interpreter: Path, progress: Callable[[str], None]
    ) -> tuple[Artifact, Artifact]:
        """`code` with the machine code of `module` (a path in it, .wasm or .wat) beside it, and the engine as a layer.

        The same code on the same host gives the same artifacts. HostUnable when the host has no engine,
        FunctionLoadFailed when there is no such file, BuildFailed when it is no module.
        """
        ...


class JavaBuilder(Protocol):
    """Prepares code for the runtime `java`, once per (code, handler, JDK), sandboxed."""

    async def prepare(self, code: Artifact, handler: str, progress: Callable[[str], None]) -> Artifact:
        """`code` with its sources compiled, its classes in one JAR, and their class-data-sharing archive.

        `handler`: CLASS::METHOD. HostUnable when the host has no JDK, BuildFailed when sources do not compile,
        FunctionLoadFailed when there is no such handler. NotFound when `code` is not stored.
        """
        ...


class NodeBuilder(Protocol):
    """Prepares code for the runtimes of Node, once per (code, packages, Node, memory limit), sandboxed."""

    async def prepare(
        self,
        code: Artifact,
        packages: Artifact | None,
        runtime: str,
        memory_bytes: int,
        progress: Callable[[str], None],
    ) -> Artifact:
        """`code` with large files, its own and those of its first layer `packages`, compiled ahead; `code` itself when
        there are none, or Node makes nothing of them. Runs nothing of them. HostUnable without the runtime."""
        ...


class ImageUnpacker(Protocol):
    """Unpacks OCI images, once for each image and platform, sandboxed."""

    async def unpack(self, code: Artifact, image: str, progress: Callable[[str], None]) -> Artifact:
        """The files of `image` and what its configuration says, as `runtime.rootfs` mounts them.

        `image`: a reference to ask a registry for; a path means the layout or archive that `code` (stored) holds.
        HostUnable without the tools, BuildFailed when there is no such image, or none for this machine.
        """
        ...


class Sandboxed(Protocol):
    """Runs one command that is not trusted, to its end.

    The command sees the host's system (programs, libraries, headers, certificates), `fuyun.runtime` below /opt/fuyun
    where there is a sandbox, the paths in `ro` (read-only) and
    `rw` (writable by the user it runs as), each at its own path, and exactly `env`. Nothing it started outlives the
    call, whether it returns, times out or is cancelled. Raises TimeoutError after `timeout_s` and HostUnable when the
    host cannot give the isolation.
    """

    async def __call__(
        self,
        argv: list[str],
        *,
        ro: list[str],
        rw: list[str],
        env: dict[str, str],
        cwd: str,
        network: bool = False,
        timeout_s: float,
        output: Callable[[str], None],
    ) -> int:
        """The exit code (128 + signal for one killed by it); `output` gets each line of stdout and stderr, stripped."""
        ...


class PackageBuilder(Protocol):
    """Builds the packages that code asks for in its package.json, once per (lock, Node, platform), as `Builder` does.

    Raises BuildFailed with the last lines of npm's output, BadRequest for a package.json that cannot be read, and
    HostUnable where the host has no such runtime or no npm. Packages' scripts run in the sandbox only.
    """

    async def build(self, code: Artifact, runtime: str, progress: Callable[[str], None]) -> Artifact | None:
        """A layer that holds `node_modules`; None when `code` (stored) asks for no package, or brings its own
        `node_modules`. `runtime`: `nodejs` (the newest) or `nodejsN`."""
        ...
