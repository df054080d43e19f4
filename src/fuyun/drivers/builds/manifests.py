"""What code asks for in its package.json, and what identifies the answer."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from fuyun.domain.errors import BadRequest

_MANIFEST, _SETTINGS = "package.json", ".npmrc"
_LOCKS = ("npm-shrinkwrap.json", "package-lock.json")
_FIELDS = ("dependencies", "optionalDependencies")
#: Fields of package.json that say nothing about packages.
_IRRELEVANT = frozenset(
    ("name", "version", "description", "keywords", "homepage", "bugs", "license", "author", "contributors", "files",
     "main", "exports", "type", "scripts", "repository", "private")
)  # fmt: skip
_LARGEST_BYTES = 16 * 2**20
_GIT = re.compile(r"^(git[+:@]|git|github:|gitlab:|bitbucket:|gist:)|^[\w.-]+/[\w.-]+(#.*)?$|\.git(#.*)?$")
_ELSEWHERE = ("link:", "workspace:", "portal:")


@dataclass(frozen=True, slots=True)
class Manifest:
    """`folder`: the code. `files`: name -> text of what npm reads. `local`: packages in the code, as paths in it.
    `lock`: there is one. `private`: fetching may run somebody's code. `scripts`: packages may have install scripts.
    `complete`: the code brings its node_modules. `digest` names all that decides what is built."""

    folder: Path
    files: dict[str, str]
    local: tuple[str, ...]
    lock: bool
    private: bool
    scripts: bool
    complete: bool
    count: int
    digest: str


def read_manifest(folder: Path) -> Manifest | None:
    """What the code in `folder` asks for, None when it is nothing. BadRequest. Blocking."""
    text = _read(folder / _MANIFEST)
    if text is None:
        return None
    found = _parse(text)
    wanted: dict[str, str] = {}
    for name in _FIELDS:
        packages = found.get(name, {})
        if not isinstance(packages, dict) or not all(isinstance(spec, str) for spec in packages.values()):
            raise _wrong(f'"{name}" is not an object of names and versions', 'write {"dependencies": {"NAME": "1.0"}}')
        wanted |= packages
    if not wanted:
        return None
    files = {_MANIFEST: text}
    lock = next((name for name in _LOCKS if (folder / name).is_file()), None)
    for name in (lock or _SETTINGS, _SETTINGS):
        if (content := _read(folder / name)) is not None:
            files[name] = content
    local = _local(folder, wanted)
    locked = files.get(lock or "", "")
    return Manifest(
        folder=folder,
        files=files,
        local=local,
        lock=lock is not None,
        private=_SETTINGS in files or any(_GIT.search(spec) for spec in wanted.values()) or '"git+' in locked,
        scripts=not locked or '"hasInstallScript"' in locked or bool(local),
        complete=(folder / "node_modules").is_dir(),
        count=len(wanted),
        digest=_digest(found, files, folder, local),
    )


def _read(path: Path) -> str | None:
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise _wrong("it is too large", "leave generated files out", path.name)
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None
    except UnicodeDecodeError as exc:
        raise _wrong(f"it is not UTF-8: {exc.reason}", "save it as UTF-8", path.name) from exc


def _parse(text: str) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(text.removeprefix("\ufeff"))
    except msgspec.DecodeError as exc:
        raise _wrong(f"it is not JSON: {exc}", "correct it; `npm pkg fix` may help") from exc
    if not isinstance(found, dict):
        raise _wrong("it is not an object", "start with {")
    return found


def _local(folder: Path, wanted: dict[str, str]) -> tuple[str, ...]:
    """Paths of packages that are files or folders of the code itself."""
    found: list[str] = []
    for name, spec in wanted.items():
        if spec.startswith(_ELSEWHERE):
            raise _wrong(f"{name} is {spec!r}, which only works beside its project", "pack it: npm pack, then file:")
        path = spec.removeprefix("file:")
        if not spec.startswith(("file:", "./", "../", "/", "~/")):
            continue
        inside = PurePosixPath(os.path.normpath(path))
        if inside.is_absolute() or ".." in inside.parts or path.startswith("~") or not (folder / inside).exists():
            raise _wrong(f"{name} is {spec!r}, which is not in the code folder", "copy it there, or publish it")
        found.append(str(inside))
    return tuple(sorted(found))


def _digest(found: dict[str, Any], files: dict[str, str], folder: Path, local: tuple[str, ...]) -> str:
    relevant = {key: value for key, value in found.items() if key not in _IRRELEVANT}
    made = hashlib.sha256(msgspec.json.encode(relevant, order="deterministic"))
    for name in sorted(files.keys() - {_MANIFEST}):
        made.update(f"\0{name}\0{files[name]}".encode())
    for name in local:
        source = folder / name
        for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
            if path.is_file() and not path.is_symlink():
                made.update(f"\0{path.relative_to(folder)}\0".encode())
                made.update(hashlib.sha256(path.read_bytes()).digest())
    return made.hexdigest()


def _wrong(detail: str, hint: str, name: str = _MANIFEST) -> BadRequest:
    return BadRequest(f"{name}: {detail}", hint=hint, path=name)
