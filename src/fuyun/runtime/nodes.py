"""Where Node.js is on this host, and what each one is. `fuyun doctor` and the platform look the same way."""

from __future__ import annotations

import glob
import json
import os
import subprocess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Union

#: Oldest major version that serves functions: it has the fetch API and `node:` imports throughout.
OLDEST = 18
#: Searched after PATH; then version managers and hand-made installations that need not be on PATH.
FOLDERS = ("/usr/local/bin", "/usr/bin")
PATTERNS = ("~/.nvm/versions/node/*/bin", "~/.volta/tools/image/node/*/bin", "/opt/node*/bin")
#: Where npm is, seen from the folder that holds Node: as nodejs.org ships it, as Debian does.
_NPM = ("../lib/node_modules/npm/bin/npm-cli.js", "../share/nodejs/npm/bin/npm-cli.js")
#: A cold start on a slow disk takes a second.
_PATIENCE_S = 20.0
_QUESTION = "console.log(JSON.stringify([process.versions.node, process.versions.modules, process.arch]))"


def candidates(folders: str = "") -> Iterator[str]:
    """Real paths of files that look like Node, each once; `folders`, separated by ':', come first."""
    seen = set()
    for folder in _folders(folders):
        for name in ("node", "nodejs"):
            path = os.path.realpath(os.path.join(folder, name))
            if path not in seen and os.access(path, os.X_OK) and _is_binary(path):
                seen.add(path)
                yield path


def _folders(folders: str) -> Iterator[str]:
    for folder in filter(None, folders.split(":")):
        expanded = os.path.expanduser(folder)
        yield expanded
        yield os.path.join(expanded, "bin")
    yield from filter(None, os.environ.get("PATH", os.defpath).split(":"))
    yield from FOLDERS
    for pattern in PATTERNS:
        yield from sorted(glob.glob(os.path.expanduser(pattern)), reverse=True)


def _is_binary(path: str) -> bool:
    """True for ELF files: version managers put shell scripts of the same name on PATH."""
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False


def ask(path: str) -> Union[dict[str, Any], str]:
    """What the Node at `path` says of itself: `version` (three numbers), `modules` (of its binary interface), `arch`,
    `npm` (a script, "" for none). Text says why it does not do."""
    try:
        done = subprocess.run(
            [path, "-e", _QUESTION],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE_S,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
            check=False,
            cwd="/",
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return f"does not start: {exc}"
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"exit code {done.returncode}"]
        return f"is broken: {lines[-1]}"
    try:
        version, modules, arch = json.loads(done.stdout)
        numbers = tuple(int(part) for part in str(version).split("-")[0].split("."))
    except ValueError:
        return f"gave no sensible answer: {done.stdout[:80]!r}"
    if len(numbers) != 3 or numbers[0] < OLDEST:
        return f"is version {version}; Fuyun runs {OLDEST} and newer"
    return {"version": numbers, "modules": str(modules), "arch": str(arch), "npm": npm_of(path)}


def npm_of(node: str) -> str:
    """The script of the npm that belongs to `node`, or else of the one on PATH; "" when there is none."""
    folder = os.path.dirname(node)
    found = (os.path.join(folder, place) for place in _NPM)
    on_path = (os.path.join(place, "npm") for place in os.environ.get("PATH", os.defpath).split(":"))
    for script in (*found, *on_path):
        real = os.path.realpath(script)
        if real.endswith(".js") and os.path.exists(real):
            return real
    return ""
