"""Tables of the namespace, at the platform's address inside the instance.

Standard library only. The function's `permissions.tables` name the tables it may use. A condition is a mapping:
`exists` (true or false), `version` (the one that was read), `match` (a filter over attributes); all that it holds must
be so.
"""

from __future__ import annotations

from fuyun.sdk.calling import ask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any, Optional

    Condition = Optional[Mapping[str, Any]]


class Item(dict):  # type: ignore[type-arg]
    """A document as a mapping, and its `version` for the condition of a change."""

    __slots__ = ("version",)

    def __init__(self, told: Mapping[str, Any]) -> None:
        super().__init__(told["item"])
        self.version: int = told["version"]


def get(table: str, key: Mapping[str, Any]) -> Optional[Item]:
    """The item of a key (`{"id": "a"}`), None where there is none."""
    return get_all(table, [key])[0]


def get_all(table: str, keys: Iterable[Mapping[str, Any]]) -> list[Optional[Item]]:
    """The item of each of up to 100 keys, of one moment."""
    return [told and Item(told) for told in ask("tables", table, "read", {"keys": list(keys)})]


def put(table: str, item: Mapping[str, Any], condition: Condition = None) -> int:
    """Put an item whole; its version. It is on disk when this returns. CallRefused with the code `conflict` when the
    condition does not hold."""
    return int(write(table, [{"put": dict(item), "if": condition}])[0]["version"])


def update(
    table: str, key: Mapping[str, Any], *, set: Optional[Mapping[str, Any]] = None, remove: Iterable[str] = (),
    add: Optional[Mapping[str, float]] = None, condition: Condition = None,
) -> dict[str, Any]:  # fmt: skip
    """Set, remove and add to attributes of an item, which is made where there is none; the item as it is now."""
    change = {"update": dict(key), "set": dict(set or {}), "remove": list(remove), "add": dict(add or {})}
    made: dict[str, Any] = write(table, [{**change, "if": condition}])[0]["item"]
    return made


def delete(table: str, key: Mapping[str, Any], condition: Condition = None) -> bool:
    """Delete the item of a key; whether there was one."""
    return bool(write(table, [{"delete": dict(key), "if": condition}])[0]["kind"] == "delete")


def write(table: str, changes: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Up to 25 changes, all or none: mappings with one of `put`, `delete`, `update` (with `set`, `remove`, `add`) and
    `check`, and an `if`. `kind`, `version` and `item` of each."""
    told: list[dict[str, Any]] = ask("tables", table, "write", {"changes": list(changes)})
    return told


def query(table: str, partition: Any = None, *, match: Any = None, **options: Any) -> Iterator[Item]:
    """Items in the order of their keys, or of an index (`index`), page by page as they are taken; of one partition key,
    or all. Options: `index`, `prefix`, `lower`, `upper`, `descending`, `limit` (of a page). `match` is a filter over
    attributes."""
    body = {"partition": partition, "match": match, **options}
    while True:
        told = ask("tables", table, "query", body)
        for one in told["items"]:
            yield Item(one)
        if not told["next"]:
            return
        body["after"] = told["next"]


__all__ = ["Item", "delete", "get", "get_all", "put", "query", "update", "write"]
