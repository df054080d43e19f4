"""s3cmd."""

import sys
from pathlib import Path

from walking import (
    BUCKET,
    KEY,
    LARGE_BYTES,
    ODD,
    PLACE,
    SECRET,
    URL,
    command,
    digest,
    fetch,
    large,
    same,
    step,
    version,
    write,
)

HOST = URL.partition("://")[2]
CONFIG = write(
    "s3cfg",
    f"[default]\naccess_key = {KEY}\nsecret_key = {SECRET}\nhost_base = {HOST}\nhost_bucket = {HOST}\n"
    "use_https = False\nbucket_location = us-east-1\n".encode(),
)


def s3cmd(*words):
    return command(str(Path(sys.executable).with_name("s3cmd")), "-c", str(CONFIG), *words)


version(s3cmd("--version").strip().replace(" version", ""))


@step("create a bucket")
def _():
    s3cmd("mb", f"s3://{BUCKET}")
    same(f"s3://{BUCKET}" in s3cmd("ls"), True)


@step("put and get")
def _():
    s3cmd("put", str(write("small.txt", b"schnee")), f"s3://{BUCKET}/{ODD}", "--add-header=x-amz-meta-who:me")
    s3cmd("get", f"s3://{BUCKET}/{ODD}", "back.txt", "--force")
    same((PLACE / "back.txt").read_bytes(), b"schnee")
    same("x-amz-meta-who: me" in s3cmd("info", f"s3://{BUCKET}/{ODD}"), True)


@step("get a range")
def _():
    write("half.txt", b"sch")
    s3cmd("get", f"s3://{BUCKET}/{ODD}", "half.txt", "--continue")
    same((PLACE / "half.txt").read_bytes(), b"schnee")
    return "a download that goes on where it ended"


@step("upload in parts")
def _():
    s3cmd("put", str(large()), f"s3://{BUCKET}/large.bin")
    same(str(LARGE_BYTES) in s3cmd("ls", f"s3://{BUCKET}/large.bin"), True)
    s3cmd("get", f"s3://{BUCKET}/large.bin", "back.bin", "--force")
    same(digest(PLACE / "back.bin"), digest(large()))


@step("list")
def _():
    listed = s3cmd("ls", f"s3://{BUCKET}/")
    same(("large.bin" in listed, f"s3://{BUCKET}/odd/" in listed), (True, True))
    same(ODD in s3cmd("la", "--recursive"), True)


@step("copy")
def _():
    s3cmd("cp", f"s3://{BUCKET}/large.bin", f"s3://{BUCKET}/copy.bin")
    s3cmd("mv", f"s3://{BUCKET}/copy.bin", f"s3://{BUCKET}/moved.bin")
    same("moved.bin" in s3cmd("ls", f"s3://{BUCKET}/"), True)


@step("presign")
def _():
    same(fetch(s3cmd("signurl", f"s3://{BUCKET}/{ODD}", "+600").strip()), b"schnee")
    return "Signature Version 2"


@step("sync")
def _():
    for name in ("a.txt", "sub/b.txt", "sub/ü c.txt"):
        write(f"tree/{name}", name.encode())
    s3cmd("sync", "tree/", f"s3://{BUCKET}/tree/")
    (PLACE / "tree/a.txt").unlink()
    write("tree/sub/b.txt", b"changed")
    s3cmd("sync", "tree/", f"s3://{BUCKET}/tree/", "--delete-removed")
    (PLACE / "again").mkdir()
    s3cmd("sync", f"s3://{BUCKET}/tree/", "again/")
    same(sorted(path.name for path in (PLACE / "again").rglob("*.txt")), ["b.txt", "ü c.txt"])
    same((PLACE / "again/sub/b.txt").read_bytes(), b"changed")


@step("delete")
def _():
    s3cmd("del", "--recursive", "--force", f"s3://{BUCKET}/")
    s3cmd("rb", f"s3://{BUCKET}")
