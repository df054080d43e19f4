"""Objects over S3, asked for by boto3: put, get, head, delete, copy, conditions, ranges, tags."""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Any

import httpx
import pytest

from tests.transports.s3.clients import Served, refused

MIB = 2**20
BIG = os.urandom(3 * MIB + 17)


def read(s3: Any, bucket: str, key: str, **more: Any) -> bytes:
    body: bytes = s3.get_object(Bucket=bucket, Key=key, **more)["Body"].read()
    return body


@pytest.mark.parametrize("size", [0, 1, 16 * 1024, 16 * 1024 + 1, 3 * MIB + 17])
def test_what_was_put_is_got(s3: Any, bucket: str, size: int) -> None:
    body = BIG[:size]
    put = s3.put_object(Bucket=bucket, Key="k", Body=body)
    assert put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == body
    assert (got["ContentLength"], got["ETag"], got["ContentType"]) == (size, put["ETag"], "binary/octet-stream")
    head = s3.head_object(Bucket=bucket, Key="k")
    assert (head["ContentLength"], head["ETag"]) == (size, put["ETag"])


@pytest.mark.parametrize(
    "key", ["a b/ü+&=?#%.txt", "//double//", ".", "a/../b", "\U0001f600", "x" * 1024, "a\nb", "%41"]
)
def test_any_text_is_a_key(s3: Any, bucket: str, key: str) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=b"1")
    assert read(s3, bucket, key) == b"1"
    assert [found["Key"] for found in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [key]
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key}]})
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_a_key_that_is_too_long_is_refused(s3: Any, bucket: str) -> None:
    refused(lambda: s3.put_object(Bucket=bucket, Key="ü" * 513, Body=b""), "KeyTooLongError", 400)


def test_headers_metadata_and_tags_are_kept(s3: Any, bucket: str) -> None:
    headers = {
        "ContentType": "text/plain; charset=utf-8", "CacheControl": "max-age=3", "ContentDisposition": "inline",
        "ContentEncoding": "gzip", "ContentLanguage": "de", "WebsiteRedirectLocation": "/x",
    }  # fmt: skip
    s3.put_object(Bucket=bucket, Key="k", Body=b"1", Metadata={"A-b": "c d"}, Tagging="x=1&y=%20", **headers)
    for found in (s3.head_object(Bucket=bucket, Key="k"), s3.get_object(Bucket=bucket, Key="k")):
        assert {name: found[name] for name in headers} == headers
        assert found["Metadata"] == {"a-b": "c d"}
        if "Body" in found:
            assert found["TagCount"] == 2
            found["Body"].read()
    tags = s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"]
    assert tags == [{"Key": "x", "Value": "1"}, {"Key": "y", "Value": " "}]
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": [{"Key": "z", "Value": "<&>"}]})
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == [{"Key": "z", "Value": "<&>"}]
    s3.delete_object_tagging(Bucket=bucket, Key="k")
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == []
    overridden = s3.get_object(Bucket=bucket, Key="k", ResponseContentType="a/b", ResponseCacheControl="no-store")
    assert (overridden["ContentType"], overridden["CacheControl"]) == ("a/b", "no-store")
    overridden["Body"].read()


def test_bounds_of_metadata_and_tags(s3: Any, bucket: str) -> None:
    refused(lambda: s3.put_object(Bucket=bucket, Key="k", Metadata={"a": "x" * 2048}), "MetadataTooLarge", 400)
    many = "&".join(f"k{number}=v" for number in range(11))
    refused(lambda: s3.put_object(Bucket=bucket, Key="k", Tagging=many), "BadRequest", 400)
    refused(lambda: s3.put_object(Bucket=bucket, Key="k", Tagging="aws:a=b"), "InvalidTag", 400)
    refused(lambda: s3.head_object(Bucket=bucket, Key="k"), "404")


