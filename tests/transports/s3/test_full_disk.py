"""S3 on a disk that is full: what is there stays, new work is refused with 507, and room made is room to use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.transports.s3.clients import refused, serving

MIB = 2**20


@pytest.mark.parametrize("small_disk", ["24m"], indirect=True)
def test_a_full_disk(small_disk: Path) -> None:
    first = os.urandom(8 * MIB)
    with serving(small_disk / "data") as served:
        s3 = served.client()
        s3.create_bucket(Bucket="full")
        s3.put_object(Bucket="full", Key="kept", Body=first)
        refused(lambda: s3.put_object(Bucket="full", Key="large", Body=os.urandom(16 * MIB)), "StorageFull", 507)
        upload = s3.create_multipart_upload(Bucket="full", Key="parts")["UploadId"]
        part = {"Bucket": "full", "Key": "parts", "UploadId": upload, "PartNumber": 1}
        refused(lambda: s3.upload_part(**part, Body=os.urandom(16 * MIB)), "StorageFull", 507)
        assert s3.get_object(Bucket="full", Key="kept")["Body"].read() == first
        s3.put_object(Bucket="full", Key="small", Body=b"there is room for little things")
        s3.delete_object(Bucket="full", Key="kept")
        s3.put_object(Bucket="full", Key="new", Body=first[::-1])
        assert s3.get_object(Bucket="full", Key="new")["Body"].read() == first[::-1]
