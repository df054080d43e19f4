"""Zygotes of layers: what versions with the same layers start from."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import textwrap
from typing import Any

import msgspec

from fuyun.domain.functions import Artifact, Version
from fuyun.ports.instances import Instance
from tests import leaks
from tests.drivers.instances.scenes.hosts import rig
from tests.drivers.instances.scenes.rig import MIB, Rig

#: A package that takes long to import, for which it sleeps, and says in which process that was done.
PACKAGE = """
    import os, random, time, uuid
    token = uuid.uuid4().hex
    colour = os.environ.get("COLOUR", "none")
    time.sleep(0.05)
"""
#: A handler that cannot be forked: each of its instances loads it.
HELD = "import socket\nkept = socket.socket()\n"
USES = "import heavy.part\ndef handler(event):\n    return [heavy.token, heavy.colour, event]\n"


def layered(host: Rig, code: str, package: str = PACKAGE, **spec: Any) -> Version:
    """A version of `code` with a layer that holds the package `heavy`."""
    files = {"heavy/__init__.py": textwrap.dedent(package), "heavy/part.py": "name = 'part'\n"}
    digest = hashlib.sha256(repr(files).encode()).hexdigest()
    folder = host.root / digest[:2] / digest
    (folder / "heavy").mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    for place in (folder.parent, folder, *folder.rglob("*")):
        place.chmod(0o755)
    version = host.version(code, **spec)
    return msgspec.structs.replace(version, layers=(Artifact(digest=digest, size_bytes=1),))


async def _zygotes(host: Rig) -> list[dict[str, Any]]:
    """The rows of zygotes of layers."""
    return [row for row in await host.rows("zygotes") if "names" in row]


async def _wait_zygote(host: Rig) -> dict[str, Any]:
    """The only one, once it is there."""
    async with asyncio.timeout(15):
        while not (found := await _zygotes(host)):
            await asyncio.sleep(0.005)
    (row,) = found
    return row


async def _first(host: Rig, version: Version, env: dict[str, str] | None = None) -> dict[str, Any]:
    """Start it once, from a blank; the zygote that is made of that."""
    instance = await host.start(version, env)
    assert instance.report.kind in ("blank", "zygote", "none")
    await instance.stop(5)
    return await _wait_zygote(host)


async def _told(host: Rig, instance: Instance) -> str:
    token, _, _ = await host.ask(instance)
    return str(token)


async def another_version_finds_the_imports_done() -> None:
    async with rig() as host:
        row = await _first(host, layered(host, HELD + USES))
        assert row["names"] == ["heavy"]
        assert row["version"].startswith("default: python3.")
        assert row["saved_ms"] >= 50
        assert 0 < row["private_bytes"] <= row["rss_bytes"]
        other = layered(host, "import heavy.part\n" + HELD + USES.replace("event]", "'other']"))
        assert host.host.plan_of(other).rung != "layers"  # nothing is known of it yet
        one, two = await host.start(other), await host.start(other)
        assert (one.report.kind, two.report.kind) == ("layers", "layers")
        assert one.report.init_ms < 50
        assert host.host.plan_of(other).rung == "layers"
        assert await _told(host, one) == await _told(host, two), "one import served both"
        assert (await host.ask(one))[2] == "other"
        (found,) = [process for process in await host.rows("instances") if process["id"] == one.id]
        assert found["start"] == "layers"
        assert found["saved_ms"] >= 50


async def a_template_is_made_from_it() -> None:
    async with rig() as host:
        await _first(host, layered(host, HELD + USES))
        other = layered(host, USES, start="template")
        report = await host.host.prepare(other, {})
        assert report.init_ms < 50
        (row,) = await host.rows("templates")
        assert row["version"] == other.key
        instances = [await host.start(other) for _ in range(3)]
        assert {one.report.kind for one in instances} == {"template"}
        assert len({await _told(host, one) for one in instances}) == 1
        os.kill(row["pid"], signal.SIGKILL)
        await host.until(lambda: all(one.gone for one in instances), "its instances to end with it")
        assert (await host.start(other)).report.kind == "layers"


async def each_namespace_has_its_own() -> None:
    async with rig() as host:
        await _first(host, layered(host, HELD + USES))
        other = msgspec.structs.replace(layered(host, HELD + "#\n" + USES), namespace="other")
        one = await host.start(other)
        assert one.report.kind != "layers"
        async with asyncio.timeout(15):
            while len(found := await _zygotes(host)) < 2:
                await asyncio.sleep(0.005)
        assert sorted(row["version"].partition(":")[0] for row in found) == ["default", "other"]
        assert (await host.start(other)).report.kind == "layers"


async def each_environment_has_its_own() -> None:
    async with rig() as host:
        version = layered(host, HELD + USES)
        await _first(host, version)
        blue = await host.start(version, {"COLOUR": "blue"})
        assert blue.report.kind != "layers"
        assert (await host.ask(blue))[1] == "blue"
        async with asyncio.timeout(15):
            while len(await _zygotes(host)) < 2:
                await asyncio.sleep(0.005)
        again = await host.start(version, {"COLOUR": "blue"})
        assert (again.report.kind, (await host.ask(again))[1]) == ("layers", "blue")


async def code_that_hides_a_module_of_theirs_starts_without() -> None:
    async with rig() as host:
        await _first(host, layered(host, HELD + USES))
        other = layered(host, HELD + "import heavy\ndef handler(event):\n    return heavy.own\n")
        folder = host.root / other.code.digest[:2] / other.code.digest
        (folder / "heavy.py").write_text("own = True\n")
        (folder / "heavy.py").chmod(0o644)
        instance = await host.start(other)
        assert instance.report.kind != "layers"
        assert await host.ask(instance) is True


async def what_sets_variables_before_its_imports_starts_without() -> None:
    async with rig() as host:
        await _first(host, layered(host, HELD + USES))
        other = layered(host, "import os\nos.environ['COLOUR'] = 'red'\n" + HELD + USES)
        for _ in range(2):
            instance = await host.start(other)
            assert instance.report.kind != "layers"
            assert (await host.ask(instance))[1] == "red"
        assert len(await _zygotes(host)) == 1


async def what_asks_for_blanks_starts_without() -> None:
    async with rig() as host:
        await _first(host, layered(host, HELD + USES))
        instance = await host.start(layered(host, HELD + USES, start="blank"))
        assert instance.report.kind != "layers"


async def imports_that_cannot_be_shared_are_not() -> None:
    async with rig() as host:
        package = PACKAGE + "    import socket\n    kept = socket.socket()\n"
        version = layered(host, USES, package)
        await (await host.start(version)).stop(5)
        await host.until(lambda: host.host._layers._refused, "the try to make one")
        assert await _zygotes(host) == []
        instance = await host.start(version)
        assert (instance.report.kind != "layers", (await host.ask(instance, 1))[2]) == (True, 1)
        host.host.forget(version.key)
        assert host.host._layers._refused == {}


async def its_instances_have_limits_and_ends_of_their_own() -> None:
    async with rig() as host:
        await _first(host, layered(host, HELD + USES))
        code = HELD + "import heavy.part, os, sys\ndef handler(event):\n    os._exit(event)\n"
        quits = layered(host, code)
        instance = await host.start(quits)
        assert instance.report.kind == "layers"
        error = await host.call(instance, 3).error()
        assert (error.code, error.fields.get("exit_code")) == ("function_exited", 3)
        code = HELD + "import heavy.part\ndef handler(event):\n    return len(bytearray(b'x') * (200 * 2**20))\n"
        instance = await host.start(layered(host, code, memory_bytes=96 * MIB))
        assert instance.report.kind == "layers"
        error = await host.call(instance).error()
        assert error.code in ("function_out_of_memory", "function_raised"), error
        assert len(await _zygotes(host)) == 1, "it outlives them"


async def a_larger_version_than_the_one_it_was_made_for() -> None:
    async with rig() as host:
        await _first(host, layered(host, HELD + USES, memory_bytes=64 * MIB))
        code = HELD + "import heavy.part\ndef handler(event):\n    return len(bytearray(b'x') * (100 * 2**20))\n"
        instance = await host.start(layered(host, code, memory_bytes=256 * MIB))
        assert instance.report.kind == "layers"
        assert await host.ask(instance) == 100 * MIB


async def instances_of_one_draw_different_values() -> None:
    async with rig() as host:
        package = PACKAGE + "    import ssl, tempfile\n    random.random(), uuid.uuid1(), tempfile.mktemp()\n"
        package += "    ssl.RAND_bytes(8)\n"
        await _first(host, layered(host, HELD + USES, package))
        draws = """
            import socket
            kept = socket.socket()
            import heavy.part, os, random, secrets, ssl, tempfile, uuid
            def handler(event, context):
                return {
                    "random": random.random(), "secrets": secrets.token_hex(8), "ssl": ssl.RAND_bytes(8).hex(),
                    "uuid1": str(uuid.uuid1()), "uuid4": str(uuid.uuid4()), "tempfile": tempfile.mktemp(),
                    "urandom": os.urandom(8).hex(), "instance": context.instance,
                }
        """
        version = layered(host, draws, package)
        instances = await asyncio.gather(*(host.start(version) for _ in range(8)))
        assert {one.report.kind for one in instances} == {"layers"}
        found = [await host.ask(one) for one in instances]
        for name in found[0]:
            assert len({one[name] for one in found}) == len(found), name


async def it_goes_with_the_last_version_that_uses_it() -> None:
    async with rig() as host:
        old, new = layered(host, HELD + USES), layered(host, HELD + "#\n" + USES)
        row = await _first(host, old)
        instance = await host.start(new)
        assert (await _wait_zygote(host))["serves"] == sorted([old.key, new.key])
        host.host.forget(old.key)
        assert [row["serves"] for row in await _zygotes(host)] == [[new.key]]
        host.host.forget(new.key)
        assert await host.ask(instance, 1), "it stays for its instances"
        assert len(await _zygotes(host)) == 1
        assert (await host.start(new)).report.kind != "layers"
        await instance.stop(5)
        await host.until(lambda: leaks.state_of(row["pid"]) in ("", "Z"), "it to end")


async def one_whose_versions_go_while_it_is_made_is_not_kept() -> None:
    async with rig() as host:
        one, two = layered(host, HELD + USES), layered(host, HELD + "#\n" + USES)
        instances = [await host.start(version) for version in (one, two)]
        (waiting,) = host.host._layers._making.values()
        assert waiting == {one.key, two.key}, "the import takes longer than a start"
        host.host.forget(one.key)
        host.host.forget(two.key)
        for instance in instances:
            await instance.stop(5)
        await host.until(lambda: not host.host._layers._making, "it to be made")
        assert await _zygotes(host) == []
        known = host.host._ground.processes
        await host.until(lambda: all(process.kind != "zygote" for process in known.values()), "it to end")


async def one_that_dies_takes_its_instances_along_and_is_replaced() -> None:
    async with rig() as host:
        version = layered(host, HELD + USES)
        row = await _first(host, version)
        instance = await host.start(version)
        assert instance.report.kind == "layers"
        os.kill(row["pid"], signal.SIGKILL)
        await host.until(lambda: instance.gone, "its instance to end")
        await host.until(lambda: not host.host._layers._zygotes, "it to be forgotten")
        assert (await host.start(version)).report.kind != "layers"
        assert (await _wait_zygote(host))["pid"] != row["pid"]
        assert (await host.start(version)).report.kind == "layers"


async def one_that_was_stopped_is_given_up() -> None:
    async with rig() as host:
        version = layered(host, HELD + USES)
        row = await _first(host, version)
        os.kill(row["pid"], signal.SIGSTOP)
        instance = await host.start(version)  # after the five seconds that a fork may take
        assert (instance.report.kind != "layers", (await host.ask(instance, 1))[2]) == (True, 1)


async def the_warden_dies_with_zygotes_of_layers() -> None:
    async with rig(own=True) as host:
        version = layered(host, HELD + USES)
        await _first(host, version)
        os.kill(host.host.warden.pid, signal.SIGKILL)
        await host.until(lambda: host.host.warden.pid and host.host.hello, "another warden")
        await host.until(lambda: not host.host._layers._zygotes, "them to be forgotten")
        assert await host.ask(await host.start(version), 1)


async def the_least_worth_goes_when_memory_is_short() -> None:
    async with rig(own=True, template_budget_bytes=24 * MIB) as host:
        await _first(host, layered(host, HELD + USES))
        await host.host.prepare(layered(host, "import time\ntime.sleep(0.3)\n" + USES, start="template"), {})
        found = await host.host.inventory()
        assert 0 < found["budget"]["held_bytes"] <= found["budget"]["limit_bytes"] == 24 * MIB
        assert found["budget"]["evicted"] == {"template": 0, "zygote": 0}
        big = PACKAGE + f"    block = bytearray(b'x') * {24 * MIB}\n"
        await (await host.start(layered(host, HELD + USES, big))).stop(5)
        await host.until(lambda: host.host._budget.evicted["zygote"], "one to go")
        found = await host.host.inventory()
        assert found["budget"]["evicted"] == {"template": 0, "zygote": 1}
        assert found["budget"]["held_bytes"] <= 24 * MIB
        assert len(found["templates"]) == 1, "a template that saves more stays"
        version = layered(host, HELD + USES, big)
        await (await host.start(version)).stop(5)
        assert host.host._layers._making == {}, "it is not made again to be given up again"
