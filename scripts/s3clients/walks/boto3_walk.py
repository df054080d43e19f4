"""boto3, as it comes."""

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from walking import BUCKET, LARGE_BYTES, ODD, PLACE, digest, fetch, large, same, step, version

s3 = boto3.client("s3")
version(f"boto3 {boto3.__version__}")


@step("create a bucket")
def _():
    s3.create_bucket(Bucket=BUCKET)
    same(BUCKET in [one["Name"] for one in s3.list_buckets()["Buckets"]], True)


@step("put and get")
def _():
    s3.put_object(Bucket=BUCKET, Key=ODD, Body=b"schnee", ContentType="text/plain", Metadata={"who": "me"})
    found = s3.get_object(Bucket=BUCKET, Key=ODD)
    same((found["Body"].read(), found["ContentType"], found["Metadata"]), (b"schnee", "text/plain", {"who": "me"}))


@step("get a range")
def _():
    same(s3.get_object(Bucket=BUCKET, Key=ODD, Range="bytes=1-2")["Body"].read(), b"ch")


@step("upload in parts")
def _():
    s3.upload_file(str(large()), BUCKET, "large.bin")
    found = s3.head_object(Bucket=BUCKET, Key="large.bin")
    same((found["ContentLength"], "-" in found["ETag"]), (LARGE_BYTES, True))
    s3.download_file(BUCKET, "large.bin", str(PLACE / "back.bin"))
    same(digest(PLACE / "back.bin"), digest(large()))


@step("list")
def _():
    for number in range(12):
        s3.put_object(Bucket=BUCKET, Key=f"many/{number:02}/x", Body=b"")
    pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, PaginationConfig={"PageSize": 5}))
    same(len(pages), 3)
    same(ODD in [one["Key"] for page in pages for one in page["Contents"]], True)
    found = s3.list_objects_v2(Bucket=BUCKET, Prefix="many/", Delimiter="/")
    same(len(found["CommonPrefixes"]), 12)


@step("copy")
def _():
    s3.copy({"Bucket": BUCKET, "Key": "large.bin"}, BUCKET, "copy.bin")
    same(s3.head_object(Bucket=BUCKET, Key="copy.bin")["ContentLength"], LARGE_BYTES)
    s3.copy_object(Bucket=BUCKET, Key="odd copy", CopySource={"Bucket": BUCKET, "Key": ODD})
    same(s3.head_object(Bucket=BUCKET, Key="odd copy")["Metadata"], {"who": "me"})


@step("presign")
def _():
    same(fetch(s3.generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": ODD})), b"schnee")
    newer = boto3.client("s3", config=Config(signature_version="s3v4"))
    same(fetch(newer.generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": ODD})), b"schnee")
    return "Signature Versions 2 (its default) and 4"


@step("conditions")
def _():
    try:
        s3.put_object(Bucket=BUCKET, Key=ODD, Body=b"x", IfNoneMatch="*")
    except ClientError as error:
        same(error.response["Error"]["Code"], "PreconditionFailed")
    else:
        raise AssertionError("it was written")


@step("delete")
def _():
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        keys = [{"Key": one["Key"]} for one in page["Contents"]]
        same("Errors" in s3.delete_objects(Bucket=BUCKET, Delete={"Objects": keys}), False)
    s3.delete_bucket(Bucket=BUCKET)
