"""Signature Version 4, against botocore's signers; and what strangers send instead."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from fuyun.domain.errors import BadRequest, Forbidden, FuyunError, Unauthenticated
from fuyun.transports.s3.signing import LONGEST_S, SKEW_S, Head, verify

KEY, SECRET = "key", "secret"
#: The first query parameters that a stranger would try.
NAMES = st.sampled_from(["X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-Signature", "a"])


def secret_of(key: str) -> str:
    if key != KEY:
        raise Unauthenticated(f"{key!r} is not known", reason="InvalidAccessKeyId")
    return SECRET


def head_of(request: AWSRequest) -> Head:
    parts = urlsplit(request.url)
    headers = [(name.lower(), str(value)) for name, value in request.headers.items()]
    return Head(method=request.method, path=parts.path, query=parts.query, headers=[("host", parts.netloc), *headers])


def by_header(url: str, **headers: str) -> Head:
    request = AWSRequest(method="GET", url=url, headers={name.replace("_", "-"): v for name, v in headers.items()})
    S3SigV4Auth(Credentials(KEY, SECRET), "s3", "eu-west-1").add_auth(request)
    return head_of(request)


def by_query(url: str, lasts_s: int = 60) -> Head:
    request = AWSRequest(method="GET", url=url)
    S3SigV4QueryAuth(Credentials(KEY, SECRET), "s3", "eu-west-1", lasts_s).add_auth(request)
    return head_of(request)


def now_of(head: Head) -> float:
    at = head.header("x-amz-date") or dict(pair.split("=") for pair in head.query.split("&"))["X-Amz-Date"]
    return datetime.strptime(at, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()


URLS = [
    "http://h:1/",
    "http://h/b/a%20b/%C3%BC~+x",
    "http://h/b?list-type=2&prefix=a%2Fb%20c&x=",
    "http://h/b//c/./d?acl",
]


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("sign", [by_header, by_query])
def test_what_botocore_signs_is_verified(url: str, sign: Callable[[str], Head]) -> None:
    head = sign(url)
    found = verify(head, secret_of, now_of(head))
    assert (found.access_key, found.presigned) == (KEY, sign is by_query)


def changed(head: Head, **fields: Any) -> Head:
    values = {name: getattr(head, name) for name in ("method", "path", "query", "headers")}
    return Head(**{**values, **fields})


@pytest.mark.parametrize("sign", [by_header, by_query])
def test_what_was_changed_is_refused(sign: Callable[[str], Head]) -> None:
    head = sign("http://h/b/k?x=1")
    for other in (
        changed(head, method="PUT"), changed(head, path="/b/other"), changed(head, query=head.query + "&y=2"),
        changed(head, headers=[("host", "other"), *head.headers[1:]]),
    ):  # fmt: skip
        with pytest.raises(Forbidden) as refusal:
            verify(other, secret_of, now_of(head))
        assert refusal.value.fields["reason"] == "SignatureDoesNotMatch"


def test_headers_are_signed_as_they_are_sent() -> None:
    head = by_header("http://h/b/k", x_amz_meta_a="  b   c ")
    assert verify(head, secret_of, now_of(head)).access_key == KEY
    more = changed(head, headers=[*head.headers, ("x-amz-acl", "public-read")])
    with pytest.raises(Forbidden, match="x-amz-acl"):
        verify(more, secret_of, now_of(head))


@pytest.mark.parametrize("sign", [by_header, by_query])
def test_nothing_is_added_to_what_was_signed(sign: Callable[[str], Head]) -> None:
    head = sign("http://h/b/k")
    more = changed(head, headers=[*head.headers, ("x-amz-copy-source", "other/secret")])
    with pytest.raises(Forbidden, match="x-amz-copy-source"):
        verify(more, secret_of, now_of(head))


def test_times() -> None:
    head = by_header("http://h/b/k")
    for off_s in (SKEW_S + 2, -SKEW_S - 2):
        with pytest.raises(Forbidden) as refusal:
            verify(head, secret_of, now_of(head) + off_s)
        assert refusal.value.fields["reason"] == "RequestTimeTooSkewed"
    url = by_query("http://h/b/k", 60)
    assert verify(url, secret_of, now_of(url) + 60).access_key == KEY
    with pytest.raises(Forbidden, match="was good until"):
        verify(url, secret_of, now_of(url) + 61)
    with pytest.raises(Forbidden, match="not valid yet"):
        verify(url, secret_of, now_of(url) - SKEW_S - 1)
    long = by_query("http://h/b/k", LONGEST_S + 1)
    with pytest.raises(BadRequest, match="X-Amz-Expires"):
        verify(long, secret_of, now_of(long))


def test_nobody_and_strangers() -> None:
    bare = Head(method="GET", path="/", query="", headers=[("host", "h")])
    with pytest.raises(Unauthenticated):
        verify(bare, secret_of, 0.0)
    for headers, query in (
        ([("authorization", "AWS key:signature")], ""), ([("authorization", "Bearer fk_x")], ""),
        ([], "AWSAccessKeyId=key&Signature=x&Expires=1"), ([("authorization", "AWS4-HMAC-SHA256 x")], ""),
    ):  # fmt: skip
        with pytest.raises(FuyunError) as refusal:
            verify(changed(bare, headers=[*bare.headers, *headers], query=query), secret_of, 0.0)
        assert refusal.value.code in ("bad_request", "forbidden")


SIGNED = by_header("http://h/b/k")


@given(st.text(max_size=200), st.lists(st.tuples(NAMES, st.text(max_size=40)), max_size=8), st.binary(max_size=40))
def test_anything_else_is_refused_and_nothing_breaks(text: str, pairs: list[tuple[str, str]], path: bytes) -> None:
    raw, head = "/" + path.decode("latin-1"), SIGNED
    query = "&".join(f"{name}={value}" for name, value in pairs)
    for other in (
        changed(head, headers=[("host", "h"), ("authorization", f"AWS4-HMAC-SHA256 {text}")]),
        changed(head, query=query, headers=[("host", "h")]),
        changed(head, path=raw + "x"),
    ):
        with pytest.raises(FuyunError):
            verify(other, secret_of, now_of(head))


def test_the_payload_is_part_of_what_is_signed() -> None:
    head = by_header("http://h/b/k")
    assert verify(head, secret_of, now_of(head)).payload == hashlib.sha256(b"").hexdigest()
    other = [(name, "0" * 64 if name == "x-amz-content-sha256" else value) for name, value in head.headers]
    with pytest.raises(Forbidden):
        verify(changed(head, headers=other), secret_of, now_of(head))
