"""S3's XML, read safely and written. https://docs.aws.amazon.com/AmazonS3/latest/API/ names the elements.

Reading is defusedxml's: no document type, no entities, nothing fetched. Namespaces are dropped, as S3 does.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Self
from xml.sax.saxutils import escape

from fuyun.domain.errors import BadRequest

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
#: Bytes of a document a client sends: 1000 keys, or 10,000 parts with ETags and checksums, take 2 MiB.
DOCUMENT_BYTES = 4 * 2**20
#: Elements in one.
_MOST_ELEMENTS = 100_000
#: What XML 1.0 cannot hold, not even escaped (https://www.w3.org/TR/xml/#charsets).
_IMPOSSIBLE = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")

Value = str | int | bool | float | None | Mapping[str, Any] | Iterable[Any]


def malformed(detail: str) -> BadRequest:
    """The error for a document that is not what the operation takes."""
    return BadRequest(detail, hint="see S3's API reference for the document", reason="MalformedXML")


class Node:
    """An element: its name, text and children."""

    def __init__(self, element: Any) -> None:
        self.name = str(element.tag).rpartition("}")[2]
        self.text = (element.text or "").strip()
        self.exact = element.text or ""
        self.children = [Node(child) for child in element]

    def all(self, name: str) -> Iterator[Node]:
        """Children of that name."""
        return (child for child in self.children if child.name == name)

    def find(self, name: str) -> Node | None:
        """The first child of that name."""
        return next(self.all(name), None)

    def get(self, name: str, default: str = "") -> str:
        """The text of the first child of that name."""
        found = self.find(name)
        return default if found is None else found.text

    def number(self, name: str) -> int:
        """The text of that child as a number above 0; 0 when it is absent."""
        found = self.find(name)
        if found is None:
            return 0
        if not found.text.isdigit() or not 0 < int(found.text[:10]) < 2**31:
            raise malformed(f"{name} is {found.text[:40]!r}, no number above 0")
        return int(found.text)

    def texts(self, name: str) -> tuple[str, ...]:
        """Texts of all children of that name."""
        return tuple(child.text for child in self.all(name))

    def only(self, *names: str) -> Self:
        """Itself; BadRequest for a child of another name, so that nothing asked for is silently left undone."""
        for child in self.children:
            if child.name not in names:
                raise BadRequest(
                    f"{child.name} in {self.name} is not supported", hint=f"known are {', '.join(names)}",
                    reason="NotImplemented" if child.name.isalnum() else "MalformedXML",
                )  # fmt: skip
        return self


def parse(body: bytes, root: str) -> Node:
    """The document `body`, whose root is to be `root`. BadRequest."""
    from defusedxml.ElementTree import fromstring

    try:
        element = fromstring(body, forbid_dtd=True)
    except (ValueError, SyntaxError) as exc:  # defusedxml's own and expat's, in this order
        raise malformed(f"the body is not the XML it should be: {exc}") from exc
    if sum(1 for _ in element.iter()) > _MOST_ELEMENTS or _depth(element) > 12:
        raise malformed("the document has too many elements")
    node = Node(element)
    if node.name != root:
        raise malformed(f"the document is {node.name[:40]!r}, not {root}")
    return node


def _depth(element: Any) -> int:
    depth, level = 0, [element]
    while level and depth < 20:
        level = [child for parent in level for child in parent]
        depth += 1
    return depth


def document(root: str, content: Mapping[str, Any]) -> bytes:
    """A document in S3's namespace. A mapping is elements, a list repeats its element, None leaves it out."""
    body = "".join(_elements(content))
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} xmlns="{NAMESPACE}">{body}</{root}>'.encode()


def _elements(content: Mapping[str, Any]) -> Iterator[str]:
    for name, value in content.items():
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if item is not None:
                yield f"<{name}>{_inner(item)}</{name}>"


def _inner(value: Any) -> str:
    if isinstance(value, Mapping):
        return "".join(_elements(value))
    if isinstance(value, bool):
        return "true" if value else "false"
    return text(str(value))


def text(value: str) -> str:
    """Text escaped; what XML cannot hold becomes U+FFFD (who wants such keys asks for `encoding-type=url`)."""
    return _IMPOSSIBLE.sub("\ufffd", escape(value, {'"': "&quot;", "\r": "&#13;"}))


def moment(at_s: float) -> str:
    """A time as S3's documents write it."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def check_md5(body: bytes, claimed: str) -> None:
    """BadRequest unless the Content-MD5 `claimed` ("" for none) is the body's."""
    if claimed and base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode() != claimed:
        raise BadRequest("the body does not have its Content-MD5", hint="send it again", reason="BadDigest")
