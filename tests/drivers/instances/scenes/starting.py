"""The start ladder: where instances come from, and that each is its own."""

from __future__ import annotations

import asyncio

from fuyun.domain.errors import (
    FunctionExited,
    FunctionInitFailed,
    FunctionLoadFailed,
    HandlerMissing,
    HostUnable,
)
from tests.drivers.instances.scenes.hosts import rig
from tests.drivers.instances.scenes.rig import ECHO, MIB, Rig, changed, failure
from tests.leaks import state_of

SLOW = "import time\ntime.sleep(0.03)\n" + ECHO

UNIQUE = """
    import os, random, secrets, ssl, tempfile, uuid
    random.random(), uuid.uuid1(), uuid.uuid4(), ssl.RAND_bytes(8), secrets.token_hex()

    def handler(event, context):
        return {
            "random": random.random(), "own": random.Random().random(), "system": random.SystemRandom().random(),
            "uuid1": str(uuid.uuid1()), "uuid4": str(uuid.uuid4()), "secrets": secrets.token_hex(8),
            "urandom": os.urandom(8).hex(), "ssl": ssl.RAND_bytes(8).hex(), "tempfile": tempfile.mktemp(),
            "instance": context.instance,
        }
"""


async def _rows(host: Rig) -> dict[str, int]:
    return {kind: len(await host.rows(kind)) for kind in ("templates", "instances")}


async def from_a_blank() -> None:
    async with rig() as host:
        await host.wait_blanks(1)
        instance = await host.start(host.version(start="blank"))
        report = instance.report
        assert report.kind == "blank"
        assert min(report.place_ms, report.start_ms, report.init_ms) >= 0
        assert (report.mode, report.forkable) == ("event", True)
        assert await host.ask(instance, {"a": [1]}) == {"a": [1]}
        assert instance.inflight == 0
        (row,) = await host.rows("instances")
        assert row["id"] == instance.id
        assert row["pid"] == instance.pid
        assert row["private_bytes"] > 0
        assert state_of(instance.pid) in ("S", "R")
        await host.wait_blanks(1)  # the one that was taken is replaced
        await instance.stop(5)
        assert host.gone == [instance.id]
        assert await host.rows("instances") == []


async def from_nothing_and_from_the_zygote() -> None:
    async with rig(blanks=0) as host:
        first = await host.start(host.version(start="blank"))
        second = await host.start(host.version(start="blank"))
        assert [first.report.kind, second.report.kind] == ["none", "zygote"]
        assert await host.ask(first, 1) + await host.ask(second, 2) == 3


async def from_a_template() -> None:
    async with rig() as host:
        version = host.version("import os\nloaded = os.urandom(8).hex()\ndef handler(event):\n    return loaded\n")
        version = changed(version, start="template")
        report = await host.host.prepare(version, {})
        assert report.kind == "template"
        instances = [await host.start(version) for _ in range(3)]
        assert [instance.report.kind for instance in instances] == ["template"] * 3
        assert {instance.report.init_ms for instance in instances} == {0.0}
        assert len({await host.ask(instance) for instance in instances}) == 1  # loaded once
        assert await _rows(host) == {"templates": 1, "instances": 3}
        for instance in instances:
            await instance.stop(5)
        assert await _rows(host) == {"templates": 1, "instances": 0}


async def what_is_slow_to_load_gets_a_template() -> None:
    async with rig() as host:
        version = host.version(SLOW)
        first = await host.start(version)
        assert first.report.kind in ("none", "zygote", "blank")
        await host.wait_template(version)


async def what_is_quick_to_load_gets_none() -> None:
    async with rig(template_from_ms=10_000) as host:
        version = host.version()
        assert (await host.host.prepare(version, {})).kind != "template"
        await host.start(version)
        await host.wait_rows("templates", 0)


async def a_changed_environment_is_loaded_anew() -> None:
    async with rig() as host:
        code = "import os\nseen = os.environ.get('COLOUR')\ndef handler(event):\n    return seen\n"
        version = changed(host.version(code), start="template")
        await host.host.prepare(version, {"COLOUR": "red"})
        red = await host.start(version, {"COLOUR": "red"})
        blue = await host.start(version, {"COLOUR": "blue"})
        assert [await host.ask(red), await host.ask(blue)] == ["red", "blue"]
        assert blue.report.kind != "template"
        blue = await host.wait_template(version, {"COLOUR": "blue"})
        assert [await host.ask(red), await host.ask(blue)] == ["red", "blue"]


async def what_keeps_several_instances_gets_a_template() -> None:
    async with rig(template_from_ms=10_000) as host:
        version = changed(host.version(), min_instances=4)
        assert (await host.host.prepare(version, {})).kind == "template"
        instances = [await host.start(version) for _ in range(2)]
        assert [instance.report.kind for instance in instances] == ["template"] * 2
        await instances[0].stop(5)
        assert await _rows(host) == {"templates": 1, "instances": 1}
        await instances[1].stop(5)
        await host.wait_rows("templates", 0)  # it saved memory, not time


async def what_has_grown_to_several_instances_gets_a_template() -> None:
    async with rig(template_from_ms=10_000) as host:
        version = host.version()
        for _ in range(4):
            assert version.key not in host.host._making
            assert (await host.start(version)).report.kind != "template"
        await host.wait_template(version)
        assert (await host.start(version)).report.kind == "template"


