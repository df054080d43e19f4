"""s3fs: S3 as a file system of fsspec."""

import s3fs
from walking import BUCKET, LARGE_BYTES, ODD, PLACE, URL, digest, fetch, large, same, step, version, write

fs = s3fs.S3FileSystem(endpoint_url=URL, default_cache_type="none", use_listings_cache=False)
version(f"s3fs {s3fs.__version__}")


@step("create a bucket")
def _():
    fs.mkdir(BUCKET)
    same(fs.exists(BUCKET), True)


@step("put and get")
def _():
    with fs.open(f"{BUCKET}/{ODD}", "wb", ContentType="text/plain") as file:
        file.write(b"schnee")
    same(fs.cat_file(f"{BUCKET}/{ODD}"), b"schnee")
    fs.setxattr(f"{BUCKET}/{ODD}", who="me")
    same(fs.metadata(f"{BUCKET}/{ODD}"), {"who": "me"})


@step("get a range")
def _():
    same(fs.cat_file(f"{BUCKET}/{ODD}", start=1, end=3), b"ch")
    with fs.open(f"{BUCKET}/{ODD}") as file:
        file.seek(-2, 2)
        same(file.read(), b"ee")


@step("upload in parts")
def _():
    fs.put_file(str(large()), f"{BUCKET}/large.bin", chunksize=8 * 2**20)
    same(fs.info(f"{BUCKET}/large.bin")["size"], LARGE_BYTES)
    fs.get_file(f"{BUCKET}/large.bin", str(PLACE / "back.bin"))
    same(digest(PLACE / "back.bin"), digest(large()))
    with fs.open(f"{BUCKET}/written.bin", "wb", block_size=6 * 2**20) as file:
        file.write(large().read_bytes())
    same(fs.info(f"{BUCKET}/written.bin")["size"], LARGE_BYTES)


@step("list")
def _():
    same(sorted(fs.ls(BUCKET)), sorted(f"{BUCKET}/{name}" for name in ("large.bin", "odd", "written.bin")))
    same(fs.find(f"{BUCKET}/odd"), [f"{BUCKET}/{ODD}"])
    same(fs.glob(f"{BUCKET}/*.bin"), [f"{BUCKET}/large.bin", f"{BUCKET}/written.bin"])


@step("copy")
def _():
    fs.copy(f"{BUCKET}/large.bin", f"{BUCKET}/copy.bin")
    fs.mv(f"{BUCKET}/copy.bin", f"{BUCKET}/moved.bin")
    same((fs.exists(f"{BUCKET}/copy.bin"), fs.size(f"{BUCKET}/moved.bin")), (False, LARGE_BYTES))


@step("presign")
def _():
    same(fetch(fs.sign(f"{BUCKET}/{ODD}", expiration=600)), b"schnee")


@step("sync")
def _():
    for name in ("a.txt", "sub/b.txt", "sub/ü c.txt"):
        write(f"tree/{name}", name.encode())
    fs.put(f"{PLACE}/tree", f"{BUCKET}/tree", recursive=True)
    fs.get(f"{BUCKET}/tree", f"{PLACE}/again", recursive=True)
    same(sorted(path.name for path in (PLACE / "again").rglob("*.txt")), ["a.txt", "b.txt", "ü c.txt"])
    return "folders up and down"


@step("delete")
def _():
    fs.rm(BUCKET, recursive=True)
    same(fs.exists(BUCKET), False)
