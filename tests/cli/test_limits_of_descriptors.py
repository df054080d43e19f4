"""A platform under the usual limit of open files raises its own as far as it may."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

from tests import running


def test_the_platform_may_open_as_many_as_the_host_allows(start_platform: Callable[..., running.Platform]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        platform = start_platform()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    lines = Path(f"/proc/{platform.process.pid}/limits").read_text().splitlines()
    found = next(line.split()[3:5] for line in lines if line.startswith("Max open files"))
    assert found == [str(min(hard, 2**18)), str(hard)]
