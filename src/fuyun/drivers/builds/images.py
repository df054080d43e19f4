"""OCI images, unpacked at their deployment by skopeo and umoci, which run in a sandbox as every build does.

skopeo(1) fetches one image of this machine's platform into an OCI layout, umoci(1) lays its layers over each other.
What `runtime/rootfs.py` finds in the result: the image's files in `root`, and `image.json`, what its configuration says
(OCI image specification 1.0, config.md).
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import tarfile
import zlib
from collections import deque
from pathlib import Path
from typing import Any

import msgspec

from fuyun.domain.errors import BuildFailed, HostUnable
from fuyun.domain.functions import Artifact
from fuyun.domain.images import is_local, is_plain, without_tag
from fuyun.drivers.builds import roots
from fuyun.drivers.builds.flights import Progress
from fuyun.drivers.builds.rooms import Room, finish
from fuyun.drivers.builds.workshop import Workshop
from fuyun.ports.blobs import BlobStore
from fuyun.ports.builds import Sandboxed
from fuyun.runtime.rootfs import FACTS, ROOT

TIMEOUT_S = 900.0
#: An unpacked image at most.
LARGEST_BYTES = 4 * 2**30
_TOOLS = ("skopeo", "umoci")
_NAME = "image"
#: Names of machines as GOARCH has them, which images use.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
#: How compressed files begin: RFC 1952, bzip2, "The .xz File Format".
_PACKERS = ((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz"))
#: What tools say -> what is wrong and what to do.
_SAID = (
    ("manifest unknown", "the registry has no such image", "check its name and tag"),
    ("name unknown", "the registry has no such image", "check its name and tag"),
    ("repository not found", "the registry has no such image", "check its name and tag"),
    ("no image found in", "it has no image for this machine", "build it for this machine's platform"),
    ("unauthorized", "the registry wants a login", "pull it to an archive (skopeo copy), and deploy that"),
    ("requested access to the resource is denied", "the registry wants a login or has no such image",
     "check its name, or pull it to an archive (skopeo copy), and deploy that"),
    ("connection refused", "the registry cannot be reached", "check its host and port"),
    ("no such host", "the registry cannot be reached", "check its host and port"),
    ("more than one image", "it holds several images", "copy one of them to a folder of its own (skopeo copy)"),
)  # fmt: skip


class ImageBuilder:
    """Implements `ports.builds.ImageUnpacker`. `work` is on the file system of the blob store."""

    def __init__(self, blobs: BlobStore, run: Sandboxed, work: Path) -> None:
        self._blobs = blobs
        self._run = run
        self._shop = Workshop("images", blobs, work)
        self.close = self._shop.close

    async def unpack(self, code: Artifact, image: str, progress: Progress) -> Artifact:
        """See `ports.builds.ImageUnpacker`."""
        missing = [tool for tool in _TOOLS if shutil.which(tool, path="/usr/bin:/bin:/usr/local/bin") is None]
        if missing:
            raise HostUnable(
                f"this host has no {' and no '.join(missing)}, which runtime image needs",
                hint=f"install them (on Debian: apt install {' '.join(missing)})",
                feature="image",
            )
        tree: Path | None = None
        if is_local(image):
            tree = self._blobs.path(code.digest)
            source = await asyncio.to_thread(_local_source, tree)
            key = f"image {code.digest} {_architecture()}"
        else:
            source = f"docker://{without_tag(image)}"
            progress(f"asking for {image}")
            key = f"image {await self._digest(source, image)} {_architecture()}"
        return await self._shop.kept(key, lambda tell: self._make(source, tree, image, key, tell), progress)

    async def _digest(self, source: str, image: str) -> str:
        """The digest of the manifest that a reference names today."""
        async with self._shop.room() as room:
            said = await self._call(
                room, ["skopeo", "inspect", *_tls(image, "--tls-verify"), "--no-tags", *_PLATFORM, "--format",
                       "{{.Digest}}", source], image, None,
            )  # fmt: skip
        return said[-1] if said else ""

    async def _make(self, source: str, tree: Path | None, image: str, key: str, tell: Progress) -> Artifact:
        async with self._shop.room() as room:
            tell(f"fetching {image}")
            layout = room.scratch / "layout"
            kind, _, path = source.partition(":")
            packer = await asyncio.to_thread(_packer, Path(path)) if kind.endswith("-archive") else ""
            if packer:  # skopeo 1.9 reads plain archives only
                plain = str(room.scratch / "plain.tar")
                await self._call(room, ["sh", "-c", f'{packer} -dc "$0" >"$1"', path, plain], image, tree)
                source, tree = f"{kind}:{plain}", room.scratch
            fetch = [
                "skopeo",
                "--tmpdir",
                str(room.scratch),
                "copy",
                "--insecure-policy",
                "--quiet",
                *_PLATFORM,
                *_tls(image, "--src-tls-verify"),
            ]
            await self._call(room, [*fetch, source, f"oci:{layout}:{_NAME}"], image, tree)
            found = await asyncio.to_thread(_read_config, layout)
            _check_platform(found, image)
            tell("unpacking its layers")
            unpack = ["umoci", "raw", "unpack", "--rootless", "--image", f"{layout}:{_NAME}", str(room.out / ROOT)]
            await self._call(room, unpack, image, room.scratch)
            facts = await asyncio.to_thread(_finish, room, found)
            tell(f"image: {' '.join(facts['argv']) or 'no command'}, {len(facts['env'])} variables, in {facts['cwd']}")
            return await self._blobs.adopt(room.out, key)

    async def _call(self, room: Room, argv: list[str], image: str, source: Path | None) -> list[str]:
        """Run a tool that reads `source`, or with None what is in the network; the last lines of what it said.
        BuildFailed."""
        lines: deque[str] = deque(maxlen=40)
        scratch = str(room.scratch)
        try:
            status = await self._run(
                ["/usr/bin/env", *argv],
                ro=[str(source)] if source is not None else [],
                rw=[scratch, str(room.out)],
                env={"PATH": "/usr/bin:/bin:/usr/local/bin", "HOME": scratch, "TMPDIR": scratch,
                     "XDG_RUNTIME_DIR": scratch, "LC_ALL": "C.UTF-8"},
                cwd=scratch,
                network=source is None,
                timeout_s=TIMEOUT_S,
                output=lines.append,
            )  # fmt: skip
        except TimeoutError:
            raise BuildFailed(
                f"{image}: it took longer than {TIMEOUT_S:g} s", hint="use a smaller one", log=[]
            ) from None
        if status != 0:
            said = "\n".join(lines)
            for text, wrong, todo in _SAID:
                if text in said.lower():
                    raise BuildFailed(f"image {image}: {wrong}", hint=todo, log=list(lines))
            last = lines[-1][:300] if lines else f"status {status}"
            raise BuildFailed(f"image {image}: {argv[0]} failed: {last}", hint="see the log", log=list(lines))
        return list(lines)


def _architecture() -> str:
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


_PLATFORM = ("--override-os", "linux", "--override-arch", _architecture())


def _packer(archive: Path) -> str:
    """The program that packed an archive, "" for none."""
    with archive.open("rb") as file:
        first = file.read(6)
    return next((name for magic, name in _PACKERS if first.startswith(magic)), "")


def _tls(image: str, option: str) -> list[str]:
    return [f"{option}=false"] if not is_local(image) and is_plain(image) else []


def _local_source(tree: Path) -> str:
    """What skopeo calls the image in uploaded code: a layout, or the only file, an archive. BuildFailed."""
    if (tree / "oci-layout").is_file():
        return f"oci:{tree}"
    files = sorted(path for path in tree.rglob("*") if path.is_file())
    if len(files) != 1:
        found = ", ".join(str(path.relative_to(tree)) for path in files[:6]) or "nothing"
        raise BuildFailed(
            f"the folder is no OCI layout: it has no oci-layout, it holds {found}",
            hint="write one with skopeo copy ... oci:FOLDER:latest, or name an archive", log=[],
        )  # fmt: skip
    try:
        with tarfile.open(files[0]) as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if name in ("oci-layout", "index.json"):
                    return f"oci-archive:{files[0]}"
                if name in ("manifest.json", "repositories"):
                    return f"docker-archive:{files[0]}"
    except (tarfile.TarError, OSError, EOFError, zlib.error) as exc:
        raise BuildFailed(
            f"{files[0].name} is no tar archive: {exc}", hint="write one with docker save or skopeo copy", log=[]
        ) from exc
    raise BuildFailed(
        f"{files[0].name} is no image: it holds neither oci-layout nor manifest.json",
        hint="write one with docker save, or skopeo copy ... oci-archive:FILE:latest", log=[],
    )  # fmt: skip


class _Inner(msgspec.Struct, rename="pascal"):
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    env: list[str] | None = None
    working_dir: str = ""
    user: str = ""


class Config(msgspec.Struct):
    """The part of an image's configuration that counts here."""

    architecture: str = ""
    os: str = ""
    config: _Inner | None = None


