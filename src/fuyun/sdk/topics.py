"""Topics of the namespace: publish to them. Standard library only. `permissions.topics` name those it may use."""

from __future__ import annotations

from fuyun.sdk.calling import ask
from fuyun.sdk.queues import new_message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any


def publish(topic: str, data: Any, **options: Any) -> str:
    """Publish one message (options as `fuyun.sdk.queues.new_message` has them); its id. It is on disk for every
    subscription when this returns."""
    return publish_all(topic, [new_message(data, **options)])[0]


def publish_all(topic: str, messages: Iterable[Mapping[str, Any]]) -> list[str]:
    """Publish up to 100, all or none; their ids."""
    return [str(id_) for id_ in ask("topics", topic, "publish", {"messages": list(messages)})["ids"]]