@pytest.mark.parametrize("where", ["inline", "file"])
def test_ranges(s3: Any, bucket: str, where: str) -> None:
    body = BIG[:1000] if where == "inline" else BIG
    size = len(body)
    s3.put_object(Bucket=bucket, Key="k", Body=body)
    for text, start, end in (
        ("bytes=0-0", 0, 1), ("bytes=5-9", 5, 10), ("bytes=990-", 990, size), ("bytes=-7", size - 7, size),
        (f"bytes=0-{size * 2}", 0, size), (f"bytes=-{size * 2}", 0, size),
    ):  # fmt: skip
        got = s3.get_object(Bucket=bucket, Key="k", Range=text)
        assert got["Body"].read() == body[start:end], text
        assert got["ContentRange"] == f"bytes {start}-{end - 1}/{size}"
        assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    for text in (f"bytes={size}-", "bytes=-0"):
        error = refused(lambda text=text: s3.get_object(Bucket=bucket, Key="k", Range=text), "InvalidRange", 416)
        assert error.response["ResponseMetadata"]["HTTPHeaders"]["content-range"] == f"bytes */{size}"
    assert read(s3, bucket, "k", Range="lines=1-2") == body, "what is no range of bytes is ignored"


def test_conditions_of_reads(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["ETag"]
    at = s3.head_object(Bucket=bucket, Key="k")["LastModified"]
    assert read(s3, bucket, "k", IfMatch=etag) == b"1"
    assert read(s3, bucket, "k", IfNoneMatch='"other"') == b"1"
    refused(lambda: s3.get_object(Bucket=bucket, Key="k", IfMatch='"other"'), "PreconditionFailed", 412)
    refused(lambda: s3.get_object(Bucket=bucket, Key="k", IfNoneMatch=etag), "304", 304)
    refused(lambda: s3.get_object(Bucket=bucket, Key="k", IfModifiedSince=at), "304", 304)
    assert read(s3, bucket, "k", IfUnmodifiedSince=at) == b"1"
    refused(lambda: s3.head_object(Bucket=bucket, Key="k", IfMatch='"other"'), "412", 412)


def test_conditions_of_writes(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"1", IfNoneMatch="*")["ETag"]
    refused(lambda: s3.put_object(Bucket=bucket, Key="k", Body=b"2", IfNoneMatch="*"), "PreconditionFailed", 412)
    refused(lambda: s3.put_object(Bucket=bucket, Key="k", Body=b"2", IfMatch='"x"'), "PreconditionFailed", 412)
    refused(lambda: s3.put_object(Bucket=bucket, Key="none", Body=b"2", IfMatch=etag), "NoSuchKey", 404)
    refused(lambda: s3.put_object(Bucket=bucket, Key="k", Body=b"2", IfNoneMatch=etag), "NotImplemented", 501)
    assert read(s3, bucket, "k") == b"1"
    s3.put_object(Bucket=bucket, Key="k", Body=b"2", IfMatch=etag)
    assert read(s3, bucket, "k") == b"2"


def test_what_is_absent(s3: Any, bucket: str) -> None:
    error = refused(lambda: s3.get_object(Bucket=bucket, Key="none"), "NoSuchKey", 404)
    assert error.response["Error"]["Key"] == "none"
    refused(lambda: s3.head_object(Bucket=bucket, Key="none"), "404", 404)
    refused(lambda: s3.get_object(Bucket="no-such-bucket", Key="k"), "NoSuchBucket", 404)
    refused(lambda: s3.put_object(Bucket="no-such-bucket", Key="k", Body=b""), "NoSuchBucket", 404)
    refused(lambda: s3.get_object_tagging(Bucket=bucket, Key="none"), "NoSuchKey", 404)
    assert s3.delete_object(Bucket=bucket, Key="none")["ResponseMetadata"]["HTTPStatusCode"] == 204
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "none"}, {"Key": "x"}]})
    assert [found["Key"] for found in answer["Deleted"]] == ["none", "x"], "as S3: what is gone was deleted"


