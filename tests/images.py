"""Small OCI images, made by the tests themselves from Debian's static busybox."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import tarfile
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
BUSYBOX = Path("/bin/busybox")
_APPLETS = (
    "cat",
    "env",
    "expr",
    "httpd",
    "id",
    "ls",
    "mkdir",
    "nc",
    "pwd",
    "sed",
    "sh",
    "sleep",
    "test",
    "touch",
    "tr",
    "wget",
)
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
_CONFIG, _LAYER = "application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip"

#: A file's bytes; a link's target as text.
Files = Mapping[str, bytes | str]


def busybox() -> dict[str, bytes | str]:
    """The files of a system in which there is busybox and nothing else."""
    return {"bin/busybox": BUSYBOX.read_bytes(), **{f"bin/{name}": "/bin/busybox" for name in _APPLETS}}


def layer(files: Files, owner: int = 0) -> bytes:
    """A tar of `files`; scripts and programs are executable, whoever they belong to alone may read the rest."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in sorted(files.items()):
            info = tarfile.TarInfo(name)
            info.uid = info.gid = owner
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
                continue
            info.size = len(content)
            info.mode = 0o4755 if content.startswith((b"#!", b"\x7fELF")) else 0o600
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Image:
    """One image: its `blobs` by digest, its `manifest`."""

    def __init__(self, layers: list[bytes], architecture: str = ARCHITECTURE, **config: Any) -> None:
        packed = [gzip.compress(each, 1, mtime=0) for each in layers]
        self.layers = layers
        self.packed = [digest(each) for each in packed]
        self.config = json.dumps(
            {
                "architecture": architecture,
                "os": "linux",
                "config": config,
                "rootfs": {"type": "layers", "diff_ids": [digest(each) for each in layers]},
                "history": [{"created_by": "a test"} for _ in layers],
            }
        ).encode()
        self.manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": _described(self.config, _CONFIG),
                "layers": [_described(each, _LAYER) for each in packed],
            }
        ).encode()
        self.blobs = {digest(each): each for each in (*packed, self.config)}

    def layout(self) -> dict[str, bytes]:
        """The files of an OCI layout."""
        index = {"schemaVersion": 2, "manifests": [_described(self.manifest, MANIFEST)]}
        blobs = {**self.blobs, digest(self.manifest): self.manifest}
        return {
            "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
            "index.json": json.dumps(index).encode(),
            **{f"blobs/{name.replace(':', '/')}": data for name, data in blobs.items()},
        }

    def oci_archive(self) -> bytes:
        """The same as one tar."""
        return layer(self.layout())

    def docker_archive(self) -> bytes:
        """What `docker save` writes."""
        names = [f"{number}/layer.tar" for number in range(len(self.layers))]
        told = [{"Config": "config.json", "RepoTags": ["test:latest"], "Layers": names}]
        return layer(
            {
                "manifest.json": json.dumps(told).encode(),
                "config.json": self.config,
                **dict(zip(names, self.layers, strict=True)),
            }
        )


def _described(data: bytes, kind: str) -> dict[str, Any]:
    return {"mediaType": kind, "digest": digest(data), "size": len(data)}


class Registry:
    """A registry on loopback with one repository, `site`: what the distribution specification (1.0) asks of one that
    is only read. `tags` are manifests by tag; `asked` are the paths it was asked for."""

    def __init__(self, blobs: Mapping[str, bytes], tags: Mapping[str, tuple[str, bytes]]) -> None:
        self.asked: list[str] = []
        known = {f"/v2/site/blobs/{name}": ("application/octet-stream", data) for name, data in blobs.items()}
        for tag, (kind, data) in tags.items():
            known |= {f"/v2/site/manifests/{name}": (kind, data) for name in (tag, digest(data))}
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                registry.asked.append(self.path)
                status, (kind, body) = 200, ("application/json", b"{}")
                if self.path != "/v2/":
                    if self.path in known:
                        kind, body = known[self.path]
                    else:
                        status, body = 404, b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}'
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Docker-Content-Digest", digest(body))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET  # noqa: N815 - the server's name

            def log_message(self, *words: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Registry:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def index_of(images: Mapping[str, Image]) -> bytes:
    """An index of images by architecture."""
    told = [
        {**_described(image.manifest, MANIFEST), "platform": {"os": "linux", "architecture": architecture}}
        for architecture, image in images.items()
    ]
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": told}).encode()
