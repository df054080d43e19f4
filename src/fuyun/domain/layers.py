"""Layers: named, numbered, read-only folders that versions of a namespace's functions share."""

from __future__ import annotations

from fuyun.domain.functions import Artifact, Wire


class LayerVersion(Wire, frozen=True, kw_only=True):
    """One content of a layer. It never changes, and its number is never given again."""

    namespace: str
    name: str
    number: int
    content: Artifact
    created_s: float
    description: str = ""

    @property
    def reference(self) -> str:
        """`NAME:NUMBER`, as a function's `layers` names it."""
        return f"{self.name}:{self.number}"
