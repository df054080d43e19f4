"""What the README and the guide tell a newcomer to type works when it is typed, as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.running import Platform

ROOT = Path(__file__).resolve().parent.parent.parent

#: The page, the words its commands follow, and what they must print.
SEQUENCES = (
    ("README.md", "To use it by hand:", "Hello, Ada!"),
    ("docs/guide/getting-started.md", "## Make, deploy, call", "Hello, Ada!"),
    ("docs/guide/getting-started.md", "The address wants a key", "Hello, world!"),
)
#: Started and ended by the test itself.
NOT_HERE = ("pip ", "fuyun up", "fuyun down")


def commands(page: str, after: str) -> list[str]:
    """The lines of the first shell block after `after`."""
    text = (ROOT / page).read_text()
    block = re.search(r"```sh\n(.*?)```", text[text.index(after) :], re.DOTALL)
    assert block is not None
    return [line for line in block[1].splitlines() if not line.startswith(NOT_HERE)]


@pytest.mark.e2e
def test_what_a_newcomer_types_works(platform: Platform, tmp_path: Path) -> None:
    tool = tmp_path / "bin/fuyun"
    tool.parent.mkdir()
    tool.write_text(f"#!{sys.executable}\nimport sys\nfrom fuyun.cli.main import main\nsys.exit(main())\n")
    tool.chmod(0o755)
    env = {**platform.env, "PATH": f"{tool.parent}:{platform.env['PATH']}"}
    for page, after, printed in SEQUENCES:
        lines = commands(page, after)
        assert lines, f"{page}: no commands after {after!r}"
        if any("init" in line for line in lines):
            folder = tmp_path / page.replace("/", "-")
            folder.mkdir()
        said = ""
        for line in lines:
            here = line.replace("http://127.0.0.1:8080", platform.gateway)
            done = subprocess.run(
                ["bash", "-euc", here], cwd=folder, env=env, capture_output=True, text=True, timeout=60
            )
            assert done.returncode == 0, f"{page}: {line}\n{done.stdout}{done.stderr}"
            said += done.stdout
        assert printed in said, said
    platform.cli("remove", "hello", "--yes")
