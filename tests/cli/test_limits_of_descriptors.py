"""A platform under the usual limit of open files raises its own as far as it may."""

from __future__ import annotations

import resource
from pathlib import Path

from tests import running


def test_the_platform_may_open_as_many_as_the_host_allows() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with running.running(running.own_account(), inherits=True) as platform:
            lines = Path(f"/proc/{platform.process.pid}/limits").read_text().splitlines()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    found = next(line.split()[3:5] for line in lines if line.startswith("Max open files"))
    assert found == [str(min(hard, 2**18)), str(hard)]
