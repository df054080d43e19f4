"""Buckets over S3: made and deleted, configured, shown as websites, asked from browsers."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.transports.s3.clients import Served, fresh, refused, signed
from tests.transports.s3.serving import SMALL_BYTES


@pytest.fixture
def http() -> Any:
    with httpx.Client(trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)) as client:
        yield client


def test_buckets(served: Served, s3: Any) -> None:
    name = fresh()
    refused(lambda: s3.head_bucket(Bucket=name), "404", 404)
    s3.create_bucket(Bucket=name)
    s3.create_bucket(Bucket=name)  # as in us-east-1: again is no error
    assert name in [found["Name"] for found in s3.list_buckets()["Buckets"]]
    assert s3.list_buckets(Prefix=name)["Buckets"][0]["BucketRegion"] == "us-east-1"
    assert s3.get_bucket_location(Bucket=name)["LocationConstraint"] is None
    s3.head_bucket(Bucket=name)
    other = served.client("small")
    assert name not in [found["Name"] for found in other.list_buckets()["Buckets"]]
    refused(lambda: other.create_bucket(Bucket=name), "BucketAlreadyExists", 409)
    refused(lambda: other.head_bucket(Bucket=name), "403", 403)
    s3.put_object(Bucket=name, Key="k", Body=b"1")
    refused(lambda: s3.delete_bucket(Bucket=name), "BucketNotEmpty", 409)
    s3.delete_object(Bucket=name, Key="k")
    s3.delete_bucket(Bucket=name)
    refused(lambda: s3.delete_bucket(Bucket=name), "NoSuchBucket", 404)
    far = fresh()
    s3.create_bucket(Bucket=far, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    assert s3.get_bucket_location(Bucket=far)["LocationConstraint"] == "eu-central-1"


@pytest.mark.parametrize("name", ["Upper", "ab", "a..b", "1.2.3.4", "-ab", "under_score"])
def test_names_that_no_bucket_can_have(served: Served, name: str) -> None:
    s3 = served.client()
    events = s3.meta.events
    from botocore.handlers import validate_bucket_name

    events.unregister("before-parameter-build.s3", validate_bucket_name)
    try:
        refused(lambda: s3.create_bucket(Bucket=name), "InvalidBucketName", 400)
    finally:
        events.register("before-parameter-build.s3", validate_bucket_name)


def test_quotas(served: Served) -> None:
    s3 = served.client("small")
    names = [fresh("small") for _ in range(3)]
    s3.create_bucket(Bucket=names[0])
    s3.create_bucket(Bucket=names[1])
    refused(lambda: s3.create_bucket(Bucket=names[2]), "TooManyBuckets", 400)
    s3.put_object(Bucket=names[0], Key="a", Body=bytes(SMALL_BYTES - 1000))
    refused(lambda: s3.put_object(Bucket=names[1], Key="b", Body=bytes(1001)), "QuotaExceeded", 403)
    s3.put_object(Bucket=names[0], Key="a", Body=bytes(SMALL_BYTES))
    upload = s3.create_multipart_upload(Bucket=names[1], Key="b")["UploadId"]
    part = {"Bucket": names[1], "Key": "b", "UploadId": upload, "PartNumber": 1}
    refused(lambda: s3.upload_part(**part, Body=b"1"), "QuotaExceeded", 403)
    s3.delete_object(Bucket=names[0], Key="a")
    etag = s3.upload_part(**part, Body=bytes(SMALL_BYTES))["ETag"]
    refused(lambda: s3.put_object(Bucket=names[0], Key="a", Body=b"1"), "QuotaExceeded", 403)
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    s3.complete_multipart_upload(Bucket=names[1], Key="b", UploadId=upload, MultipartUpload=parts)
    s3.delete_object(Bucket=names[1], Key="b")
    s3.put_object(Bucket=names[0], Key="a", Body=bytes(SMALL_BYTES))


CONFIGURED: dict[str, tuple[str, str, Any, str]] = {
    "cors": (
        "CORSConfiguration", "CORSRules",
        [{"ID": "x", "AllowedMethods": ["GET"], "AllowedOrigins": ["https://*.org"], "AllowedHeaders": ["*"],
          "ExposeHeaders": ["ETag"], "MaxAgeSeconds": 5}],
        "NoSuchCORSConfiguration",
    ),
    "lifecycle_configuration": (
        "LifecycleConfiguration", "Rules",
        [{"ID": "a", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 3}},
         {"ID": "b", "Status": "Disabled", "Filter": {"And": {"Prefix": "x", "Tags": [{"Key": "t", "Value": "1"}]}},
          "NoncurrentVersionExpiration": {"NoncurrentDays": 4, "NewerNoncurrentVersions": 2},
          "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}}],
        "NoSuchLifecycleConfiguration",
    ),
    "tagging": ("Tagging", "TagSet", [{"Key": "team", "Value": "<a&b>"}], "NoSuchTagSet"),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGURED)
def test_what_is_configured_is_kept_and_dropped(s3: Any, bucket: str, name: str) -> None:
    outer, inner, value, absent = CONFIGURED[name]
    refused(lambda: getattr(s3, f"get_bucket_{name}")(Bucket=bucket), absent, 404)
    getattr(s3, f"put_bucket_{name}")(Bucket=bucket, **{outer: {inner: value}})
    assert getattr(s3, f"get_bucket_{name}")(Bucket=bucket)[inner] == value
    getattr(s3, f"delete_bucket_{name.removesuffix('_configuration')}")(Bucket=bucket)
    refused(lambda: getattr(s3, f"get_bucket_{name}")(Bucket=bucket), absent, 404)


def test_notifications(s3: Any, bucket: str) -> None:
    assert "QueueConfigurations" not in s3.get_bucket_notification_configuration(Bucket=bucket)
    rules = [{"Name": "prefix", "Value": "in/"}, {"Name": "suffix", "Value": ".png"}]
    wanted = {
        "QueueConfigurations": [
            {"Id": "q", "QueueArn": "arn:aws:sqs:us-east-1:1:uploads", "Events": ["s3:ObjectCreated:*"],
             "Filter": {"Key": {"FilterRules": rules}}},
        ],
        "LambdaFunctionConfigurations": [
            {"Id": "f", "LambdaFunctionArn": "arn:fuyun:function:::thumbnail:live", "Events": ["s3:ObjectRemoved:*"]},
        ],
    }  # fmt: skip
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=wanted)
    found = s3.get_bucket_notification_configuration(Bucket=bucket)
    assert {name: found[name] for name in wanted} == wanted
    for arn, events in (("nonsense", ["s3:ObjectCreated:*"]), ("arn:aws:sqs:::Q_Q", ["s3:ObjectCreated:*"]),
                        ("arn:aws:sqs:::q", ["s3:Replication:*"])):  # fmt: skip
        bad = {"QueueConfigurations": [{"QueueArn": arn, "Events": events}]}
        with pytest.raises(s3.exceptions.ClientError) as refusal:
            s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=bad)
        assert refusal.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_what_no_bucket_has_and_what_is_not_supported(s3: Any, bucket: str) -> None:
    refused(lambda: s3.get_bucket_policy(Bucket=bucket), "NoSuchBucketPolicy", 404)
    s3.delete_bucket_policy(Bucket=bucket)
    refused(lambda: s3.put_bucket_policy(Bucket=bucket, Policy="{}"), "NotImplemented", 501)
    refused(lambda: s3.get_bucket_encryption(Bucket=bucket), "ServerSideEncryptionConfigurationNotFoundError", 404)
    refused(lambda: s3.put_bucket_acl(Bucket=bucket, ACL="public-read"), "NotImplemented", 501)
    s3.put_bucket_acl(Bucket=bucket, ACL="private")
    assert s3.get_bucket_acl(Bucket=bucket)["Owner"]["ID"] == "acme"
    refused(lambda: s3.get_bucket_analytics_configuration(Bucket=bucket, Id="a"), "NotImplemented", 501)
    rule = {"Status": "Enabled", "Filter": {"Prefix": ""}, "Transitions": [{"Days": 1, "StorageClass": "GLACIER"}]}
    bare = {"Status": "Enabled", "Expiration": {"Days": 1}}
    refused(lambda: s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [bare]}),
            "MalformedXML", 400)  # fmt: skip
    refused(lambda: s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]}),
            "NotImplemented", 501)  # fmt: skip


def test_what_is_so_of_every_bucket(s3: Any, bucket: str) -> None:
    """Tools ask for it before they change anything."""
    assert "LoggingEnabled" not in s3.get_bucket_logging(Bucket=bucket)
    assert "Status" not in s3.get_bucket_accelerate_configuration(Bucket=bucket)
    assert s3.get_bucket_request_payment(Bucket=bucket)["Payer"] == "BucketOwner"
    owned = {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    assert s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"] == owned
    s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls=owned)
    others = {"Rules": [{"ObjectOwnership": "ObjectWriter"}]}
    refused(lambda: s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls=others), "NotImplemented", 501)
    refused(lambda: s3.delete_bucket_ownership_controls(Bucket=bucket), "NotImplemented", 501)
    refused(lambda: s3.get_bucket_logging(Bucket="none-such"), "NoSuchBucket", 404)
    refused(lambda: s3.get_bucket_ownership_controls(Bucket="none-such"), "NoSuchBucket", 404)


def test_errors_are_told_in_the_words_of_s3_and_say_what_was_found(
    served: Served, http: httpx.Client, bucket: str
) -> None:
    answer = http.send(signed(served, "GET", f"/{bucket}/none"))
    assert "<Message>The specified key does not exist.</Message>" in answer.text
    assert f"<Detail>there is no object 'none' in bucket '{bucket}'" in answer.text
    assert "<Key>none</Key>" in answer.text
    failed = http.send(signed(served, "PUT", f"/{bucket}/none", b"x", **{"if-match": '"0"'}))
    assert failed.status_code == 404
    assert http.send(signed(served, "PUT", f"/{bucket}/k", b"x")).status_code == 200
    failed = http.send(signed(served, "PUT", f"/{bucket}/k", b"x", **{"if-none-match": "*"}))
    assert "<Condition>If-None-Match</Condition>" in failed.text


def test_documents_that_are_no_documents(served: Served, http: httpx.Client, bucket: str) -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaa">]><Tagging><TagSet/></Tagging>'
    for body in (b"", b"no xml", bomb, b"<Other/>", b"<Tagging>" * 5000, b"\xff\xfe"):
        answer = http.send(signed(served, "PUT", f"/{bucket}?tagging", body))
        assert (answer.status_code, "MalformedXML" in answer.text) == (400, True), answer.text


def test_cross_origin(served: Served, http: httpx.Client, s3: Any, bucket: str) -> None:
    url = f"{served.url}/{bucket}/k"
    asking = {"origin": "https://a.org", "access-control-request-method": "PUT"}
    assert http.options(url, headers=asking).status_code == 403
    rule = {"AllowedMethods": ["PUT", "GET"], "AllowedOrigins": ["https://*.org"], "AllowedHeaders": ["x-*"],
            "MaxAgeSeconds": 60, "ExposeHeaders": ["ETag"]}  # fmt: skip
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})
    allowed = http.options(url, headers={**asking, "access-control-request-headers": "X-Abc"})
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "https://a.org"
    assert allowed.headers["access-control-allow-methods"] == "PUT, GET"
    assert allowed.headers["access-control-allow-headers"] == "x-abc"
    assert allowed.headers["access-control-max-age"] == "60"
    for bad in ({"origin": "https://a.com"}, {"access-control-request-method": "DELETE"},
                {"access-control-request-headers": "authorization"}):  # fmt: skip
        assert http.options(url, headers={**asking, **bad}).status_code == 403
    refusal = http.get(url, headers={"origin": "https://a.org"})
    assert (refusal.status_code, refusal.headers["access-control-expose-headers"]) == (403, "ETag")
    assert "access-control-allow-origin" not in http.get(url, headers={"origin": "https://a.com"}).headers


def test_websites(served: Served, http: httpx.Client, s3: Any, bucket: str) -> None:
    host = {"host": f"{bucket}.s3-website.localhost:{served.port}"}

    def page(path: str, **more: str) -> httpx.Response:
        return http.get(f"{served.url}{path}", headers={**host, **more})

    assert page("/").status_code == 404
    for key, body in (("index.html", "front"), ("docs/index.html", "docs"), ("error.html", "sorry"), ("a b", "x")):
        s3.put_object(Bucket=bucket, Key=key, Body=body.encode(), ContentType="text/html")
    assert http.get(f"{served.url}/{bucket}/index.html").status_code == 403, "only what is a website is open"
    routes = [{"Condition": {"KeyPrefixEquals": "old/"}, "Redirect": {"ReplaceKeyPrefixWith": "docs/"}}]
    site = {"IndexDocument": {"Suffix": "index.html"}, "ErrorDocument": {"Key": "error.html"}, "RoutingRules": routes}
    s3.put_bucket_website(Bucket=bucket, WebsiteConfiguration=site)
    found = s3.get_bucket_website(Bucket=bucket)
    assert found["RoutingRules"][0]["Condition"] == {"KeyPrefixEquals": "old/"}
    assert (page("/").text, page("/docs/").text, page("/a%20b").text) == ("front", "docs", "x")
    assert page("/").headers["content-type"] == "text/html"
    assert (page("/docs").status_code, page("/docs").headers["location"]) == (302, "/docs/")
    assert (page("/none").status_code, page("/none").text) == (404, "sorry")
    assert (page("/old/x").status_code, page("/old/x").headers["location"]) == (301, f"http://{host['host']}/docs/x")
    assert page("/", **{"if-none-match": page("/").headers["etag"]}).status_code == 304
    assert page("/", range="bytes=1-2").text == "ro"
    assert http.put(f"{served.url}/x", headers=host, content=b"x").status_code == 405
    everything = {"RedirectAllRequestsTo": {"HostName": "example.org", "Protocol": "https"}}
    s3.put_bucket_website(Bucket=bucket, WebsiteConfiguration=everything)
    assert page("/a/b").headers["location"] == "https://example.org/a/b"
    s3.delete_bucket_website(Bucket=bucket)
    assert page("/").status_code == 404


def test_buckets_named_by_host(served: Served, bucket: str) -> None:
    import boto3
    from botocore.config import Config

    key, secret = served.keys["acme"]
    config = Config(s3={"addressing_style": "virtual"}, signature_version="s3v4")
    s3 = boto3.client(
        "s3", endpoint_url=f"http://s3.localhost:{served.port}", aws_access_key_id=key,
        aws_secret_access_key=secret, region_name="us-east-1", config=config,
    )  # fmt: skip
    url = s3.generate_presigned_url("put_object", {"Bucket": bucket, "Key": "a/b"})
    assert f"//{bucket}.s3.localhost" in url
    with httpx.Client(trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)) as http:
        plain = url.replace(f"{bucket}.s3.localhost:{served.port}", f"127.0.0.1:{served.port}")
        headers = {"host": f"{bucket}.s3.localhost:{served.port}"}
        assert http.put(plain, headers=headers, content=b"1").status_code == 200
    s3.close()
    assert served.client().get_object(Bucket=bucket, Key="a/b")["Body"].read() == b"1"
