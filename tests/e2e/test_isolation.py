"""What a function is given, seen from inside it, as root and rootless; what it may not reach is `test_attacks.py`'s."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e import layering
from tests.running import Platform

pytestmark = pytest.mark.e2e

MIB = 1024 * 1024

#: Runs what the test sends.
PROBE = """
import os

def handler(event, context):
    scope = {"os": os}
    exec(event["code"], scope)
    return scope["result"]
"""


@pytest.fixture(scope="module", params=["blank", "template", "layers"])
def probe(request: pytest.FixtureRequest, either_platform: Platform) -> Iterator[Any]:
    """Run Python inside a function of the platform and return its `result`: in an instance that was a blank, and in one
    that was forked from a template (docs/decisions/0003) or a zygote of layers (docs/decisions/0023)."""
    if request.param == "layers":
        layering.deploy(either_platform, "probe", {"handler.py": PROBE}, timeout_s=20.0)
    else:
        either_platform.deploy("probe", PROBE, timeout_s=20.0, start=request.param)

    def run(code: str) -> Any:
        answer = either_platform.invoke("probe", {"code": textwrap.dedent(code)})
        assert answer.status_code == 200, answer.text
        return answer.json()

    run("result = None")
    assert [one["start"] for one in either_platform.instances_of("probe")] == [request.param]
    yield run
    either_platform.remove("probe")


def test_only_its_own_descriptors_are_open(probe: Any) -> None:
    found = probe(
        """
        result = {}
        for fd in os.listdir("/proc/self/fd"):
            try:
                result[fd] = os.readlink(f"/proc/self/fd/{fd}")
            except OSError:
                pass
        """
    )
    kinds = ("socket:", "pipe:", "/dev/null", "anon_inode:", "/proc/")
    assert not [target for target in found.values() if not target.startswith(kinds)], found
    assert len(found) < 16


def test_the_environment_is_the_functions_own(probe: Any, either_platform: Platform) -> None:
    found = probe("result = dict(os.environ)")
    text = repr(found)
    assert either_platform.key not in text
    assert str(either_platform.root) not in text
    assert not [name for name in found if name.startswith(("PIP_", "UV_", "XDG_", "SSH_", "SUDO_"))]


def test_tmp_is_private_and_bounded(either_platform: Platform) -> None:
    source = """
def handler(event, context):
    import os
    if event["write"]:
        with open("/tmp/" + event["write"], "w") as file:
            file.write("x")
    try:
        with open("/tmp/big", "wb") as file:
            for _ in range(64):
                file.write(b"x" * 1024 * 1024)
        full = False
    except OSError:
        full = True
    os.path.exists("/tmp/big") and os.unlink("/tmp/big")
    return {"files": os.listdir("/tmp"), "full": full}
"""
    either_platform.deploy("tmp-a", source, tmp_bytes=8 * MIB)
    either_platform.deploy("tmp-b", source, tmp_bytes=8 * MIB)
    try:
        first = either_platform.invoke("tmp-a", {"write": "mine"}).json()
        second = either_platform.invoke("tmp-b", {"write": ""}).json()
    finally:
        either_platform.remove("tmp-a")
        either_platform.remove("tmp-b")
    assert first == {"files": ["mine"], "full": True}
    assert second == {"files": [], "full": True}


def test_what_runs_in_a_process_of_no_isolation_was_asked_for_by_name(either_platform: Platform) -> None:
    either_platform.deploy("open-air", "import os\n\ndef handler(event, context):\n    return os.getpid()\n")
    try:
        inside = either_platform.invoke("open-air", {}).json()
    finally:
        either_platform.remove("open-air")
    assert inside < 100, "a sandboxed instance has a process namespace of its own"