class _Descriptor(msgspec.Struct):
    digest: str


class _Index(msgspec.Struct):
    manifests: list[_Descriptor]


class _Manifest(msgspec.Struct):
    config: _Descriptor


def _read_config(layout: Path) -> Config:
    """The configuration of the only image in a layout. BuildFailed."""
    try:
        index = msgspec.json.decode(roots.read(layout, "index.json"), type=_Index)
        manifest = msgspec.json.decode(roots.read(layout, _blob(index.manifests[0])), type=_Manifest)
        return msgspec.json.decode(roots.read(layout, _blob(manifest.config)), type=Config)
    except (msgspec.MsgspecError, OSError, ValueError, IndexError) as exc:
        raise BuildFailed(f"the image cannot be read: {exc}", hint="check it with skopeo inspect", log=[]) from exc


def _blob(descriptor: _Descriptor) -> str:
    kind, _, digest = descriptor.digest.partition(":")
    if not (kind.isalnum() and digest.isalnum()):
        raise ValueError(f"{descriptor.digest[:80]!r} is no digest")
    return f"blobs/{kind}/{digest}"


def _check_platform(found: Config, image: str) -> None:
    wanted = ("linux", _architecture())
    if (found.os or "linux", found.architecture or wanted[1]) != wanted:
        raise BuildFailed(
            f"image {image} is for {found.os}/{found.architecture}, this machine is {'/'.join(wanted)}",
            hint=f"build it with --platform {'/'.join(wanted)}",
            log=[],
        )


def _finish(room: Room, found: Config) -> dict[str, Any]:
    """Make the unpacked root what instances can mount, and write down what the configuration says. Blocking."""
    root = room.out / ROOT
    roots.clean(root)
    finish(room.out, LARGEST_BYTES)
    roots.furnish(root)
    inner = found.config or _Inner()
    uid, gid = roots.user_of(root, inner.user)
    env = dict(item.split("=", 1) for item in inner.env or [] if "=" in item and "\0" not in item)
    facts = {
        "argv": [*(inner.entrypoint or []), *(inner.cmd or [])],
        "env": {name: value for name, value in env.items() if name and not name.startswith("FUYUN_")},
        "cwd": roots.folder_in(root, inner.working_dir or "/"),
        "uid": uid,
        "gid": gid,
    }
    (room.out / FACTS).write_bytes(msgspec.json.encode(facts))
    os.chmod(room.out, 0o755)
    return facts
