"""Pages of keys in SQL: prefixes are folded by seeking behind each, so that a page costs what it shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Column, Connection, Select, and_, or_

from fuyun.domain.objects import Selection

_HIGHEST = "\U0010ffff"
_BATCH = 1001


def behind(prefix: str) -> str:
    """The least text that is greater than every text that begins with `prefix`; "" when there is none."""
    while prefix:
        last = ord(prefix[-1])
        if last != ord(_HIGHEST):
            following = 0xE000 if last + 1 == 0xD800 else last + 1  # surrogates are no characters
            return prefix[:-1] + chr(following)
        prefix = prefix[:-1]
    return ""


def common_prefix(key: str, selection: Selection) -> str:
    """The prefix `key` is shown as; "" when it is shown itself."""
    if not selection.delimiter:
        return ""
    end = key.find(selection.delimiter, len(selection.prefix))
    return "" if end < 0 else key[: end + len(selection.delimiter)]


class Page:
    """Rows and prefixes in order, until there are `limit` of them."""

    def __init__(self, selection: Selection) -> None:
        self.rows: list[Any] = []
        self.prefixes: list[str] = []
        self.more = False
        self.last: tuple[str, Any] = ("", "")  # key and second column of what was shown last; a prefix and ""
        self._selection = selection

    @property
    def full(self) -> bool:
        """Whether nothing more fits."""
        return len(self.rows) + len(self.prefixes) >= self._selection.limit


def page_of(
    connection: Connection, query: Select[Any], key: Column[str], second: Column[Any], descending: bool,
    selection: Selection, after_second: Callable[[], Any],
) -> Page:  # fmt: skip
    """The page of `query` (rows with columns of `key` and `second`) that `selection` asks for. `second` orders rows of
    one key; `after_second()` is its value in the row after which the page begins, or None."""
    page = Page(selection)
    if selection.limit <= 0:
        return page
    order = second.desc() if descending else second.asc()
    top = behind(selection.prefix)
    if selection.prefix:
        query = query.where(key >= selection.prefix)
        query = query.where(key < top) if top else query
    at: Any = _start(key, second, descending, selection, after_second)
    if at is False:
        return page
    while True:
        limited = query if at is None else query.where(at)
        found = connection.execute(limited.order_by(key, order).limit(_BATCH)).mappings().all()
        at = None
        for row in found:
            prefix = common_prefix(row[key.name], selection)
            if page.full:
                page.more = True
                return page
            if prefix:
                page.prefixes.append(prefix)
                page.last = (prefix, "")
                end = behind(prefix)
                if not end:
                    return page
                at = key >= end
                break
            page.rows.append(row)
            page.last = (row[key.name], row[second.name])
        if at is None:
            if len(found) < _BATCH:
                return page
            at = _past(key, second, descending, *page.last)


def _past(key: Column[str], second: Column[Any], descending: bool, name: str, value: Any) -> Any:
    beyond = second < value if descending else second > value
    return or_(key > name, and_(key == name, beyond))


def _start(
    key: Column[str], second: Column[Any], descending: bool, selection: Selection, after_second: Callable[[], Any]
) -> Any:
    """The condition the page begins with; None: no condition, False: nothing is there."""
    after = selection.after
    if not after:
        return None
    prefix = common_prefix(after, selection) if after.startswith(selection.prefix) else ""
    if prefix and prefix == after:
        end = behind(prefix)
        return key >= end if end else False
    value = after_second()
    return key > after if value is None else _past(key, second, descending, after, value)
