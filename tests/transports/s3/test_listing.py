"""Lists of keys and of versions over S3."""

from __future__ import annotations

from typing import Any

import pytest

from tests.transports.s3.clients import refused

KEYS = ["a", "a/1", "a/2", "a/b/3", "a0", "b", "c/1", "c/2/", "d", "ä", "\U0001f600"]


@pytest.fixture
def filled(s3: Any, bucket: str) -> str:
    for key in reversed(KEYS):
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    return bucket


def keys(page: dict[str, Any]) -> list[str]:
    return [found["Key"] for found in page.get("Contents", ())]


def prefixes(page: dict[str, Any]) -> list[str]:
    return [found["Prefix"] for found in page.get("CommonPrefixes", ())]


def test_keys_come_in_the_order_of_their_bytes(s3: Any, filled: str) -> None:
    for page in (s3.list_objects(Bucket=filled), s3.list_objects_v2(Bucket=filled)):
        assert keys(page) == KEYS
        assert page["IsTruncated"] is False
    assert s3.list_objects_v2(Bucket=filled)["KeyCount"] == len(KEYS)
    assert s3.list_objects(Bucket=filled)["Contents"][0]["Owner"]["ID"] == "acme"
    assert "Owner" not in s3.list_objects_v2(Bucket=filled)["Contents"][0]
    assert s3.list_objects_v2(Bucket=filled, FetchOwner=True)["Contents"][0]["Owner"]["ID"] == "acme"


def test_prefixes_and_delimiters(s3: Any, filled: str) -> None:
    top = s3.list_objects_v2(Bucket=filled, Delimiter="/")
    assert (keys(top), prefixes(top)) == (["a", "a0", "b", "d", "ä", "\U0001f600"], ["a/", "c/"])
    below = s3.list_objects_v2(Bucket=filled, Delimiter="/", Prefix="a/")
    assert (keys(below), prefixes(below)) == (["a/1", "a/2"], ["a/b/"])
    assert keys(s3.list_objects_v2(Bucket=filled, Prefix="a")) == ["a", "a/1", "a/2", "a/b/3", "a0"]
    assert keys(s3.list_objects_v2(Bucket=filled, Prefix="nothing")) == []
    odd = s3.list_objects_v2(Bucket=filled, Delimiter="b/")
    assert prefixes(odd) == ["a/b/"]


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
@pytest.mark.parametrize("delimiter", ["", "/"])
def test_pages_add_up_to_the_whole(s3: Any, filled: str, limit: int, delimiter: str) -> None:
    whole = s3.list_objects_v2(Bucket=filled, Delimiter=delimiter)
    for name in ("list_objects", "list_objects_v2"):
        pages = list(
            s3.get_paginator(name).paginate(Bucket=filled, Delimiter=delimiter, PaginationConfig={"PageSize": limit})
        )
        assert [key for page in pages for key in keys(page)] == keys(whole), name
        assert [prefix for page in pages for prefix in prefixes(page)] == prefixes(whole), name
        assert all(len(keys(page)) + len(prefixes(page)) <= limit for page in pages)


def test_where_a_list_begins(s3: Any, filled: str) -> None:
    assert keys(s3.list_objects_v2(Bucket=filled, StartAfter="a/2"))[0] == "a/b/3"
    assert keys(s3.list_objects(Bucket=filled, Marker="b"))[0] == "c/1"
    inside = s3.list_objects_v2(Bucket=filled, StartAfter="a/1", Delimiter="/")
    assert prefixes(inside) == ["a/", "c/"], "what follows in a prefix still shows it"
    assert prefixes(s3.list_objects(Bucket=filled, Marker="a/", Delimiter="/")) == ["c/"]
    refused(lambda: s3.list_objects_v2(Bucket=filled, ContinuationToken="§"), "InvalidArgument", 400)
    assert keys(s3.list_objects_v2(Bucket=filled, MaxKeys=0)) == []


