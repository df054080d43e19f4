"""Runs the suites against a served S3 and writes their results.

python -m scripts.s3suites.run FOLDER [SUITE ...]
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from scripts.docs import row
from scripts.s3suites.reasons import reason_of
from tests.transports.s3.clients import Served, serving

#: Names that differ from run to run.
_NAMES = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32}|20[0-9]{6}T[0-9]{6}Z")
ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/contracts/s3-results.md"
_NOTE = """<!-- Written by scripts/s3_suites.sh from a run. -->

# What other people's tests say of S3

s3transfer's integration tests, and moto's tests of S3, as their authors publish them, pointed at S3 of a platform. What
is changed: s3transfer's set-up asks for ownership by writers and for encryption, which is left out; before each of
moto's tests all buckets are deleted, and parts may be as small as moto's server is told to take them. Left out as a
whole are files about moto itself and about other services. Why a test fails: the class of it in
`scripts/s3suites/reasons.py`.
"""


@dataclass(frozen=True)
class Suite:
    """Tests of others: their folder below the state's, which of them, and which files are about something else."""

    name: str
    folder: str
    tests: str
    without: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)  # of the server


SUITES = (
    Suite(
        "s3transfer", "s3transfer-0.19.3", "tests/integration",
        # One starts processes that inherit nothing of ours, one is about another client library.
        ("test_processpool.py", "test_crt.py"),
    ),
    Suite(
        "moto", "moto-5.2.5", "tests/test_s3",
        ("test_server.py", "test_multiple_accounts_server.py", "test_s3_cloudformation.py", "test_s3_config.py",
         "test_s3_eventbridge_integration.py", "test_s3_lambda_integration.py", "test_s3_cross_account.py",
         "test_s3_integration.py"),
        {"LEAST_PART_BYTES": "256"},
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One test and what became of it; `reason` is the last line of its failure."""

    suite: str
    name: str
    outcome: str
    reason: str = ""


def run(suite: Suite, state: Path, served: Served) -> list[Case]:
    """Its cases."""
    key, secret = served.keys["acme"]
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "found.xml"
        env = {
            **os.environ, "AWS_ENDPOINT_URL_S3": served.url, "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret, "AWS_DEFAULT_REGION": "us-east-1",
            "PYTHONPATH": str(Path(__file__).parent),
        }  # fmt: skip
        left_out = [f"--ignore={suite.tests}/{name}" for name in suite.without]
        subprocess.run(
            [state / "venv/bin/python", "-m", "pytest", "-p", "plugin", "-q", "--no-header", "--timeout=120",
             "--tb=line", f"--junitxml={found}", suite.tests, *left_out],
            cwd=state / suite.folder, env=env, check=False,
        )  # fmt: skip
        return [_case(suite, node) for node in ElementTree.parse(found).iter("testcase")]


def _case(suite: Suite, node: ElementTree.Element) -> Case:
    name = f"{node.get('classname', '').rpartition('tests.')[2]}.{node.get('name')}"
    for outcome in ("failure", "error", "skipped"):
        told = node.find(outcome)
        if told is not None:
            lines = (told.get("message") or "").strip().splitlines()
            return Case(suite.name, name, outcome, lines[0][:200] if lines else "")
    return Case(suite.name, name, "passed")


def page(cases: Sequence[Case]) -> Iterator[str]:
    """Its lines."""
    yield from _NOTE.splitlines()
    yield ""
    yield row("suite", "passed", "failed", "skipped", "rate")
    yield row(*["---"] * 5)
    for suite in SUITES:
        counts = Counter(case.outcome for case in cases if case.suite == suite.name)
        failed = counts["failure"] + counts["error"]
        rate = counts["passed"] / max(1, counts["passed"] + failed)
        yield row(suite.name, str(counts["passed"]), str(failed), str(counts["skipped"]), f"{rate:.0%}")
    for suite in SUITES:
        failed_cases = [case for case in cases if case.suite == suite.name and case.outcome in ("failure", "error")]
        classes = Counter(reason_of(case.name, case.reason) for case in failed_cases)
        yield f"\n## What fails of {suite.name}, and why\n"
        yield row("class", "tests")
        yield row("---", "---")
        for kind, count in classes.most_common():
            yield row(kind, str(count))
        yield ""
        yield row("test", "class", "what it says")
        yield row(*["---"] * 3)
        for case in failed_cases:
            said = _NAMES.sub("…", case.reason).replace("|", "\\|").replace("<", "&lt;")
            yield row(case.name.replace("|", "\\|"), reason_of(case.name, case.reason), said)


def main(state: Path, wanted: Sequence[str]) -> int:
    """Run and write; 0."""
    cases: list[Case] = []
    for suite in SUITES:
        if not wanted or suite.name in wanted:
            with (
                tempfile.TemporaryDirectory(prefix="fuyun-s3-") as folder,
                serving(Path(folder), **suite.env) as served,
            ):
                cases += run(suite, state.resolve(), served)
    if not wanted:
        PAGE.write_text("\n".join(page(cases)) + "\n", encoding="utf-8")
    for case in cases:
        if case.outcome in ("failure", "error"):
            print(f"{case.suite} {case.name}: {case.reason}")
    print(f"{sum(case.outcome == 'passed' for case in cases)} of {len(cases)} passed")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
