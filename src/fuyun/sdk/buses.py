"""Buses of the namespace: publish CloudEvents to them.

Standard library only. The function's `permissions.buses` name those it may use.
"""

from __future__ import annotations

from base64 import b64encode

from fuyun.sdk.calling import ask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, Optional


def new_event(
    type: str,
    data: Any = None,
    *,
    subject: str = "",
    source: str = "",
    id: str = "",
    content_type: str = "",
    extensions: Optional[Mapping[str, str]] = None,
) -> dict[str, Any]:
    """An event as `publish_all` takes it. `data`: what JSON can carry, or bytes of `content_type`. Without `source` it
    is this function, without `id` a new one."""
    body: dict[str, Any] = {"type": type}
    if isinstance(data, bytes):
        body["data_base64"] = b64encode(data).decode()
    elif data is not None:
        body["data"] = data
    given = {
        "subject": subject, "source": source, "id": id, "content_type": content_type,
        "attributes": dict(extensions or {}),
    }  # fmt: skip
    body.update({name: value for name, value in given.items() if value})
    return body


def publish(bus: str, type: str, data: Any = None, **options: Any) -> str:
    """Publish one event (options as `new_event` has them); its id. It is on disk, and on its way to every rule, when
    this returns."""
    return publish_all(bus, [new_event(type, data, **options)])[0]


def publish_all(bus: str, events: Iterable[Mapping[str, Any]]) -> list[str]:
    """Publish up to 100 of `new_event`, all or none; their ids."""
    return [str(id_) for id_ in ask("buses", bus, "publish", {"messages": list(events)})["ids"]]


__all__ = ["new_event", "publish", "publish_all"]
