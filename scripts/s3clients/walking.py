"""What every walk shares: steps, each tried and told as a line of JSON; files to move.

Standard library only: a walk runs with the interpreter of its client's own environment.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
import traceback
import urllib.request
from collections.abc import Callable
from pathlib import Path

URL, KEY, SECRET = (os.environ[name] for name in ("AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))
#: A folder of the walk's own, and a bucket that no other walk has.
PLACE, BUCKET = Path(os.environ["WALK_FOLDER"]), os.environ["WALK_BUCKET"]
#: A key that has to be escaped everywhere.
ODD = "odd/snö ☃ + a&b=c%20;'d'.txt"
#: Larger than what any client sends in one part.
LARGE_BYTES = 33 * 2**20 + 17


def step(name: str) -> Callable[[Callable[[], str | None]], None]:
    """Try the function at once, as the step of that name; what it returns is a remark."""

    def run(work: Callable[[], str | None]) -> None:
        began_s = time.monotonic()
        told = {"step": name, "passed": True, "reason": ""}
        try:
            told["reason"] = work() or ""
        except BaseException as error:
            said = f"{type(error).__name__}: {error}".strip().splitlines()
            told.update(passed=False, reason=(said[-1] if len(said) > 1 else said[0])[:300])
            traceback.print_exc(file=sys.stderr)
        told["seconds"] = round(time.monotonic() - began_s, 2)
        print(json.dumps(told), flush=True)

    return run


def version(text: str) -> None:
    """Which client it is."""
    print(json.dumps({"version": text}), flush=True)


def write(name: str, content: bytes) -> Path:
    """A file in the walk's folder."""
    path = PLACE / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def large() -> Path:
    """A file that no client sends in one piece; the same bytes each time."""
    path = PLACE / "large.bin"
    if not path.exists():
        block = hashlib.sha256(b"fuyun").digest() * 32768
        path.write_bytes((block * 34)[:LARGE_BYTES])
    return path


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def same(found: object, wanted: object) -> None:
    """AssertionError that says both."""
    if found != wanted:
        raise AssertionError(f"{str(found)[:120]} is not {str(wanted)[:120]}")


def fetch(url: str) -> bytes:
    """What an address gives without any client."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        return bytes(answer.read())


def command(*words: str, env: dict[str, str] | None = None) -> str:
    """What a command says; RuntimeError with its last words when it fails."""
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=120, check=False, cwd=PLACE, env={**os.environ, **(env or {})}
    )
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise RuntimeError(f"{Path(words[0]).name} ended with {done.returncode}: {' / '.join(said[-3:])}")
    return done.stdout
