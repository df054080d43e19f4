"""What is SQLite's own: group commit, full and read-only disks, newer schemas, damaged files, several processes."""

from __future__ import annotations

import asyncio
import importlib
import os
import pkgutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from fuyun import drivers
from fuyun.domain.errors import FuyunError, Internal, OperatorError, SchemaTooNew, StorageFull, Unavailable
from fuyun.drivers.catalog.functions import SqlCatalog
from fuyun.drivers.sql import schema
from fuyun.drivers.sql.columns import metadata
from fuyun.drivers.sql.sqlite import Database
from fuyun.testing.contracts.samples import CODE, NOW_S, SPEC

pytestmark = pytest.mark.anyio


async def test_many_writes_share_a_commit(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "fuyun.db")
    try:
        catalog = SqlCatalog(database)
        await catalog.put_draft("default", "hello", SPEC, CODE, (), NOW_S)
        before = database.counts.commits
        await asyncio.gather(*(catalog.put_draft("default", "hello", SPEC, CODE, (), NOW_S) for _ in range(400)))
        commits = database.counts.commits - before
        assert database.counts.writes == 401
        # Usually two or three: what queued before the first one began, and the rest.
        assert commits <= 20
        for _ in range(3):
            await catalog.put_draft("default", "hello", SPEC, CODE, (), NOW_S)
        assert database.counts.commits - before == commits + 3, "a lone write does not wait for company"
    finally:
        await database.close()


async def test_reads_go_on_while_a_write_is_under_way(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "fuyun.db")
    try:
        loop = asyncio.get_running_loop()
        begun = asyncio.Event()
        release = asyncio.get_running_loop().create_future()

        def slow(connection: Connection) -> str:
            connection.execute(text("UPDATE namespaces SET revision = 99"))
            loop.call_soon_threadsafe(begun.set)
            return str(asyncio.run_coroutine_threadsafe(wait(), loop).result())

        async def wait() -> str:
            return str(await release)

        def revision(connection: Connection) -> int:
            return int(connection.execute(text("SELECT revision FROM namespaces")).scalar_one())

        writing = loop.create_task(database.write(slow))
        await begun.wait()
        assert await database.read(revision) == 1
        release.set_result("done")
        assert await writing == "done"
        assert await database.read(revision) == 99
    finally:
        await database.close()


async def test_a_reader_cannot_write(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "fuyun.db")
    try:
        with pytest.raises(StorageFull):
            await database.read(lambda connection: connection.execute(text("DELETE FROM namespaces")))
    finally:
        await database.close()


async def test_a_bug_in_a_write_fails_that_write_alone(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "fuyun.db")
    try:

        def broken(connection: Connection) -> None:
            connection.execute(text("DELETE FROM namespaces"))
            raise KeyError("oops")

        done = await asyncio.gather(
            database.write(broken), SqlCatalog(database).put_draft("default", "hello", SPEC, CODE, (), NOW_S),
            return_exceptions=True,
        )  # fmt: skip
        assert isinstance(done[0], Internal)
        assert not isinstance(done[1], BaseException)
    finally:
        await database.close()


async def test_a_closed_catalog_says_so(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "fuyun.db")
    await database.close()
    await database.close()
    catalog = SqlCatalog(database)
    with pytest.raises(Unavailable):
        await catalog.get_function("default", "hello")
    with pytest.raises(Unavailable):
        await catalog.put_draft("default", "hello", SPEC, CODE, (), NOW_S)
    assert [path.name for path in tmp_path.iterdir()] == ["fuyun.db"], "the write-ahead log is folded in"


async def test_nobody_else_may_read_the_files(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "data" / "fuyun.db")
    try:
        await SqlCatalog(database).put_draft("default", "hello", SPEC, CODE, (), NOW_S)
        files = list((tmp_path / "data").iterdir())
        assert len(files) == 3
        assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)
    finally:
        await database.close()


async def fill(catalog: SqlCatalog) -> tuple[set[str], FuyunError]:
    """Write until it is refused; what was acknowledged, and the refusal."""
    acknowledged: set[str] = set()
    for count in range(5000):
        names = [f"f{count}-{lane}" for lane in range(8)]
        done = await asyncio.gather(
            *(catalog.put_draft("default", name, SPEC, CODE, (), NOW_S) for name in names), return_exceptions=True
        )
        acknowledged |= {name for name, result in zip(names, done) if not isinstance(result, BaseException)}
        if errors := [result for result in done if isinstance(result, FuyunError)]:
            return acknowledged, errors[0]
    raise AssertionError("the disk never filled up")


