"""How far triggers have come in sources that keep no place for them."""

from __future__ import annotations

from typing import Any, Protocol

Key = tuple[str, str, str]


class PlaceStore(Protocol):
    """A place is any JSON, by the trigger's namespace, function and name. Durable when a write returns. StorageFull."""

    async def list_places(self) -> dict[Key, Any]:
        """All."""
        ...

    async def put(self, key: Key, place: Any) -> None:
        """Keep it instead of the one before."""
        ...

    async def forget(self, key: Key) -> None:
        """The trigger is gone."""
        ...
