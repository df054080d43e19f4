"""Dependencies turned into a read-only layer."""

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
