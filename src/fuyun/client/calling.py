"""What every call to the control API shares: the connection, pages of lists, and answers as structs."""

from __future__ import annotations

from typing import Any, Self, TypeVar

import msgspec

import fuyun
from fuyun.client.config import Profile, load_profile
from fuyun.client.http import Answer, Http, Request
from fuyun.domain.errors import PlatformError

T = TypeVar("T")

#: Items asked for at once when a whole list is read.
PAGE = 500


class Caller:
    """Base of the client: use it as a context manager, or `close` it."""

    def __init__(self, profile: Profile | None = None, *, namespace: str = "") -> None:
        self.profile = profile or load_profile()
        self.namespace = namespace or self.profile.namespace
        self._http = Http(self.profile)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def _send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        data = None if body is None else msgspec.json.encode(body)
        return self._http.send(Request(method, path, data, query=query or {}, headers=headers or {}))

    def _all(self, path: str, kind: type[T]) -> list[T]:
        found: list[T] = []
        query = {"limit": str(PAGE)}
        while True:
            items, following = self._items(self._send("GET", path, query=query), kind)
            found.extend(items)
            if not following:
                return found
            query = {"limit": str(PAGE), "after": following}

    def _items(self, answer: Answer, kind: type[T]) -> tuple[list[T], str]:
        raw, following = self._page(answer)
        return [self._convert(item, kind) for item in raw], following

    def _page(self, answer: Answer) -> tuple[list[Any], str]:
        found = self._dict(answer)
        items = found.get("items")
        if not isinstance(items, list):
            raise self._strange("a list", found)
        return items, str(found.get("next") or "")

    def _one(self, answer: Answer, kind: type[T]) -> T:
        return self._convert(answer.json(), kind)

    def _dict(self, answer: Answer) -> dict[str, Any]:
        found = answer.json()
        if not isinstance(found, dict):
            raise self._strange("an object", found)
        return found

    def _convert(self, found: Any, kind: type[T]) -> T:
        try:
            return msgspec.convert(found, kind)
        except msgspec.ValidationError as exc:
            raise self._strange(f"a {kind.__name__} ({exc})", found) from exc

    def _strange(self, wanted: str, found: Any) -> PlatformError:
        return PlatformError(
            f"the platform's answer is not {wanted}: {str(found)[:120]}",
            hint=f"this client is {fuyun.__version__}; compare with the platform's version in `fuyun status`",
        )
