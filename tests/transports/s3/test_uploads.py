"""Uploads in parts over S3."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import zlib
from typing import Any

import pytest
from boto3.s3.transfer import TransferConfig

from tests.transports.s3.clients import refused

MIB = 2**20
FIRST, LAST = os.urandom(5 * MIB), os.urandom(1000)


def begin(s3: Any, bucket: str, key: str = "k", **more: Any) -> dict[str, Any]:
    upload = s3.create_multipart_upload(Bucket=bucket, Key=key, **more)["UploadId"]
    return {"Bucket": bucket, "Key": key, "UploadId": upload}


def send(s3: Any, upload: dict[str, Any], number: int, body: bytes, **more: Any) -> dict[str, Any]:
    etag = s3.upload_part(**upload, PartNumber=number, Body=body, **more)["ETag"]
    return {"PartNumber": number, "ETag": etag}


def complete(s3: Any, upload: dict[str, Any], *parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": list(parts)}, **more)
    return made


def test_parts_in_any_order_become_one_object(s3: Any, bucket: str) -> None:
    upload = begin(s3, bucket, Metadata={"a": "b"}, ContentType="a/b", Tagging="t=1")
    last = send(s3, upload, 9, LAST)
    first = send(s3, upload, 3, FIRST)
    send(s3, upload, 5, b"not chosen")
    refused(lambda: s3.head_object(Bucket=bucket, Key="k"), "404")
    listed = s3.list_parts(**upload)
    assert [(part["PartNumber"], part["Size"]) for part in listed["Parts"]] == [(3, 5 * MIB), (5, 10), (9, 1000)]
    made = complete(s3, upload, first, last)
    md5 = hashlib.md5(hashlib.md5(FIRST).digest() + hashlib.md5(LAST).digest()).hexdigest()
    assert made["ETag"] == f'"{md5}-2"'
    found = s3.get_object(Bucket=bucket, Key="k")
    assert found["Body"].read() == FIRST + LAST
    assert (found["Metadata"], found["ContentType"], found["TagCount"]) == ({"a": "b"}, "a/b", 1)
    edge = s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={5 * MIB - 10}-{5 * MIB + 9}")
    assert edge["Body"].read() == FIRST[-10:] + LAST[:10], "a range over two parts"
    part = s3.get_object(Bucket=bucket, Key="k", PartNumber=2)
    assert (part["Body"].read(), part["PartsCount"]) == (LAST, 2)
    refused(lambda: s3.list_parts(**upload), "NoSuchUpload", 404)
    source = {"Bucket": bucket, "Key": "k"}
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=source)
    s3.delete_object(Bucket=bucket, Key="k")
    assert s3.get_object(Bucket=bucket, Key="copy")["Body"].read() == FIRST + LAST


def test_what_cannot_be_completed(s3: Any, bucket: str) -> None:
    upload = begin(s3, bucket)
    one, two = send(s3, upload, 1, b"too small"), send(s3, upload, 2, LAST)
    refused(lambda: complete(s3, upload, one, two), "EntityTooSmall", 400)
    refused(lambda: complete(s3, upload, two, one), "InvalidPartOrder", 400)
    refused(lambda: complete(s3, upload, {**one, "ETag": '"0"'}), "InvalidPart", 400)
    refused(lambda: complete(s3, upload, {**one, "PartNumber": 7}), "InvalidPart", 400)
    refused(lambda: send(s3, upload, 10_001, b"x"), "InvalidArgument", 400)
    refused(lambda: send(s3, {**upload, "UploadId": "none"}, 1, b"x"), "NoSuchUpload", 404)
    refused(lambda: send(s3, {**upload, "Key": "other"}, 1, b"x"), "NoSuchUpload", 404)
    s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    refused(lambda: complete(s3, upload, one, IfNoneMatch="*"), "PreconditionFailed", 412)
    assert complete(s3, upload, one)["Key"] == "k"


def test_a_part_that_is_sent_again_replaces_the_first(s3: Any, bucket: str) -> None:
    upload = begin(s3, bucket)
    old, new = send(s3, upload, 1, b"old"), send(s3, upload, 1, b"new")
    refused(lambda: complete(s3, upload, old), "InvalidPart", 400)
    complete(s3, upload, new)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"new"


def test_aborted_uploads_are_gone(s3: Any, bucket: str) -> None:
    upload = begin(s3, bucket, "a/1")
    other = begin(s3, bucket, "b")
    send(s3, upload, 1, FIRST)
    found = s3.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert [(one["Key"], one["UploadId"]) for one in found] == [("a/1", upload["UploadId"]), ("b", other["UploadId"])]
    folded = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/", MaxUploads=1)
    assert ([one["Prefix"] for one in folded["CommonPrefixes"]], folded["IsTruncated"]) == (["a/"], True)
    s3.abort_multipart_upload(**upload)
    refused(lambda: s3.abort_multipart_upload(**upload), "NoSuchUpload", 404)
    s3.delete_bucket(Bucket=bucket)  # as in S3: with what is under way
    refused(lambda: s3.abort_multipart_upload(**other), "NoSuchBucket", 404)


def test_parts_of_other_objects(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="source", Body=FIRST + LAST)
    s3.put_object(Bucket=bucket, Key="small", Body=b"small")
    upload = begin(s3, bucket)
    source = {"Bucket": bucket, "Key": "source"}
    one = s3.upload_part_copy(**upload, PartNumber=1, CopySource=source, CopySourceRange=f"bytes=0-{5 * MIB - 1}")
    two = s3.upload_part_copy(**upload, PartNumber=2, CopySource={**source, "Key": "small"})
    parts = [{"PartNumber": number, "ETag": made["CopyPartResult"]["ETag"]} for number, made in ((1, one), (2, two))]
    complete(s3, upload, *parts)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == FIRST + b"small"


def test_checksums_of_wholes(s3: Any, bucket: str) -> None:
    upload = begin(s3, bucket, ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
    parts = [send(s3, upload, 1, FIRST), send(s3, upload, 2, LAST)]
    made = complete(s3, upload, *parts)
    whole = base64.b64encode(zlib.crc32(FIRST + LAST).to_bytes(4, "big")).decode()
    assert (made["ChecksumCRC32"], made["ChecksumType"]) == (whole, "FULL_OBJECT")
    upload = begin(s3, bucket, ChecksumAlgorithm="SHA256")
    parts = [
        send(s3, upload, 1, FIRST, ChecksumAlgorithm="SHA256"),
        send(s3, upload, 2, LAST, ChecksumAlgorithm="SHA256"),
    ]
    made = complete(s3, upload, *parts)
    both = hashlib.sha256(hashlib.sha256(FIRST).digest() + hashlib.sha256(LAST).digest()).digest()
    assert made["ChecksumSHA256"] == base64.b64encode(both).decode() + "-2"
    upload = begin(s3, bucket, ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
    part = send(s3, upload, 1, LAST)
    refused(lambda: complete(s3, upload, part, ChecksumCRC32=whole), "BadDigest", 400)


@pytest.mark.parametrize("seekable", [True, False], ids=["file", "stream"])
def test_the_transfer_manager(s3: Any, bucket: str, seekable: bool) -> None:
    class Stream(io.RawIOBase):
        """Bytes that come once."""

        def __init__(self, body: bytes) -> None:
            self._inner = io.BytesIO(body)

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            return self._inner.read(size)

    body = FIRST + FIRST + LAST
    config = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB, use_threads=False)
    s3.upload_fileobj(io.BytesIO(body) if seekable else Stream(body), bucket, "k", Config=config)
    got = io.BytesIO()
    s3.download_fileobj(bucket, "k", got, Config=config)
    assert got.getvalue() == body


def test_a_part_with_another_checksum_than_its_upload_is_refused(s3: Any, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm="SHA256")["UploadId"]
    named = {"Bucket": bucket, "Key": "k", "UploadId": upload}
    refused(lambda: s3.upload_part(**named, PartNumber=1, Body=b"x", ChecksumAlgorithm="CRC32"), "InvalidRequest", 400)
    part = s3.upload_part(**named, PartNumber=1, Body=b"x", ChecksumAlgorithm="SHA256")
    parts = [{"PartNumber": 1, "ETag": part["ETag"], "ChecksumSHA256": part["ChecksumSHA256"]}]
    s3.complete_multipart_upload(**named, MultipartUpload={"Parts": parts})
    composite = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")["ChecksumSHA256"]
    told = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["Checksum"])["Checksum"]
    assert composite == f"{told['ChecksumSHA256']}-1"


def test_completing_again_is_answered_again_as_long_as_the_object_is_the_newest(s3: Any, bucket: str) -> None:
    """A client whose answer was lost asks once more."""
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    named = {"Bucket": bucket, "Key": "k", "UploadId": upload}
    part = s3.upload_part(**named, PartNumber=1, Body=b"part")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    first = s3.complete_multipart_upload(**named, MultipartUpload=parts)
    again = s3.complete_multipart_upload(**named, MultipartUpload=parts, IfNoneMatch="*")
    assert again["ETag"] == first["ETag"]
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    assert s3.complete_multipart_upload(**named, MultipartUpload=parts)["ETag"] == first["ETag"]
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "k"})
    other = {**named, "Key": "copy"}
    refused(lambda: s3.complete_multipart_upload(**other, MultipartUpload=parts), "NoSuchUpload", 404)
    s3.put_object(Bucket=bucket, Key="k", Body=b"newer")
    refused(lambda: s3.complete_multipart_upload(**named, MultipartUpload=parts), "NoSuchUpload", 404)