def test_copies(s3: Any, bucket: str) -> None:
    for key, body in (("small", b"1"), ("big", BIG)):
        s3.put_object(Bucket=bucket, Key=key, Body=body, Metadata={"a": "b"}, ContentType="a/b", Tagging="t=1")
        source = {"Bucket": bucket, "Key": key}
        made = s3.copy_object(Bucket=bucket, Key=f"copy of {key}", CopySource=source)
        s3.delete_object(Bucket=bucket, Key=key)
        found = s3.get_object(Bucket=bucket, Key=f"copy of {key}")
        assert found["Body"].read() == body, "a copy outlives its source"
        assert (found["Metadata"], found["ContentType"], found["TagCount"]) == ({"a": "b"}, "a/b", 1)
        assert made["CopyObjectResult"]["ETag"] == found["ETag"]
    source = {"Bucket": bucket, "Key": "copy of big"}
    s3.copy_object(
        Bucket=bucket, Key="copy of big", CopySource=source, MetadataDirective="REPLACE", Metadata={"n": "w"}
    )
    found = s3.head_object(Bucket=bucket, Key="copy of big")
    assert (found["Metadata"], found["ContentType"]) == ({"n": "w"}, "binary/octet-stream")
    refused(lambda: s3.copy_object(Bucket=bucket, Key="copy of big", CopySource=source), "InvalidRequest", 400)
    none = {"Bucket": bucket, "Key": "none"}
    refused(lambda: s3.copy_object(Bucket=bucket, Key="x", CopySource=none), "NoSuchKey", 404)
    refused(
        lambda: s3.copy_object(Bucket=bucket, Key="x", CopySource=source, CopySourceIfMatch="x"),
        "PreconditionFailed", 412,
    )  # fmt: skip


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_checksums(s3: Any, bucket: str, algorithm: str) -> None:
    field = f"Checksum{algorithm}"
    put = s3.put_object(Bucket=bucket, Key="k", Body=BIG, ChecksumAlgorithm=algorithm)
    found = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert found["Body"].read() == BIG, "boto3 checks it as well"
    assert found[field] == put[field]
    wanted = ["Checksum", "ETag", "ObjectSize"]
    told = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=wanted)
    assert (told["Checksum"][field], told["ObjectSize"]) == (put[field], len(BIG))
    wrong = base64.b64encode(bytes(len(base64.b64decode(put[field])))).decode()
    refused(lambda: s3.put_object(Bucket=bucket, Key="w", Body=b"abc", **{field: wrong}), "BadDigest", 400)
    refused(lambda: s3.head_object(Bucket=bucket, Key="w"), "404")


def test_content_md5(s3: Any, bucket: str) -> None:
    good = base64.b64encode(hashlib.md5(BIG).digest()).decode()
    s3.put_object(Bucket=bucket, Key="k", Body=BIG, ContentMD5=good)
    refused(lambda: s3.put_object(Bucket=bucket, Key="k", Body=b"2", ContentMD5=good), "BadDigest", 400)
    refused(lambda: s3.put_object(Bucket=bucket, Key="k", Body=b"2", ContentMD5="x"), "InvalidDigest", 400)
    assert read(s3, bucket, "k") == BIG


def test_presigned_urls(served: Served, s3: Any, bucket: str) -> None:
    def url(method: str, expires: int = 60, **params: Any) -> str:
        made: str = s3.generate_presigned_url(method, {"Bucket": bucket, "Key": "a b/ü", **params}, expires)
        return made

    put = url("put_object", ContentType="text/x")
    with httpx.Client(trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)) as http:
        assert http.put(put, content=b"hello", headers={"content-type": "text/x"}).status_code == 200
        got = http.get(url("get_object", ResponseContentType="a/b"))
        assert (got.text, got.headers["content-type"]) == ("hello", "a/b")
        assert http.put(put, content=b"x", headers={"content-type": "other"}).status_code == 403
        assert "SignatureDoesNotMatch" in http.get(put).text
        changed = http.get(url("get_object").replace("X-Amz-Expires=60", "X-Amz-Expires=600"))
        assert "SignatureDoesNotMatch" in changed.text
        assert http.get(f"{served.url}/{bucket}/a").status_code == 403


