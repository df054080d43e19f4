"""Bytes to and from presigned addresses of S3."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

from fuyun.client.http import CONNECT_S, error_of, load_httpx
from fuyun.domain.errors import Unavailable

_PIECE = 256 * 1024
#: The longest silence while bytes go over.
_SILENCE_S = 120.0


def send(url: str, source: IO[bytes], media: str) -> None:
    """PUT what `source` holds from here on; its length is asked of it. Raises what S3 answered."""
    import os

    left = os.fstat(source.fileno()).st_size - source.tell()
    headers = {"content-type": media, "content-length": str(left)}
    with _answered("PUT", url, headers=headers, content=_pieces(source)):
        pass


def fetch(url: str) -> Iterator[bytes]:
    """The object's bytes as they arrive. Raises what S3 answered."""
    with _answered("GET", url) as answer:
        yield from answer.iter_raw(_PIECE)


def _pieces(source: IO[bytes]) -> Iterator[bytes]:
    while piece := source.read(_PIECE):
        yield piece


@contextmanager
def _answered(method: str, url: str, **more: Any) -> Iterator[Any]:
    load_httpx()
    import httpx

    timeout, place = httpx.Timeout(_SILENCE_S, connect=CONNECT_S), urlsplit(url).netloc
    local = urlsplit(url).hostname in ("127.0.0.1", "::1", "localhost")
    try:
        with httpx.Client(trust_env=not local, timeout=timeout) as client, client.stream(method, url, **more) as answer:
            if answer.status_code >= 400:
                raise error_of({"detail": _message(answer.read())}, answer.status_code)
            yield answer
    except httpx.HTTPError as exc:
        raise Unavailable(f"S3 at {place} does not answer: {exc}", hint="look at `fuyun status`") from exc


def _message(body: bytes) -> str:
    try:
        told = ElementTree.fromstring(body)
        return told.findtext("Detail") or told.findtext("Message") or body[:200].decode("utf-8", "replace")
    except ElementTree.ParseError:
        return body[:200].decode("utf-8", "replace")
