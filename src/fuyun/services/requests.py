"""What a caller asks of a function, and how instances are told."""

from __future__ import annotations

from typing import Final, final

import msgspec

from fuyun.ports.instances import Asked

_encode: Final = msgspec.json.Encoder().encode


@final
class Request:
    """The part of an invocation that its caller wrote, without the body. The gateway asks again with the same one when
    a connection repeats itself: it is never changed, and its text for instances is made once.

    `kind` is "http" or "event"; `path` is percent-encoded and below the route's base; `headers` have lower-case names,
    in order, repeated ones repeated; `source` is the client's address.
    """

    __slots__ = (
        "_alias", "_base", "_names", "_text", "attempt", "headers", "kind", "method", "path", "query", "scheme",
        "source",
    )  # fmt: skip

    def __init__(
        self, kind: str, method: str, path: str, query: str, headers: list[tuple[str, str]], source: str, scheme: str
    ) -> None:
        self.kind = kind
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.source = source
        self.scheme = scheme
        self.attempt = 1  # set by who tries again, before the request is used
        self._names = self._alias = self._base = ""
        self._text = b""

    def text(self, names: str, alias: str, base: str) -> bytes:
        """A `ports.instances.Head` as JSON without its first fields, `id` and `deadline_ms`: what is the same when the
        same is asked again. `names` are the fields of the version, `base` is the route's."""
        if not self._text or names != self._names or alias != self._alias or base != self._base:
            trace = ""
            for name, value in self.headers:
                if name == "traceparent":
                    trace = value
                    break
            asked = Asked(self.method, self.path, base, self.query, self.headers, self.source, self.scheme, trace)
            known = f'"kind":"{self.kind}",{names},"alias":"{alias}",'
            if self.attempt != 1:
                known += f'"attempt":{self.attempt},'
            self._text = known.encode() + _encode(asked)[1:]
            self._names, self._alias, self._base = names, alias, base
        return self._text
