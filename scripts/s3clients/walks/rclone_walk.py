"""rclone."""

import json
import os

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

ENV = {
    "RCLONE_CONFIG_F_TYPE": "s3", "RCLONE_CONFIG_F_PROVIDER": "Other", "RCLONE_CONFIG_F_ENDPOINT": URL,
    "RCLONE_CONFIG_F_ACCESS_KEY_ID": KEY, "RCLONE_CONFIG_F_SECRET_ACCESS_KEY": SECRET,
    "RCLONE_CONFIG_F_UPLOAD_CUTOFF": "16M", "RCLONE_CONFIG_F_REGION": "us-east-1", "RCLONE_CONFIG": str(PLACE / "none"),
}  # fmt: skip


def rclone(*words):
    return command(os.environ["RCLONE"], *words, env=ENV)


version(rclone("version").splitlines()[0].replace(" v", " "))


@step("create a bucket")
def _():
    rclone("mkdir", f"f:{BUCKET}")
    same(BUCKET in rclone("lsd", "f:"), True)


@step("put and get")
def _():
    write("small.txt", b"schnee")
    rclone("copyto", "small.txt", f"f:{BUCKET}/{ODD}")
    same(rclone("cat", f"f:{BUCKET}/{ODD}"), "schnee")


@step("get a range")
def _():
    same(rclone("cat", "--offset", "1", "--count", "2", f"f:{BUCKET}/{ODD}"), "ch")


@step("upload in parts")
def _():
    rclone("copyto", str(large()), f"f:{BUCKET}/large.bin")
    rclone("copyto", f"f:{BUCKET}/large.bin", "back.bin")
    same(digest(PLACE / "back.bin"), digest(large()))


@step("list")
def _():
    found = {one["Path"]: one["Size"] for one in json.loads(rclone("lsjson", "-R", "--files-only", f"f:{BUCKET}"))}
    same(found, {ODD: 6, "large.bin": LARGE_BYTES})
    same("odd" in rclone("lsd", f"f:{BUCKET}"), True)


@step("copy")
def _():
    rclone("copyto", f"f:{BUCKET}/large.bin", f"f:{BUCKET}/copy.bin")
    rclone("moveto", f"f:{BUCKET}/copy.bin", f"f:{BUCKET}/moved.bin")
    same("moved.bin" in rclone("ls", f"f:{BUCKET}"), True)


@step("presign")
def _():
    same(fetch(rclone("link", f"f:{BUCKET}/{ODD}").strip()), b"schnee")


@step("sync")
def _():
    for name in ("a.txt", "sub/b.txt", "sub/ü c.txt"):
        write(f"tree/{name}", name.encode())
    rclone("sync", "tree", f"f:{BUCKET}/tree")
    (PLACE / "tree/a.txt").unlink()
    write("tree/sub/b.txt", b"changed")
    rclone("sync", "tree", f"f:{BUCKET}/tree")
    rclone("check", "tree", f"f:{BUCKET}/tree")
    rclone("sync", f"f:{BUCKET}/tree", "again")
    same(sorted(path.name for path in (PLACE / "again").rglob("*.txt")), ["b.txt", "ü c.txt"])


@step("delete")
def _():
    rclone("purge", f"f:{BUCKET}")
    same(BUCKET in rclone("lsd", "f:"), False)
