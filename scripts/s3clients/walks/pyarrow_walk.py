"""pyarrow: S3 by AWS's library for C++, and data sets of Parquet files."""

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs as arrow_fs
from walking import BUCKET, KEY, LARGE_BYTES, ODD, SECRET, URL, large, same, step, version

fs = arrow_fs.S3FileSystem(
    access_key=KEY, secret_key=SECRET, endpoint_override=URL.partition("://")[2], scheme="http", region="us-east-1",
    allow_bucket_creation=True, allow_bucket_deletion=True,
)  # fmt: skip
version(f"pyarrow {pa.__version__}")
TABLE = pa.table({"n": list(range(100_000)), "word": [f"w{number % 7}" for number in range(100_000)]})


@step("create a bucket")
def _():
    fs.create_dir(BUCKET)
    same(fs.get_file_info(BUCKET).type, arrow_fs.FileType.Directory)


@step("put and get")
def _():
    with fs.open_output_stream(f"{BUCKET}/{ODD}", metadata={"Content-Type": "text/plain"}) as file:
        file.write(b"schnee")
    with fs.open_input_stream(f"{BUCKET}/{ODD}") as file:
        same(file.read(), b"schnee")


@step("get a range")
def _():
    with fs.open_input_file(f"{BUCKET}/{ODD}") as file:
        same(file.read_at(2, 1), b"ch")


@step("upload in parts")
def _():
    with fs.open_output_stream(f"{BUCKET}/large.bin") as file:
        file.write(large().read_bytes())
    same(fs.get_file_info(f"{BUCKET}/large.bin").size, LARGE_BYTES)


@step("list")
def _():
    found = fs.get_file_info(arrow_fs.FileSelector(BUCKET, recursive=True))
    same(sorted(one.path for one in found if one.is_file), sorted([f"{BUCKET}/{ODD}", f"{BUCKET}/large.bin"]))


@step("copy")
def _():
    fs.copy_file(f"{BUCKET}/{ODD}", f"{BUCKET}/copy.txt")
    fs.move(f"{BUCKET}/copy.txt", f"{BUCKET}/moved.txt")
    same(fs.get_file_info(f"{BUCKET}/moved.txt").size, 6)


@step("Parquet")
def _():
    pq.write_to_dataset(TABLE, f"{BUCKET}/set", partition_cols=["word"], filesystem=fs)
    found = ds.dataset(f"{BUCKET}/set", filesystem=fs, partitioning="hive")
    same(found.count_rows(filter=ds.field("word") == "w3"), sum(number % 7 == 3 for number in range(100_000)))
    return "a data set in partitions, written and asked"


@step("delete")
def _():
    fs.delete_file(f"{BUCKET}/{ODD}")
    fs.delete_dir(f"{BUCKET}/set")
    fs.delete_dir_contents(BUCKET)
    fs.delete_dir(BUCKET)