async def raise_quota(database: Database) -> None:
    await database.write(
        lambda connection: connection.execute(text("""UPDATE namespaces SET quotas = '{"functions": 1000000}'"""))
    )


@pytest.mark.parametrize("small_disk", ["1500k"], indirect=True)
async def test_a_full_disk_refuses_new_writes_and_keeps_the_old(small_disk: Path) -> None:
    database = await Database.open(small_disk / "fuyun.db")
    try:
        await raise_quota(database)
        ballast = small_disk / "ballast"
        ballast.write_bytes(b"x" * 300_000)
        catalog = SqlCatalog(database)
        acknowledged, error = await fill(catalog)
        assert isinstance(error, StorageFull)
        assert "full" in str(error)
        assert "free space" in error.hint
        kept = {function.name for function in await catalog.list_functions("default", limit=10**6)}
        assert acknowledged <= kept
        ballast.unlink()
        await catalog.put_draft("default", "after", SPEC, CODE, (), NOW_S)
        assert (await catalog.get_function("default", "after")).name == "after"
    finally:
        await database.close()
    database = await Database.open(small_disk / "fuyun.db")
    try:
        kept = {function.name for function in await SqlCatalog(database).list_functions("default", limit=10**6)}
        assert acknowledged | {"after"} <= kept
    finally:
        await database.close()


@pytest.mark.parametrize("small_disk", ["1500k"], indirect=True)
async def test_a_read_only_disk_is_refused_at_once(small_disk: Path) -> None:
    await (await Database.open(small_disk / "fuyun.db")).close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StorageFull, match="read-only") as refused:
        await Database.open(small_disk / "fuyun.db")
    assert "writable" in refused.value.hint
    with pytest.raises(StorageFull):
        await Database.open(small_disk / "new" / "fuyun.db")


@pytest.mark.parametrize("others", ["root's", "its own"])
async def test_a_folder_without_write_access_is_refused(others: str) -> None:
    """As an account without rights: nothing is read-only to root."""
    code = (
        "import asyncio, os, pathlib, sys; from fuyun.drivers.sql.sqlite import Database\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "try: asyncio.run(Database.open(pathlib.Path(sys.argv[1])))\n"
        "except Exception as error: print(type(error).__name__, error.hint)\n"
    )
    with tempfile.TemporaryDirectory(dir="/tmp") as place:  # pytest's own folders are closed to other accounts
        path = Path(place) / "data" / "fuyun.db"
        await (await Database.open(path)).close()
        for each, mode in ((path, 0o444), (path.parent, 0o555), (Path(place), 0o755)):
            if others == "its own" and os.geteuid() == 0:
                os.chown(each, 65534, 65534)
            each.chmod(mode)
        done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
        path.parent.chmod(0o755)
    assert done.stdout.startswith("StorageFull give the user that runs Fuyun write access"), done.stdout + done.stderr


async def test_a_newer_schema_is_refused_and_named(tmp_path: Path) -> None:
    path = tmp_path / "fuyun.db"
    await (await Database.open(path)).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'r9999'")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(SchemaTooNew, match="r9999") as refused:
        await Database.open(path)
    assert schema.HEAD in str(refused.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"not a database, but long enough to be read as one" * 100, b"\0" * 4096])
async def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "fuyun.db"
    path.write_bytes(content)
    with pytest.raises(OperatorError) as refused:
        await Database.open(path)
    assert "backup" in refused.value.hint
    assert path.read_bytes() == content


async def test_migrations_lead_to_the_tables_and_head_is_the_newest(tmp_path: Path) -> None:
    for module in pkgutil.walk_packages(drivers.__path__, "fuyun.drivers."):  # every table there is
        if module.name.endswith((".tables", ".outbox", ".streaming")):
            importlib.import_module(module.name)
    scripts = ScriptDirectory(str(schema.SCRIPTS))
    assert scripts.get_current_head() == schema.HEAD
    assert {script.revision for script in scripts.walk_revisions()} == schema.KNOWN
    database = await Database.open(tmp_path / "fuyun.db")
    try:
        differences = await database.read(
            lambda connection: compare_metadata(MigrationContext.configure(connection), metadata)
        )
    finally:
        await database.close()
    assert differences == []


async def test_two_openers_of_a_new_file_migrate_it_once(tmp_path: Path) -> None:
    databases = await asyncio.gather(*(Database.open(tmp_path / "fuyun.db") for _ in range(4)))
    try:
        for count, database in enumerate(databases):
            await SqlCatalog(database).put_draft("default", f"f{count}", SPEC, CODE, (), NOW_S)
        assert len(await SqlCatalog(databases[0]).list_functions("default")) == 4
    finally:
        for database in databases:
            await database.close()