def test_requests_that_are_not_signed_right_are_refused(served: Served, bucket: str) -> None:
    import boto3
    from botocore.config import Config

    def client(key: str, secret: str) -> Any:
        config = Config(retries={"total_max_attempts": 1}, signature_version="s3v4")
        return boto3.client(
            "s3", endpoint_url=served.url, aws_access_key_id=key, aws_secret_access_key=secret,
            region_name="us-east-1", config=config,
        )  # fmt: skip

    known, secret = served.keys["acme"]
    for key, words, code in (
        (known, secret[:-1] + "x", "SignatureDoesNotMatch"),
        ("none", secret, "InvalidAccessKeyId"),
    ):
        made = client(key, words)
        refused(lambda made=made: made.list_objects_v2(Bucket=bucket), code, 403)
        made.close()


def test_roles_and_namespaces(served: Served, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    viewer, invoker, other, admin = (served.client(name) for name in ("viewer", "invoker", "small", "admin"))
    assert read(viewer, bucket, "k") == read(admin, bucket, "k") == b"1"
    refused(lambda: viewer.put_object(Bucket=bucket, Key="k", Body=b"2"), "AccessDenied", 403)
    refused(lambda: viewer.delete_object(Bucket=bucket, Key="k"), "AccessDenied", 403)
    refused(lambda: viewer.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k"}]}), "AccessDenied", 403)
    refused(lambda: viewer.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}),
            "AccessDenied", 403)  # fmt: skip
    for nobody in (invoker, other):
        refused(lambda nobody=nobody: nobody.get_object(Bucket=bucket, Key="k"), "AccessDenied", 403)
        refused(lambda nobody=nobody: nobody.list_objects_v2(Bucket=bucket), "AccessDenied", 403)
    source = {"Bucket": bucket, "Key": "k"}
    refused(lambda: other.copy_object(Bucket=bucket, Key="x", CopySource=source), "AccessDenied", 403)


def test_what_is_not_supported_says_so(s3: Any, bucket: str) -> None:
    put = {"Bucket": bucket, "Key": "k", "Body": b""}
    refused(lambda: s3.put_object(**put, ServerSideEncryption="AES256"), "NotImplemented", 501)
    refused(lambda: s3.put_object(**put, ACL="public-read"), "NotImplemented", 501)
    refused(lambda: s3.put_object(**put, StorageClass="GLACIER"), "NotImplemented", 501)
    refused(lambda: s3.put_object(**put, StorageClass="BRONZE"), "InvalidStorageClass", 400)
    refused(lambda: s3.put_object(**put, GrantRead="id=x"), "NotImplemented", 501)
    s3.put_object(**put, ACL="bucket-owner-full-control", StorageClass="STANDARD")
    refused(lambda: s3.get_object_retention(Bucket=bucket, Key="k"), "NotImplemented", 501)
    refused(lambda: s3.restore_object(Bucket=bucket, Key="k", RestoreRequest={"Days": 1}), "NotImplemented", 501)
    (grant,) = s3.get_object_acl(Bucket=bucket, Key="k")["Grants"]
    assert (grant["Permission"], grant["Grantee"]["ID"]) == ("FULL_CONTROL", "acme")


