"""Runs the walks against a platform and writes what became of them.

python -m scripts.s3clients.run FOLDER [CLIENT ...]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scripts.demo import clean_environment, platform
from scripts.docs import row

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PAGE = ROOT / "docs/contracts/s3-clients.md"
CLIENTS = ("boto3", "awscli", "s3cmd", "rclone", "s3fs", "pyarrow", "duckdb")
#: In the order in which people meet them; others come behind.
STEPS = (
    "create a bucket",
    "put and get",
    "get a range",
    "upload in parts",
    "list",
    "copy",
    "presign",
    "sync",
    "delete",
)
_NOTE = """<!-- Written by scripts/s3_clients.sh from a run. -->

# S3's clients

Each client as its authors publish it, walked through what people do with it, against `fuyun up`. What a step does is in
`scripts/s3clients/walks`. A dash: the client has no such thing, or the walk does not ask for it.
"""


@dataclass
class Walk:
    """One client's: which it is, and its steps with whether they passed and what is to be said of them."""

    client: str
    version: str = ""
    steps: dict[str, tuple[bool, str]] = field(default_factory=dict)


def walk(client: str, state: Path, access: Mapping[str, str]) -> Walk:
    """What became of its steps; a walk that ends early says so as a step that failed."""
    own = state / client / "bin/python"
    python = own if own.exists() else Path(sys.executable)
    found = Walk(client)
    with tempfile.TemporaryDirectory(prefix="fuyun-walk-") as folder:
        # What the machine says of AWS is about another place.
        kept = {name: value for name, value in clean_environment(Path(folder)).items() if not name.startswith("AWS_")}
        env = {
            **kept, **access, "WALK_FOLDER": folder, "WALK_BUCKET": f"walk-{client}",
            "PYTHONPATH": str(HERE), "AWS_EC2_METADATA_DISABLED": "true", "PYTHONWARNINGS": "ignore",
        }  # fmt: skip
        done = subprocess.run(
            [python, HERE / f"walks/{client}_walk.py"], env=env, stdout=subprocess.PIPE, text=True, check=False
        )
    for line in done.stdout.splitlines():
        told = json.loads(line)
        if "version" in told:
            found.version = told["version"]
        else:
            found.steps[told["step"]] = (told["passed"], told["reason"])
            print(f"{client:8} {told['step']:16} {'ok' if told['passed'] else told['reason']}", flush=True)
    if done.returncode:
        found.steps["the walk itself"] = (False, f"ended with {done.returncode}")
    return found


def page(walks: Sequence[Walk]) -> Iterator[str]:
    """Its lines."""
    yield from _NOTE.splitlines()
    yield ""
    others = dict.fromkeys(name for one in walks for name in one.steps if name not in STEPS)
    yield row("step", *[one.client for one in walks])
    yield row(*["---"] * (len(walks) + 1))
    for name in (*STEPS, *others):
        marks = [("✓" if one.steps[name][0] else "✗") if name in one.steps else "–" for one in walks]
        yield row(name, *marks)
    yield ""
    passed = sum(ok for one in walks for ok, _ in one.steps.values())
    yield f"{passed} of {sum(len(one.steps) for one in walks)} steps passed, by {', '.join(o.version for o in walks)}."
    for title, wanted in (("What failed", False), ("Remarks", True)):
        told = [(o.client, name, said) for o in walks for name, (ok, said) in o.steps.items() if ok is wanted and said]
        if told:
            yield f"\n## {title}\n"
            for client, name, said in told:
                yield f"- {client}, {name}: {said}"


def _access(env: Mapping[str, str]) -> dict[str, str]:
    """The platform's first key, as S3's clients take it."""
    told = subprocess.run(
        [Path(sys.executable).with_name("fuyun"), "key", "s3", "--json"],
        env=dict(env), capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(told.stdout)
    return {
        "AWS_ACCESS_KEY_ID": found["access_key"], "AWS_SECRET_ACCESS_KEY": found["secret_key"],
        "AWS_ENDPOINT_URL_S3": found["endpoint"], "AWS_DEFAULT_REGION": found["region"],
    }  # fmt: skip


def main(state: Path, wanted: Sequence[str]) -> int:
    """Exit code: 1 when a step failed."""
    with tempfile.TemporaryDirectory(prefix="fuyun-clients-") as folder:
        home = Path(folder) / "home"
        home.mkdir()
        env = clean_environment(home)
        with platform(Path(folder), env):
            access = _access(env)
            walks = [walk(one, state.resolve(), access) for one in CLIENTS if not wanted or one in wanted]
    if not wanted:
        PAGE.write_text("\n".join(page(walks)) + "\n", encoding="utf-8")
    return int(any(not ok for one in walks for ok, _ in one.steps.values()))


if __name__ == "__main__":
    os.environ.pop("VIRTUAL_ENV", None)
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
