"""DuckDB with its extension httpfs, which a package brings: nothing is downloaded when it is loaded."""

from pathlib import Path

import boto3
import duckdb
import duckdb_extension_httpfs
from walking import BUCKET, KEY, LARGE_BYTES, SECRET, URL, same, step, version

db = duckdb.connect()
s3 = boto3.client("s3")


@step("load httpfs")
def _():
    (extension,) = Path(duckdb_extension_httpfs.__file__).parent.rglob("httpfs.duckdb_extension")
    db.execute(f"load '{extension}'")
    db.execute(
        f"create secret (type s3, key_id '{KEY}', secret '{SECRET}', endpoint '{URL.partition('://')[2]}',"
        " url_style 'path', use_ssl false, region 'us-east-1')"
    )


version(f"duckdb {duckdb.__version__}")
s3.create_bucket(Bucket=BUCKET)


@step("put and get")
def _():
    db.execute(f"copy (select range n, 'snö' || range word from range(1000)) to 's3://{BUCKET}/odd/a b+ü.csv'")
    same(db.execute(f"select count(*), max(word) from 's3://{BUCKET}/odd/a b+ü.csv'").fetchone(), (1000, "snö999"))


@step("get a range")
def _():
    db.execute(f"copy (select range n, range % 7 word from range(1000000)) to 's3://{BUCKET}/one.parquet'")
    same(db.execute(f"select sum(word) from 's3://{BUCKET}/one.parquet' where n < 7").fetchone(), (21,))
    return "columns and row groups of a Parquet file"


@step("upload in parts")
def _():
    db.execute(f"copy (select range n, md5(range::text) word from range(1500000)) to 's3://{BUCKET}/large.csv'")
    size = s3.head_object(Bucket=BUCKET, Key="large.csv")["ContentLength"]
    same(size > LARGE_BYTES, True)
    same(db.execute(f"select count(*) from 's3://{BUCKET}/large.csv'").fetchone(), (1500000,))


@step("list")
def _():
    db.execute(
        f"copy (select range n, range % 5 part from range(1000)) to 's3://{BUCKET}/set' (format parquet,"
        " partition_by (part))"
    )
    found = db.execute(f"select count(*) from glob('s3://{BUCKET}/set/*/*.parquet')").fetchone()
    same(found, (5,))
    same(db.execute(f"select sum(n) from 's3://{BUCKET}/set/*/*.parquet' where part = 3").fetchone(), (100100,))


@step("delete")
def _():
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": one["Key"]} for one in page["Contents"]]})
    s3.delete_bucket(Bucket=BUCKET)
    return "by boto3: it has no command for it"
