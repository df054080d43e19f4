"""Changes of tables in a real PostgreSQL: order, images, batches, failures, and nothing missed by whoever dies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import pytest

from fuyun.base import faults
from fuyun.domain.errors import FunctionRaised
from fuyun.drivers.slots.sql import SqlSlots
from fuyun.services.tenants import PLATFORM
from fuyun.testing.hosts import FakeCall
from tests import postgres
from tests.services.changing import SLOTS, Scene, play


def asyncpg_errors() -> tuple[type[Exception], ...]:
    """What a client of a server that dies meets."""
    return asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.running() as found:
        yield found


def test_rows_come_with_what_they_were_and_what_they_are(server: postgres.Server) -> None:
    async def scene(s: Scene) -> None:
        await s.sql("INSERT INTO t VALUES (0, 'before')")
        await s.deploy(("t",), operations=("insert", "update", "delete", "truncate"))
        await s.sql(
            "INSERT INTO t VALUES (1, 'ä', '{\"a\": [1, null]}', 1.50)", "UPDATE t SET a = NULL WHERE id = 1",
            "UPDATE t SET id = 2 WHERE id = 1", "ALTER TABLE t REPLICA IDENTITY FULL",
            "UPDATE t SET n = 2 WHERE id = 2", "DELETE FROM t WHERE id = 2", "TRUNCATE t",
        )  # fmt: skip
        await s.until(lambda: sum(map(len, s.seen)) == 6)
        found = [event for batch in s.seen for event in batch]
        one = {"id": 1, "a": "ä", "j": {"a": [1, None]}, "n": "1.50"}
        none = {**one, "a": None}
        two = {**none, "id": 2}
        assert [(event["data"]["old"], event["data"]["new"]) for event in found] == [
            (None, one), (None, none), ({"id": 1}, two), (two, {**two, "n": "2"}), ({**two, "n": "2"}, None),
            (None, None),
        ]  # fmt: skip
        assert [event["type"].rpartition(".")[2] for event in found] == [
            "insert", "update", "update", "update", "delete", "truncate",
        ]  # fmt: skip
        assert found[3]["data"]["key"] == {"id": 2}, "the primary key, also where every column tells rows apart"
        assert (found[0]["source"], found[0]["subject"]) == ("/default/postgres/DB", "public.t")
        assert found[0]["id"] == f"{found[0]['data']['lsn']}-0"
        assert found[0]["partitionkey"] == 'public.t/{"id":1}'
        assert [event["sequence"] for event in found] == sorted({event["sequence"] for event in found})
        status = await s.status()
        assert (status.kind, status.problem, status.last_s is not None) == ("postgres", "", True)
        await s.until(lambda: s.triggers.gauges()[0].age_s == 0.0)

    play(server, scene)


def test_transactions_come_in_the_order_of_their_commits_in_batches(server: postgres.Server) -> None:
    async def scene(s: Scene) -> None:
        await s.deploy(batch_size=10)
        late, early = [await asyncpg.connect(s.server.address()) for _ in range(2)]
        try:
            async with late.transaction():
                await late.execute("INSERT INTO t VALUES (100)")
                await early.execute("INSERT INTO t SELECT generate_series(1, 25)")
            with pytest.raises(asyncpg.DivisionByZeroError):
                await late.execute("BEGIN; INSERT INTO t VALUES (101); SELECT 1 / 0")
        finally:
            await late.close()
            await early.close()
        await s.sql("INSERT INTO t VALUES (102)")
        await s.until(lambda: 102 in s.ids())
        assert s.ids() == [*range(1, 26), 100, 102]
        assert max(map(len, s.seen)) <= 10

    play(server, scene)


def test_what_is_changed_while_nobody_reads_is_read_later(server: postgres.Server) -> None:
    async def scene(s: Scene) -> None:
        await s.deploy()
        await s.events.close()
        await s.sql("INSERT INTO t SELECT generate_series(1, 5)", "DELETE FROM t WHERE id = 3")
        s.events._make()
        await s.events.open()
        await s.until(lambda: len(s.ids()) == 6)
        assert s.ids() == [1, 2, 3, 4, 5, 3]
        assert len(s.triggers._slots) == 1, "the same slot as before"

    play(server, scene)


def test_a_server_that_is_killed_while_changes_flow_loses_none() -> None:
    async def scene(s: Scene) -> None:
        await s.deploy(batch_size=7)
        written: list[int] = []

        async def write() -> None:
            while len(written) < 400:
                try:
                    db = await asyncpg.connect(s.server.address(), timeout=2)
                    try:
                        while len(written) < 400:
                            await db.execute("INSERT INTO t VALUES ($1)", len(written))
                            written.append(len(written))
                    finally:
                        db.terminate()
                except asyncpg.UniqueViolationError:  # it was committed, and the answer lost
                    written.append(len(written))
                except (OSError, TimeoutError, *asyncpg_errors()):
                    await asyncio.sleep(0.05)

        writing = s.events.scope_of_test.start(write(), "write")
        for count in (100, 250):
            await s.until(lambda count=count: len(written) > count)
            await asyncio.to_thread(s.server.kill)
            await asyncio.to_thread(s.server.start)
        await writing
        await s.until(lambda: set(s.ids()) == set(range(400)), 60)
        first = list(dict.fromkeys(s.ids()))
        assert first == list(range(400)), "in order, whatever was told twice"

    with postgres.running() as server:  # its own: it dies
        play(server, scene)


def test_a_crash_at_any_point_repeats_and_loses_nothing(server: postgres.Server) -> None:
    async def scene(s: Scene) -> None:
        await s.deploy(batch_size=4)
        count = 0
        for point in ("postgres.before_advance", "postgres.after_advance", "streams.after_call", "postgres.made"):
            crashed = asyncio.Event()

            def crash(name: str, point: str = point, crashed: asyncio.Event = crashed) -> None:
                if name == point and not crashed.is_set():
                    crashed.set()
                    raise asyncio.CancelledError

            kept, faults.point = faults.point, crash
            try:
                if point == "postgres.made":
                    await s.events.restart()
                await s.sql(f"INSERT INTO t SELECT generate_series({count}, {count + 9})")
                async with asyncio.timeout(10):
                    await crashed.wait()
                await s.events.restart()
            finally:
                faults.point = kept
            count += 10
            await s.until(lambda count=count: set(s.ids()) == set(range(count)))
        assert list(dict.fromkeys(s.ids())) == list(range(count))

    play(server, scene)


def test_a_long_transaction_is_not_begun_anew(server: postgres.Server) -> None:
    async def scene(s: Scene) -> None:
        await s.deploy(batch_size=500)
        stop_at = [3]

        def handler(call: FakeCall) -> None:
            stop_at[0] -= 1
            if stop_at[0] >= 0:
                s.take_all(call)  # the fourth batch stays inside

        s.events.handler = handler
        await s.sql("INSERT INTO t SELECT generate_series(1, 2600)")
        await s.until(lambda: stop_at[0] < 0)
        (slot,) = s.triggers._slots.values()
        assert slot.skip == len(s.ids()) > 1400
        s.events.handler = s.take_all
        await s.events.restart()
        await s.until(lambda: len(s.ids()) >= 2600)
        assert s.ids() == list(range(1, 2601)), "what was handed over is not handed over again"
        await s.sql("INSERT INTO t VALUES (3000)")
        await s.until(lambda: s.ids()[-1] == 3000)
        assert await SqlSlots(s.events.database).list_slots() == list(s.triggers._slots.values())

    play(server, scene)


def test_failures_are_halved_and_given_up_and_pass_by(server: postgres.Server) -> None:
    async def scene(s: Scene) -> None:
        await s.deploy(batch_size=8, bisect=True, max_attempts=1, filter={"data.new.id": {"numeric": ["<", 100]}})

        def handler(call: FakeCall) -> None:
            if any(event["data"]["new"]["a"] == "bad" for event in json.loads(call.body)):
                call.fail(FunctionRaised("ValueError: bad"))
            else:
                s.take_all(call)

        s.events.handler = handler
        await s.sql("INSERT INTO t SELECT g, CASE g WHEN 5 THEN 'bad' END FROM generate_series(1, 8) g",
                    "INSERT INTO t VALUES (100)", "INSERT INTO t VALUES (9)")  # fmt: skip
        await s.until(lambda: 9 in s.ids())
        assert sorted(s.ids()) == [1, 2, 3, 4, 6, 7, 8, 9]
        (dead,) = await s.events.list()
        assert (dead.state, dead.origin, dead.error) == ("failed", "trigger f/postgres", "function_raised")
        assert s.triggers.batches.outcomes["default", "f", "failed"] == 1

    play(server, scene)


def test_lanes_keep_the_order_of_each_row(server: postgres.Server) -> None:
    async def scene(s: Scene) -> None:
        await s.deploy(batch_size=3, parallelism=4)
        await s.sql("INSERT INTO t SELECT generate_series(1, 10)", "UPDATE t SET n = id", "DELETE FROM t")
        await s.until(lambda: len(s.ids()) == 30)
        for row in range(1, 11):
            told = [e["data"]["operation"] for batch in s.seen for e in batch if e["data"]["key"]["id"] == row]
            assert told == ["insert", "update", "delete"]

    play(server, scene)


def test_paused_it_reads_nothing_and_goes_on_from_there(server: postgres.Server) -> None:
    async def scene(s: Scene) -> None:
        await s.deploy()
        key = ("default", "f", "postgres")
        await s.events.path.governing.pause(PLATFORM, key, True, "")
        await s.sql("INSERT INTO t VALUES (1)")
        await s.until(lambda: s.triggers.gauges()[0].lag_bytes > 0)
        await asyncio.sleep(0.3)
        assert s.seen == []
        await s.events.path.governing.pause(PLATFORM, key, False, "")
        await s.until(lambda: s.ids() == [1])

    play(server, scene)


def test_a_slot_that_is_gone_is_told_and_made_anew_by_who_resumes(server: postgres.Server) -> None:
    async def scene(s: Scene) -> None:
        await s.deploy()
        (slot,) = s.triggers._slots.values()
        await s.events.close()
        await s.sql(f"SELECT pg_drop_replication_slot('{slot.name}')", "INSERT INTO t VALUES (1)")
        s.events._make()
        await s.events.open()
        await s.until(s.problem)
        status = await s.status()
        assert "is not there any more: changes since have been lost. Pause and resume" in status.problem
        assert await s.value(SLOTS) == 0, "it is not quietly made anew"
        await s.events.path.governing.pause(PLATFORM, slot.key, True, "")
        await s.until(lambda: not s.problem() and s.triggers.gauges())
        await s.events.path.governing.pause(PLATFORM, slot.key, False, "")
        async with asyncio.timeout(10):
            while await s.value(SLOTS) != 1:
                await asyncio.sleep(0.05)
        await s.sql("INSERT INTO t VALUES (2)")
        await s.until(lambda: s.ids() == [2])

    play(server, scene)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"tables": ("nowhere",)}, "table public.nowhere is not there"),
        ({"tables": ("bare",)}, "has nothing that tells its rows apart: updates of it would be refused"),
        ({"publication": "theirs"}, "there is no publication 'theirs'"),
        ({"secret": "NONE"}, "there is no secret 'NONE'"),
        ({"secret": "WRONG"}, "password authentication failed"),
        ({"secret": "ODD"}, "the secret holds no address of a PostgreSQL server"),
        ({"secret": "OPTION"}, "asks for options, which is not known"),
        ({"secret": "LOCAL"}, "which is not public"),
        ({"secret": "SOCKET"}, "holds no address"),
    ],
)
def test_what_has_to_be_set_right_is_told(server: postgres.Server, fields: dict[str, Any], says: str) -> None:
    async def scene(s: Scene) -> None:
        await s.sql("CREATE TABLE bare (id int)")
        address = s.server.address()
        s.events.tenants.secrets |= {
            "WRONG": address.replace("p%40ss", "x"), "ODD": "mysql://a/b", "OPTION": address + "&options=-c%20x=1",
            "LOCAL": address.replace("127.0.0.1", "10.1.2.3"), "SOCKET": "postgresql:///postgres?host=/run/postgresql",
        }  # fmt: skip
        await s.deploy(wait=False, **fields)
        await s.until(s.problem)
        assert says in (await s.status()).problem
        assert "p%40ss" not in (await s.status()).problem
        await s.sql("INSERT INTO bare VALUES (1)", "UPDATE bare SET id = 2", "DROP TABLE bare")
        if fields.get("secret"):  # what cannot be reached cannot be dropped either; nothing was made
            for slot in await SqlSlots(s.events.database).list_slots():
                await SqlSlots(s.events.database).forget(slot.name)
            await s.events.close()
            await s.events.platform.deploy("f")
            s.events._make()
            await s.events.open()

    play(server, scene)


def test_tables_and_operations_can_change_and_a_publication_of_others_serves(server: postgres.Server) -> None:
    async def scene(s: Scene) -> None:
        await s.sql("CREATE TABLE u (id int PRIMARY KEY)", "CREATE PUBLICATION theirs FOR TABLE u")
        await s.deploy(operations=("insert",))
        await s.sql("INSERT INTO t VALUES (1)", "DELETE FROM t")
        await s.until(lambda: s.ids() == [1])
        await s.deploy(("t", "u"), operations=("insert", "delete"))
        await s.until(lambda: not any(reader.stopping for reader, _ in s.triggers._readers.values()))
        query = "SELECT count(*) FROM pg_publication_tables WHERE pubname LIKE 'fuyun%'"
        async with asyncio.timeout(10):
            while await s.value(query) != 2:
                await asyncio.sleep(0.05)
        await s.sql("INSERT INTO u VALUES (2)", "DELETE FROM u")
        await s.until(lambda: s.ids() == [1, 2, 2])
        await s.deploy(("u",), publication="theirs")
        await s.until(lambda: [slot.publication for slot in s.triggers._slots.values()] == ["theirs"])
        async with asyncio.timeout(10):
            while await s.value("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'fuyun'") != 1:
                await asyncio.sleep(0.05)
        await s.sql("INSERT INTO t VALUES (3)", "INSERT INTO u VALUES (4)")
        await s.until(lambda: s.ids()[-1] == 4)
        assert 3 not in s.ids()
        await s.remove()
        await s.until(lambda: not s.triggers._slots)
        await s.sql("DROP PUBLICATION theirs", "DROP TABLE u")

    play(server, scene)


def test_large_values_that_did_not_change_are_named(server: postgres.Server) -> None:
    async def scene(s: Scene) -> None:
        await s.sql("ALTER TABLE t ALTER COLUMN a SET STORAGE EXTERNAL")
        await s.deploy()
        await s.sql("INSERT INTO t VALUES (1, repeat('x', 100000))", "UPDATE t SET n = 1",
                    "ALTER TABLE t REPLICA IDENTITY FULL", "UPDATE t SET n = 2")  # fmt: skip
        await s.until(lambda: len(s.ids()) == 3)
        inserted, updated, full = [event["data"] for batch in s.seen for event in batch]
        assert len(inserted["new"]["a"]) == 100000
        assert (updated["unchanged"], "a" in updated["new"]) == (["a"], False)
        assert (full["unchanged"], len(full["new"]["a"])) == ([], 100000), "the old row has it"

    play(server, scene)


def test_the_log_is_let_go_where_others_write_much(server: postgres.Server) -> None:
    async def scene(s: Scene) -> None:
        await s.deploy()
        place = await s.value("SELECT confirmed_flush_lsn::text FROM pg_replication_slots")
        await s.sql("CREATE TABLE noise AS SELECT g, repeat('y', 500) FROM generate_series(1, 40000) g")
        async with asyncio.timeout(20):
            while await s.value("SELECT confirmed_flush_lsn::text FROM pg_replication_slots") == place:
                await asyncio.sleep(0.05)
        await s.sql("DROP TABLE noise", "INSERT INTO t VALUES (1)")
        await s.until(lambda: s.ids() == [1])

    play(server, scene)