async def a_forgotten_template_lives_as_long_as_its_instances() -> None:
    async with rig() as host:
        version = changed(host.version(), start="template")
        await host.host.prepare(version, {})
        instances = [await host.start(version) for _ in range(2)]
        (row,) = await host.rows("templates")
        host.host.forget(version.key)
        assert (await host.start(version)).report.kind != "template"
        await instances[0].stop(5)
        assert await host.ask(instances[1], "still here") == "still here"
        await instances[1].stop(5)
        await host.until(lambda: state_of(row["pid"]) in ("", "Z"), "the template to end")
        host.host.forget(version.key)
        host.host.forget("default/never@1")


async def a_template_without_instances_goes_at_once() -> None:
    async with rig() as host:
        version = changed(host.version(), start="template")
        await host.host.prepare(version, {})
        (row,) = await host.rows("templates")
        await (await host.start(version)).stop(5)
        host.host.forget(version.key)
        await host.until(lambda: state_of(row["pid"]) in ("", "Z"), "the template to end")
        await host.wait_rows("templates", 0)


async def templates_share_a_budget() -> None:
    async with rig(template_budget_bytes=12 * MIB) as host:
        versions = [
            changed(host.version(f"block = bytearray(b'x') * {8 * MIB} # {n}\n" + ECHO), start="template")
            for n in range(3)
        ]
        for version in versions:
            await host.host.prepare(version, {})
        (row,) = await host.wait_rows("templates", 1)
        assert row["private_bytes"] > 8 * MIB
        assert await host.ask(await host.start(versions[0]), 1) == 1  # an evicted one starts as well


async def what_cannot_be_forked_starts_from_blanks() -> None:
    holding = {
        "threading.Thread(target=threading.Event().wait, daemon=True).start()": "thread",
        "kept = socket.socketpair()": "socket",
        "kept = os.popen('cat')": "process",
    }
    async with rig() as host:
        for line, word in holding.items():
            version = host.version(f"import os, socket, threading, time\ntime.sleep(0.02)\n{line}\n" + ECHO)
            report = await host.host.prepare(version, {})
            assert not report.forkable, line
            assert word in report.unforkable_reason, report.unforkable_reason
            instance = await host.start(version)
            assert instance.report.kind != "template"
            assert await host.ask(instance, 5) == 5
            (row,) = [row for row in await host.rows("instances") if row["id"] == instance.id]
            assert word in row["reason"]
            await instance.stop(5)
        await host.wait_rows("templates", 0)


async def fifty_instances_of_one_template_are_each_their_own() -> None:
    async with rig() as host:
        version = changed(host.version(UNIQUE), start="template")
        await host.host.prepare(version, {})
        instances = [await host.start(version) for _ in range(50)]
        found = [await host.ask(instance) for instance in instances]
        for name in found[0]:
            assert len({one[name] for one in found}) == 50, name
        assert {one["instance"] for one in found} == {instance.id for instance in instances}


async def a_burst_is_answered() -> None:
    async with rig(blanks=2) as host:
        for start in ("blank", "template"):
            version = changed(host.version(), start=start)
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(host.start(version)) for _ in range(25)]
            answers = [await host.ask(task.result(), n) for n, task in enumerate(tasks)]
            assert answers == list(range(25))
            for task in tasks:
                task.result().kill("done")
            await host.wait_rows("instances", 0)


async def what_fails_to_load_says_why() -> None:
    cases = {
        "def handler(event\n": FunctionLoadFailed,
        "import nonesuch\n": FunctionLoadFailed,
        "raise RuntimeError('at module level')\n": FunctionLoadFailed,
        "x = 1\n": HandlerMissing,
        "import os\nos._exit(5)\n": FunctionExited,
        "import time\ntime.sleep(60)\n": FunctionInitFailed,
    }
    async with rig() as host:
        for start in ("blank", "template"):
            for code, kind in cases.items():
                version = changed(host.version(code), start=start)
                hooks = {"initializer_timeout_s": 0.5}
                version = changed(version, hooks=type(version.spec.hooks)(**hooks))
                for attempt in (host.start(version), host.host.prepare(version, {})):
                    error = await failure(attempt)
                    assert type(error) is kind, (code, error)
                    if kind is FunctionExited:
                        assert error.fields == {"exit_code": 5}, error.fields
        await host.wait_rows("instances", 0)
        assert host.gone == []
        assert await host.ask(await host.start(host.version()), 1) == 1


async def without_isolation() -> None:
    async with rig() as host:
        code = "import os\ndef handler(event):\n    return os.path.isdir(event), os.getpid() == os.getpgrp()\n"
        instance = await host.start(host.version(code, isolation="process"))
        assert await host.ask(instance, str(host.root)) == [True, True]
        await instance.stop(5)


async def where_there_are_no_namespaces() -> None:
    async with rig(namespaces=False) as host:
        assert not host.host.sandboxed
        instance = await host.start(host.version(isolation="process"))
        assert await host.ask(instance, 1) == 1
        error = await failure(host.start(host.version()))
        assert type(error) is HostUnable
        assert "user namespaces" in error.detail


async def a_template_being_made_for_a_version_that_is_forgotten() -> None:
    async with rig() as host:
        version = host.version("import time\ntime.sleep(0.3)\n" + ECHO)
        instance = await host.start(version)
        await host.wait_rows("templates", 1)  # it is loading
        host.host.forget(version.key)
        await host.wait_rows("templates", 0)
        await asyncio.sleep(0.5)
        assert await host.rows("templates") == []
        assert await host.ask(instance, 1) == 1


async def what_an_instance_may_open() -> None:
    code = "import resource\ndef handler(event):\n    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]\n"
    async with rig() as host:
        for isolation in ("sandbox", "process"):
            instance = await host.start(host.version(code, isolation=isolation))
            assert await host.ask(instance) == 1024
