"""The command line of AWS."""

import json
import sys
from pathlib import Path

from walking import BUCKET, LARGE_BYTES, ODD, PLACE, command, digest, fetch, large, same, step, version, write

AWS = str(Path(sys.executable).with_name("aws"))


def aws(*words):
    return command(AWS, *words)


version(aws("--version").split()[0].replace("/", " "))


@step("create a bucket")
def _():
    aws("s3", "mb", f"s3://{BUCKET}")
    same(BUCKET in aws("s3", "ls"), True)


@step("put and get")
def _():
    aws("s3", "cp", str(write("small.txt", b"schnee")), f"s3://{BUCKET}/{ODD}", "--metadata", "who=me")
    aws("s3", "cp", f"s3://{BUCKET}/{ODD}", "back.txt")
    same((PLACE / "back.txt").read_bytes(), b"schnee")
    found = json.loads(aws("s3api", "head-object", "--bucket", BUCKET, "--key", ODD))
    same((found["ContentType"], found["Metadata"]), ("text/plain", {"who": "me"}))


@step("get a range")
def _():
    aws("s3api", "get-object", "--bucket", BUCKET, "--key", ODD, "--range", "bytes=1-2", "part.txt")
    same((PLACE / "part.txt").read_bytes(), b"ch")


@step("upload in parts")
def _():
    aws("s3", "cp", str(large()), f"s3://{BUCKET}/large.bin")
    found = json.loads(aws("s3api", "head-object", "--bucket", BUCKET, "--key", "large.bin"))
    same((found["ContentLength"], "-" in found["ETag"]), (LARGE_BYTES, True))
    aws("s3", "cp", f"s3://{BUCKET}/large.bin", "back.bin")
    same(digest(PLACE / "back.bin"), digest(large()))


@step("list")
def _():
    listed = aws("s3", "ls", f"s3://{BUCKET}/")
    same(("large.bin" in listed, "PRE odd/" in listed), (True, True))
    found = json.loads(aws("s3api", "list-objects-v2", "--bucket", BUCKET, "--page-size", "1"))
    same(sorted(one["Key"] for one in found["Contents"]), sorted([ODD, "large.bin"]))


@step("copy")
def _():
    aws("s3", "cp", f"s3://{BUCKET}/large.bin", f"s3://{BUCKET}/copy.bin")
    aws("s3", "mv", f"s3://{BUCKET}/copy.bin", f"s3://{BUCKET}/moved.bin")
    listed = aws("s3", "ls", f"s3://{BUCKET}/")
    same(("copy.bin" in listed, "moved.bin" in listed), (False, True))


@step("presign")
def _():
    same(fetch(aws("s3", "presign", f"s3://{BUCKET}/{ODD}").strip()), b"schnee")


@step("sync")
def _():
    for name in ("a.txt", "sub/b.txt", "sub/ü c.txt"):
        write(f"tree/{name}", name.encode())
    aws("s3", "sync", "tree", f"s3://{BUCKET}/tree")
    (PLACE / "tree/a.txt").unlink()
    write("tree/sub/b.txt", b"changed")
    done = aws("s3", "sync", "tree", f"s3://{BUCKET}/tree", "--delete")
    same(len([line for line in done.splitlines() if "upload:" in line or "delete:" in line]), 2)
    aws("s3", "sync", f"s3://{BUCKET}/tree", "again")
    same(sorted(path.name for path in (PLACE / "again").rglob("*.txt")), ["b.txt", "ü c.txt"])
    same((PLACE / "again/sub/b.txt").read_bytes(), b"changed")


@step("delete")
def _():
    aws("s3", "rm", f"s3://{BUCKET}/", "--recursive")
    aws("s3", "rb", f"s3://{BUCKET}")
    same(BUCKET in aws("s3", "ls"), False)
