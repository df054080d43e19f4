"""Leak checks around every test, and platforms to test against."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from tests import launching, leaks, running
from tests.waiting import wait_until

# The same examples in every run, and no time limit per example: a busy machine is no failure.
settings.register_profile("fuyun", deadline=None, derandomize=True)
settings.load_profile("fuyun")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first: of two processes that share the suite none is left alone with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow_lane")}
    whole = {item.path for item in items if item.get_closest_marker("e2e")}
    items.sort(key=lambda item: (item.path not in slow, item.path not in whole))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where everything is to run (.ci/run says so), a test that was skipped has failed."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("FUYUN_NO_SKIPS"):
        report.outcome = "failed"
        report.longrepr = f"skipped, though FUYUN_NO_SKIPS is set: {report.longrepr}"
    return report


@pytest.fixture
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system that is soon full, of the size given by indirect parameter. Only root can mount one here; whoever
    runs the tests without rights is told so, and where everything is to run (FUYUN_NO_SKIPS) that is a failure."""
    if os.geteuid() != 0:  # the rest of the suite is of use to who has no rights; `.ci/run` lets nothing be skipped
        pytest.skip("mounts a file system, which needs root: run the tests as root as well")
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={request.param}", "fuyun-test", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio only."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def _nothing_left_by_the_session() -> Iterator[None]:
    leaks.adopt_orphans()
    children, mounts, cgroups = leaks.children(), leaks.mounts(), leaks.cgroups()
    yield
    launching.close()
    wait_until(lambda: not leaks.mounts() - mounts, "mounts to be gone", 10)
    wait_until(lambda: not own_cgroups(cgroups), f"control groups to be gone: {own_cgroups(cgroups)}", 10)
    left = {pid: leaks.command_of(pid) for pid in leaks.children() - children}
    assert not left, f"processes left behind: {left}"


def own_cgroups(before: set[str]) -> set[str]:
    """Groups that appeared since and are named after something this session started; other platforms may be about."""
    names = tuple(running.trees)
    return {path for path in leaks.cgroups() - before if Path(path).name.startswith(names)}


@pytest.fixture(autouse=True)
def _nothing_left_by_the_test() -> Iterator[None]:
    descriptors, children = leaks.open_descriptors(), leaks.children()
    yield
    tasks = leaks.pending_tasks()
    assert not tasks, f"tasks still pending: {tasks}"
    opened = leaks.settled_descriptors(descriptors, launching.descriptors())
    assert not opened, f"descriptors left open: {opened}"
    try:
        wait_until(lambda: not leaks.children() - children - launching.pids(), "child processes to end", 5)
    except TimeoutError:
        left = {pid: leaks.command_of(pid) for pid in leaks.children() - children - launching.pids()}
        pytest.fail(f"processes left behind: {left}")


@pytest.fixture(scope="session")
def platform() -> Iterator[running.Platform]:
    """A platform shared by the session, run by whoever runs the tests. Use function names of your own."""
    with running.running(running.own_account()) as platform:
        yield platform


@pytest.fixture(scope="session")
def nobody() -> Iterator[running.Account]:
    """The account without rights (the tests' own, when that is not root)."""
    if os.getuid() != 0:
        yield running.own_account()
        return
    site = Path(tempfile.mkdtemp(prefix="fuyun-site-", dir="/tmp"))
    try:
        running.copy_site(site)
        yield running.nobody_account(site)
    finally:
        shutil.rmtree(site)


@pytest.fixture(scope="session")
def rootless_platform(nobody: running.Account) -> Iterator[running.Platform]:
    """A platform shared by the session, run without any right."""
    with running.running(nobody) as platform:
        yield platform


@pytest.fixture(scope="session", params=["root", "rootless"])
def either_platform(request: pytest.FixtureRequest) -> running.Platform:
    """The shared platform as the tests' user, then the one without rights."""
    found: running.Platform = request.getfixturevalue("platform" if request.param == "root" else "rootless_platform")
    return found


@pytest.fixture
def start_platform() -> Iterator[Callable[..., running.Platform]]:
    """Start platforms of the test's own: `start_platform(account=..., **settings as environment)`."""
    with ExitStack() as stack:

        def start(account: running.Account | None = None, **settings: str) -> running.Platform:
            return stack.enter_context(running.running(account or running.own_account(), settings))

        yield start
