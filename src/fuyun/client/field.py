"""One field of `fuyun.yaml`, whichever table it stands in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal[
    "text", "flag", "size", "duration", "integer", "number", "names", "mapping", "choice", "folder", "requirements",
    "secrets", "hook", "object", "objects", "switch", "triggers", "functions", "stages",
    "network", "json",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its name in the file, what it holds, what it is for, and the attribute of the domain it becomes.

    `fields` are those of an `object` (or of the map that a `switch`, `functions` or `stages` holds).
    """

    name: str
    kind: Kind
    doc: str
    target: str = ""
    choices: tuple[str, ...] = ()
    fields: tuple[Field, ...] = ()
    required: bool = False
    default: Any = None

    @property
    def attribute(self) -> str:
        """The attribute of the domain's struct."""
        return self.target or self.name
