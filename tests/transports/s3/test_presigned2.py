"""Addresses presigned by Signature Version 2: against botocore's signer, and what strangers make of them."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlsplit

import boto3
import httpx
import pytest
from botocore.auth import HmacV1QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from fuyun.domain.errors import BadRequest, Forbidden, FuyunError, Unauthenticated
from fuyun.transports.s3.presigned2 import is_presigned2, verify2
from fuyun.transports.s3.signing import LONGEST_S, SKEW_S, Head, Signed, pairs_of
from tests.transports.s3.clients import Served

KEY, SECRET = "key", "secret"


def secret_of(key: str) -> str:
    if key != KEY:
        raise Unauthenticated(f"{key!r} is not known", reason="InvalidAccessKeyId")
    return SECRET


def presigned(url: str, method: str = "GET", lasts_s: int = 60, **headers: str) -> Head:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = AWSRequest(method=method, url=url, headers=named)
    HmacV1QueryAuth(Credentials(KEY, SECRET), expires=lasts_s).add_auth(request)
    parts = urlsplit(request.url)
    # What botocore moved into the query is no header any more.
    kept = [(name, value) for name, value in named.items() if name.startswith("x-amz-") or name in ("content-type",)]
    return Head(method=method, path=parts.path, query=parts.query, headers=[("host", parts.netloc), *kept])


def verified(head: Head, now_s: float | None = None, host_bucket: str = "") -> Signed:
    pairs = pairs_of(head.query)
    assert is_presigned2({name for name, _ in pairs})
    return verify2(head, pairs, secret_of, time.time() if now_s is None else now_s, host_bucket)


URLS = [
    "http://h/b/a%20b/%C3%BC~+x",
    "http://h/b?acl",
    "http://h/b/k?versionId=a%2Fb&uploadId=x",
    "http://h/b?prefix=x",
]


@pytest.mark.parametrize("url", URLS)
def test_what_botocore_signs_is_verified(url: str) -> None:
    for method in ("GET", "PUT"):
        found = verified(presigned(url, method))
        assert (found.access_key, found.presigned, found.payload) == (KEY, True, "UNSIGNED-PAYLOAD")


def test_what_was_changed_is_refused() -> None:
    head = presigned("http://h/b/k?versionId=1")
    changed = [
        Head(method="PUT", path=head.path, query=head.query, headers=head.headers),
        Head(method="GET", path="/b/other", query=head.query, headers=head.headers),
        Head(method="GET", path=head.path, query=head.query.replace("Id=1", "Id=2"), headers=head.headers),
        Head(method="GET", path=head.path, query=head.query + "&acl", headers=head.headers),
        Head(method="GET", path=head.path, query=head.query + "&response-content-type=text/html", headers=head.headers),
        Head(method="GET", path=head.path, query=head.query, headers=[*head.headers, ("content-type", "a/b")]),
        Head(method="GET", path=head.path, query=head.query,
             headers=[*head.headers, ("x-amz-copy-source", "other/secret")]),
    ]  # fmt: skip
    for one in changed:
        with pytest.raises(Forbidden) as caught:
            verified(one)
        assert caught.value.fields["reason"] == "SignatureDoesNotMatch"


@pytest.mark.parametrize("extra", ["attributes", "publicAccessBlock", "append", "session", "X-Amz-Date=x"])
def test_what_is_not_signed_cannot_change_what_is_asked(extra: str) -> None:
    head = presigned("http://h/b/k")
    with pytest.raises(Forbidden, match="is not signed"):
        verified(Head(method="GET", path=head.path, query=f"{head.query}&{extra}", headers=head.headers))


def test_times() -> None:
    now_s = time.time()
    head = presigned("http://h/b/k", lasts_s=60)
    verified(head, now_s + 58)
    with pytest.raises(Forbidden, match="expired"):
        verified(head, now_s + 62)
    with pytest.raises(Forbidden, match="more than"):
        verified(presigned("http://h/b/k", lasts_s=int(LONGEST_S + SKEW_S) + 60))
    for wrong in ("", "x", "-1", "9" * 20):
        with pytest.raises(BadRequest, match="Expires"):
            verified(
                Head(method="GET", path="/", query=f"AWSAccessKeyId={KEY}&Signature=x&Expires={wrong}", headers=())
            )


@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8))), st.text(max_size=20))
def test_nothing_breaks_on_what_strangers_send(pairs: list[tuple[str, str]], signature: str) -> None:
    query = f"AWSAccessKeyId={KEY}&Expires=99&Signature=x&" + "&".join(f"{name}={value}" for name, value in pairs)
    head = Head(method="GET", path="/b/k", query=query, headers=[("x-amz-x", signature)])
    with pytest.raises(FuyunError):
        verify2(head, pairs_of(query), secret_of, 98.0, "")


def test_boto3_as_it_comes(served: Served, bucket: str) -> None:
    """Without being told to use Signature Version 4."""
    s3: Any = boto3.client(
        "s3", endpoint_url=served.url, aws_access_key_id=served.keys["acme"][0],
        aws_secret_access_key=served.keys["acme"][1], region_name="us-east-1",
    )  # fmt: skip
    try:
        place = {"Bucket": bucket, "Key": "a b/ü"}
        url = s3.generate_presigned_url("put_object", place)
        assert "AWSAccessKeyId=" in url
        assert httpx.put(url, content=b"body").status_code == 200
        with_type = s3.generate_presigned_url("put_object", {**place, "ContentType": "text/plain"})
        assert httpx.put(with_type, content=b"body").status_code == 403, "the header is to be sent, as to S3"
        assert httpx.put(with_type, content=b"body", headers={"content-type": "a/b"}).status_code == 403
        assert httpx.put(with_type, content=b"body", headers={"content-type": "text/plain"}).status_code == 200
        override = s3.generate_presigned_url("get_object", {**place, "ResponseContentDisposition": 'inline; a="b c"'})
        answer = httpx.get(override)
        assert (answer.content, answer.headers["content-disposition"]) == (b"body", 'inline; a="b c"')
        assert answer.headers["content-type"] == "text/plain"
        told = s3.generate_presigned_url("put_object", {"Bucket": bucket, "Key": "m", "Metadata": {"who": "me"}})
        assert httpx.put(told, content=b"").status_code == 200
        assert s3.head_object(Bucket=bucket, Key="m")["Metadata"] == {"who": "me"}
        assert httpx.get(override, headers={"range": "bytes=1-2"}).content == b"od"
        assert httpx.delete(override).status_code == 403
        assert httpx.delete(s3.generate_presigned_url("delete_object", place)).status_code == 204
        assert httpx.get(s3.generate_presigned_url("list_objects_v2", {"Bucket": bucket})).status_code == 200
    finally:
        s3.close()