def test_storage_classes_are_kept_as_what_objects_are_called(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="plain", Body=b"x", StorageClass="STANDARD")
    s3.put_object(Bucket=bucket, Key="rare", Body=b"x", StorageClass="STANDARD_IA", Metadata={"a": "b"})
    upload = s3.create_multipart_upload(Bucket=bucket, Key="parts", StorageClass="ONEZONE_IA")["UploadId"]
    assert s3.list_parts(Bucket=bucket, Key="parts", UploadId=upload)["StorageClass"] == "ONEZONE_IA"
    assert "StorageClass" not in s3.head_object(Bucket=bucket, Key="plain")
    assert s3.head_object(Bucket=bucket, Key="rare")["StorageClass"] == "STANDARD_IA"
    found = {one["Key"]: one["StorageClass"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]}
    assert found == {"plain": "STANDARD", "rare": "STANDARD_IA"}
    source = {"Bucket": bucket, "Key": "rare"}
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=source)
    copied = s3.head_object(Bucket=bucket, Key="copy")
    assert ("StorageClass" not in copied, copied["Metadata"]) == (True, {"a": "b"})
    s3.copy_object(Bucket=bucket, Key="rare", CopySource=source, StorageClass="GLACIER_IR")
    changed = s3.head_object(Bucket=bucket, Key="rare")
    assert (changed["StorageClass"], changed["Metadata"]) == ("GLACIER_IR", {"a": "b"})
    attributes = s3.get_object_attributes(Bucket=bucket, Key="rare", ObjectAttributes=["StorageClass"])
    assert attributes["StorageClass"] == "GLACIER_IR"


def test_a_copy_redirects_only_where_it_is_told_to(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", WebsiteRedirectLocation="/there")
    source = {"Bucket": bucket, "Key": "k"}
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=source)
    assert "WebsiteRedirectLocation" not in s3.head_object(Bucket=bucket, Key="copy")
    s3.copy_object(Bucket=bucket, Key="k", CopySource=source, WebsiteRedirectLocation="/there")
    assert s3.head_object(Bucket=bucket, Key="k")["WebsiteRedirectLocation"] == "/there"


@pytest.mark.parametrize("size", [10, 400_000])
def test_a_copy_has_the_checksum_that_is_asked_for(s3: Any, bucket: str, size: int) -> None:
    body = b"c" * size
    s3.put_object(Bucket=bucket, Key="k", Body=body, ChecksumAlgorithm="CRC32")
    source = {"Bucket": bucket, "Key": "k"}
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    copied = s3.copy_object(Bucket=bucket, Key="copy", CopySource=source, ChecksumAlgorithm="SHA256")
    assert copied["CopyObjectResult"]["ChecksumSHA256"] == digest
    found = s3.head_object(Bucket=bucket, Key="copy", ChecksumMode="ENABLED")
    assert (found["ChecksumSHA256"], found["ChecksumType"], "ChecksumCRC32" in found) == (digest, "FULL_OBJECT", False)
    refused(lambda: s3.copy_object(Bucket=bucket, Key="copy", CopySource=source, ChecksumAlgorithm="MD4"),
            "InvalidRequest", 400)  # fmt: skip


def test_delete_markers_have_no_tags_and_versions_can_be_made_the_newest_again(s3: Any, bucket: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["VersionId"]
    s3.copy_object(Bucket=bucket, Key="k", CopySource={"Bucket": bucket, "Key": "k", "VersionId": first})
    assert len(s3.list_object_versions(Bucket=bucket)["Versions"]) == 2
    refused(lambda: s3.copy_object(Bucket=bucket, Key="k", CopySource={"Bucket": bucket, "Key": "k"}),
            "InvalidRequest", 400)  # fmt: skip
    marker = s3.delete_object(Bucket=bucket, Key="k")["VersionId"]
    tagging = {"Tagging": {"TagSet": [{"Key": "a", "Value": "b"}]}}
    named = {"Bucket": bucket, "Key": "k", "VersionId": marker}
    refused(lambda: s3.put_object_tagging(**named, **tagging), "MethodNotAllowed", 405)
    refused(lambda: s3.delete_object_tagging(**named), "MethodNotAllowed", 405)
    refused(lambda: s3.put_object_tagging(Bucket=bucket, Key="k", **tagging), "NoSuchKey", 404)
    gone = refused(lambda: s3.get_object(Bucket=bucket, Key="k", VersionId="0" * 32), "NoSuchVersion", 404)
    assert gone.response["Error"]["VersionId"] == "0" * 32
