"""What the code of a package sees while it is built: through the real sandbox of the instance host."""

from __future__ import annotations

import ast
import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fuyun.domain.errors import BuildFailed
from fuyun.domain.functions import Artifact
from fuyun.drivers.blobs.folder import FolderBlobs
from fuyun.drivers.builds.uv import UvBuilder, UvOptions
from fuyun.drivers.instances.host import HostOptions, LocalHost
from fuyun.drivers.instances.interpreters import Interpreters
from tests import leaks
from tests.drivers.builds.packages import make_sdist
from tests.waiting import wait_until

INTERPRETERS = Interpreters()

#: Runs in the build: what it finds becomes the module that is built. __DATA__ is the data directory.
PRYING = """
import subprocess
found = {}
def attempt(name, call):
    try:
        found[name] = repr(call())
    except Exception as exc:
        found[name] = type(exc).__name__
data = __DATA__
attempt("key", lambda: open(data + "/secret.key").read())
attempt("data", lambda: sorted(os.listdir(data)))
attempt("objects", lambda: os.listdir(data + "/objects"))
attempt("locks", lambda: os.listdir(data + "/builds/locks"))
attempt("shared cache", lambda: os.listdir(data + "/builds/cache"))
attempt("home", lambda: os.listdir("/root/.ssh"))
attempt("shadow", lambda: open("/etc/shadow").read())
attempt("write usr", lambda: open("/usr/lib/planted", "w"))
attempt("environment", lambda: os.environ.get("FUYUN_TEST_SECRET"))
processes = [open("/proc/" + p + "/cmdline").read() for p in os.listdir("/proc") if p.isdigit()]
found["processes"] = repr([line for line in processes if "pytest" in line])
quiet = subprocess.DEVNULL
subprocess.Popen(["sleep", "86431"], start_new_session=True, stdin=quiet, stdout=quiet, stderr=quiet)
code = "found = " + repr(found) + chr(10)
"""


@pytest.fixture
def data() -> Iterator[Path]:
    """A data directory with a secret in it."""
    folder = Path(tempfile.mkdtemp(prefix="fuyun-build-", dir="/var/tmp"))
    (folder / "wheels").mkdir()
    (folder / "secret.key").write_text("hands off")
    yield folder
    shutil.rmtree(folder)


@asynccontextmanager
async def sandboxed(data: Path) -> AsyncIterator[tuple[FolderBlobs, Callable[[str], Awaitable[Artifact]]]]:
    """The blob store, and the builds of a real host."""
    options = HostOptions(store=data / "objects", tree=f"fuyun-build-{os.getpid()}", blanks=0)
    host = LocalHost(options, INTERPRETERS.by_runtime, lambda line: None)
    blobs = FolderBlobs.open(data / "objects")
    wheels = str(data / "wheels")
    uv = UvOptions(args=("--no-index", "--find-links", wheels), ro=(wheels,), env={}, timeout_s=30.0)
    builder = UvBuilder(blobs, host.run, INTERPRETERS.by_path, data / "builds", uv)
    python = Path(INTERPRETERS.newest().executable)
    try:
        await host.open(())
        if not host.sandboxed:  # there is no sandbox to test; where everything is to run, this is a failure
            pytest.skip("this host gives this user no namespaces: allow them (`fuyun doctor` says how), or run as root")
        yield blobs, lambda text: builder.build(text, python, lambda line: None)
    finally:
        await builder.close()
        await host.close()


def sleeping() -> list[str]:
    """Processes that the prying package started."""
    return [name for name in os.listdir("/proc") if name.isdigit() and "86431" in leaks.command_of(int(name))]


def test_a_package_under_build_sees_nothing_of_the_platform(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUYUN_TEST_SECRET", "not for packages")
    make_sdist(data / "wheels", "prying", "1.0", PRYING.replace("__DATA__", repr(str(data))))

    async def main() -> Path:
        async with sandboxed(data) as (blobs, build):
            return blobs.path((await build("prying\n")).digest)

    tree = asyncio.run(main())
    found = ast.literal_eval((tree / "prying.py").read_text().removeprefix("found = "))
    assert "secret" not in found.pop("data")
    assert found == {
        "key": "FileNotFoundError",
        "objects": "FileNotFoundError",
        "locks": "FileNotFoundError",
        "shared cache": "FileNotFoundError",
        "home": "FileNotFoundError",
        "shadow": "FileNotFoundError",
        "write usr": "OSError",
        "environment": "None",
        "processes": "[]",
    }
    wait_until(lambda: not sleeping(), "what the build started to be gone")
    assert (tree / "prying.py").stat().st_uid == os.getuid()


def test_a_layer_with_a_way_out_is_refused(data: Path) -> None:
    victim = data / "secret.key"
    body = f"os.symlink({str(victim)!r}, os.path.join(os.path.dirname(os.environ['HOME']), 'out', 'stolen.txt'))"
    make_sdist(data / "wheels", "linking", "1.0", body)

    async def main() -> None:
        async with sandboxed(data) as (_, build):
            with pytest.raises(BuildFailed, match="may not hold"):
                await build("linking\n")

    asyncio.run(main())
    assert victim.read_text() == "hands off"