def test_versions(s3: Any, bucket: str) -> None:
    first = s3.put_object(Bucket=bucket, Key="k", Body=b"0")
    assert "VersionId" not in first
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    one = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["VersionId"]
    two = s3.put_object(Bucket=bucket, Key="k", Body=b"2")["VersionId"]

    def read(**more: Any) -> bytes:
        body: bytes = s3.get_object(Bucket=bucket, Key="k", **more)["Body"].read()
        return body

    assert [read(VersionId=version) for version in ("null", one, two)] == [b"0", b"1", b"2"]
    marker = s3.delete_object(Bucket=bucket, Key="k")
    assert marker["DeleteMarker"] is True
    error = refused(read, "NoSuchKey", 404)
    assert error.response["ResponseMetadata"]["HTTPHeaders"]["x-amz-delete-marker"] == "true"
    refused(lambda: read(VersionId=marker["VersionId"]), "MethodNotAllowed", 405)
    refused(lambda: read(VersionId="0" * 32), "NoSuchVersion", 404)
    assert keys(s3.list_objects_v2(Bucket=bucket)) == []
    page = s3.list_object_versions(Bucket=bucket)
    assert [found["VersionId"] for found in page["Versions"]] == [two, one, "null"]
    assert [(found["VersionId"], found["IsLatest"]) for found in page["DeleteMarkers"]] == [(marker["VersionId"], True)]
    gone = s3.delete_object(Bucket=bucket, Key="k", VersionId=marker["VersionId"])
    assert (gone["DeleteMarker"], gone["VersionId"]) == (True, marker["VersionId"])
    assert read() == b"2", "without its marker the object is back"
    s3.delete_object(Bucket=bucket, Key="k", VersionId=two)
    assert read() == b"1"
    source = {"Bucket": bucket, "Key": "k", "VersionId": "null"}
    s3.copy_object(Bucket=bucket, Key="k", CopySource=source)
    assert read() == b"0", "an old version was restored by a copy"


def test_suspended_versioning_replaces_the_null_version(s3: Any, bucket: str) -> None:
    for status, body in (("Enabled", b"1"), ("Suspended", b"2"), ("Suspended", b"3")):
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})
        s3.put_object(Bucket=bucket, Key="k", Body=body)
    found = s3.list_object_versions(Bucket=bucket)["Versions"]
    assert [(one["VersionId"] == "null", one["IsLatest"]) for one in found] == [(True, True), (False, False)]
    s3.delete_object(Bucket=bucket, Key="k")
    page = s3.list_object_versions(Bucket=bucket)
    assert [one["VersionId"] for one in page["DeleteMarkers"]] == ["null"], "its marker replaced the null version"
    assert len(page["Versions"]) == 1


def test_versions_are_paged(s3: Any, bucket: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    made = [
        (key, s3.put_object(Bucket=bucket, Key=key, Body=b"x")["VersionId"])
        for key in ("a", "b", "b", "b", "c/1", "c/2")
    ]
    wanted = sorted(made, key=lambda one: (one[0], -made.index(one)))
    for limit in (1, 2, 4):
        pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket, PaginationConfig={"PageSize": limit})
        assert [(one["Key"], one["VersionId"]) for page in pages for one in page["Versions"]] == wanted
    folded = s3.list_object_versions(Bucket=bucket, Delimiter="/")
    assert prefixes(folded) == ["c/"]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_who_deletes_what_a_page_showed_misses_none_on_the_next(s3: Any, bucket: str, size: int) -> None:
    """As every script that empties a bucket does; a version is marker of the next page, and gone."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"null")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for number in range(5):
        s3.put_object(Bucket=bucket, Key="k", Body=b"%d" % number)
        s3.delete_object(Bucket=bucket, Key="l")
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, PaginationConfig={"PageSize": size}):
        for one in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
            s3.delete_object(Bucket=bucket, Key=one["Key"], VersionId=one["VersionId"])
    s3.delete_bucket(Bucket=bucket)
