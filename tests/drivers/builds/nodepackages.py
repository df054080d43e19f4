"""Packages for npm, made on the spot: no registry is asked for anything."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

from tests.running import archive


def tarball(name: str, version: str = "1.2.3", files: dict[str, str] | None = None, **manifest: Any) -> bytes:
    """What `npm pack` makes: `files` (index.js says the name if there are none) and a package.json."""
    held = {"index.js": f"module.exports = {json.dumps(f'{name} {version}')};", **(files or {})}
    held["package.json"] = json.dumps({"name": name, "version": version, **manifest})
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as packed:
        for path, text in sorted(held.items()):
            info = tarfile.TarInfo(f"package/{path}")
            info.size, info.mode = len(text.encode()), 0o644
            packed.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


def project(
    dependencies: dict[str, str], files: dict[str, str | bytes] | None = None, **manifest: Any
) -> dict[str, Any]:
    """Files of a project that asks for `dependencies`."""
    return {"package.json": json.dumps({"dependencies": dependencies, **manifest}), **(files or {})}


def packed(files: dict[str, Any]) -> bytes:
    """Its archive."""
    return archive(files)
