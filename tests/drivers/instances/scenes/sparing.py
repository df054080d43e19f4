"""Spares: copies of a template that wait to become instances."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fuyun.domain.errors import FunctionInitFailed, FunctionOutOfMemory, FunctionRaised
from fuyun.domain.functions import Version
from fuyun.drivers.instances.templates import Template
from tests import leaks
from tests.drivers.instances.scenes.hosts import rig
from tests.drivers.instances.scenes.rig import ECHO, MIB, Rig, changed, check_freezing, failure
from tests.drivers.instances.scenes.starting import UNIQUE

RESTORED = """
    import time
    from fuyun.sdk import after_restore
    restored = []

    @after_restore
    def note():
        restored.append(time.monotonic())

    def handler(event):
        return restored
"""
HUNGRY = "def handler(event):\n    return len(bytearray(b'x') * (200 * 2**20))\n"


@asynccontextmanager
async def _sparing(code: str = ECHO, *, own: bool = False, **spec: Any) -> AsyncIterator[tuple[Rig, Version]]:
    """A host where every template keeps a spare, and a version whose template has one."""
    async with rig(own=own, spare_from_ms=0.001) as host:
        version = host.version(code, start="template", **spec)
        await host.host.prepare(version, {})
        await (await host.start(version)).stop(5)
        await host.wait_rows("spares", 1)
        yield host, version


async def _next(host: Rig, old: set[int]) -> int:
    """The process id of a spare that is none of the old ones."""
    await host.until(lambda: set(host.pids("spares")) - old, "another spare")
    return (set(host.pids("spares")) - old).pop()


def _template(host: Rig, version: Version) -> Template:
    return host.host._templates._templates[version.key]


async def _ends(host: Rig, pid: int) -> None:
    await host.until(lambda: leaks.state_of(pid) in ("", "Z"), "the spare to end")
    await host.wait_rows("spares", 0)


async def a_spare_becomes_an_instance_and_is_replaced() -> None:
    async with _sparing() as (host, version):
        (row,) = await host.rows("spares")
        assert (row["version"], row["kind"]) == (version.key, "spare")
        assert row["private_bytes"] > 0
        assert await host.rows("instances") == []
        instance = await host.start(version)
        assert (instance.id, instance.pid) == (row["id"], row["pid"])
        assert instance.report.kind == "template"
        assert await host.ask(instance, {"a": 1}) == {"a": 1}
        assert [found["id"] for found in await host.rows("instances")] == [row["id"]]
        assert await _next(host, {row["pid"]}) != row["pid"]
        await instance.stop(5)
        assert host.gone[-1] == instance.id
        assert len(await host.rows("spares")) == 1


async def what_forks_quickly_keeps_none() -> None:
    async with rig(spare_from_ms=10_000) as host:
        version = host.version(start="template")
        await host.host.prepare(version, {})
        instance = await host.start(version)
        template = _template(host, version)
        assert template.fork_ms > 0
        assert (template.sparing, template.spare) == (False, None)
        await instance.stop(5)


async def what_is_large_keeps_one_before_its_first_fork() -> None:
    async with rig() as host:
        version = host.version(f"block = bytearray(b'x') * {32 * MIB}\n" + ECHO, start="template")
        await host.host.prepare(version, {})
        (row,) = await host.wait_rows("spares", 1)
        assert (await host.start(version)).pid == row["pid"]


async def a_template_kept_for_memory_keeps_none() -> None:
    async with rig(template_from_ms=10_000, spare_from_ms=0.001) as host:
        version = changed(host.version(), min_instances=4)
        await host.host.prepare(version, {})
        instance = await host.start(version)
        assert instance.report.kind == "template"
        template = _template(host, version)
        assert (template.sparing, template.spare) == (False, None)
        await instance.stop(5)
        await host.wait_rows("templates", 0)


async def a_spare_runs_nothing_of_the_author_before_it_is_taken() -> None:
    async with _sparing(RESTORED) as (host, version):
        await asyncio.sleep(0.1)
        taken_s = time.monotonic()
        (restored_s,) = await host.ask(await host.start(version))
        assert restored_s >= taken_s


async def spares_are_each_their_own() -> None:
    async with _sparing(UNIQUE) as (host, version):
        found, old = [], set[int]()
        for _ in range(6):
            pid = await _next(host, old)
            old.add(pid)
            instance = await host.start(version)
            assert instance.pid == pid
            found.append(await host.ask(instance))
        for name in found[0]:
            assert len({one[name] for one in found}) == 6, name


async def more_starts_than_spares() -> None:
    async with _sparing() as (host, version):
        (row,) = await host.rows("spares")
        instances = await asyncio.gather(*(host.start(version) for _ in range(12)))
        assert {one.report.kind for one in instances} == {"template"}
        assert [one.pid for one in instances].count(row["pid"]) == 1
        assert [await host.ask(one, n) for n, one in enumerate(instances)] == list(range(12))
        await _next(host, {row["pid"]})
        assert len(await host.rows("spares")) == 1


async def a_spare_that_dies_is_replaced() -> None:
    async with _sparing() as (host, version):
        old = set[int]()
        for losses in range(3):
            pid = await _next(host, old)
            old.add(pid)
            assert _template(host, version).losses == losses  # each makes the next pause longer
            os.kill(pid, signal.SIGKILL)
            await _ends(host, pid)
        pid = await _next(host, old)
        assert (await host.start(version)).pid == pid
        assert _template(host, version).losses == 0


async def a_spare_that_dies_as_it_is_taken_fails_no_start() -> None:
    async with _sparing() as (host, version):
        old = set[int]()
        for _ in range(5):
            pid = await _next(host, old)
            old.add(pid)
            os.kill(pid, signal.SIGKILL)
            instance = await host.start(version)
            assert (instance.pid != pid, instance.report.kind) == (True, "template")
            assert await host.ask(instance, 1) == 1


async def a_spare_that_was_stopped_is_not_waited_for() -> None:
    async with _sparing() as (host, version):
        (row,) = await host.rows("spares")
        os.kill(row["pid"], signal.SIGSTOP)
        await host.until(lambda: leaks.state_of(row["pid"]) == "T", "it to stop")
        instance = await host.start(version)  # FunctionInitFailed, if it were waited for
        assert (instance.pid != row["pid"], instance.report.kind) == (True, "template")
        assert await host.ask(instance, 1) == 1
        await host.until(lambda: leaks.state_of(row["pid"]) in ("", "Z"), "the spare to end")
        pid = await _next(host, {row["pid"]})
        assert (await host.start(version)).pid == pid


async def a_hook_that_fails_in_a_spare_fails_the_start() -> None:
    code = RESTORED.replace("restored.append(time.monotonic())", "raise OSError('not today')")
    async with rig(spare_from_ms=0.001) as host:
        version = host.version(f"{code}\n    block = bytearray(b'x') * {32 * MIB}\n", start="template")
        await host.host.prepare(version, {})
        await host.wait_rows("spares", 1)
        assert type(await failure(host.start(version))) is FunctionInitFailed


async def a_spare_goes_with_its_version() -> None:
    async with _sparing() as (host, version):
        (row,) = await host.rows("spares")
        instance = await host.start(version)
        pid = await _next(host, {row["pid"]})
        host.host.forget(version.key)
        await _ends(host, pid)
        assert await host.ask(instance, 1) == 1  # and its template stays for it
        assert len(await host.rows("templates")) == 1


async def a_spare_goes_when_the_environment_changes() -> None:
    async with _sparing() as (host, version):
        (row,) = await host.rows("spares")
        instance = await host.start(version, {"COLOUR": "blue"})
        assert instance.pid != row["pid"]
        await host.until(lambda: leaks.state_of(row["pid"]) in ("", "Z"), "the spare to end")


async def a_spare_being_made_for_a_version_that_is_forgotten() -> None:
    for delay_s in (0.0, 0.1, 0.105, 0.115):
        async with rig(spare_from_ms=0.001) as host:
            version = host.version(start="template")
            await host.host.prepare(version, {})
            instance = await host.start(version)
            await asyncio.sleep(delay_s)
            host.host.forget(version.key)
            await asyncio.sleep(0.3)
            assert await host.rows("spares") == []
            assert await host.ask(instance, 1) == 1


async def spares_get_what_templates_leave_of_the_budget() -> None:
    async with _sparing() as (host, version):
        template, ground = _template(host, version), host.host._ground
        await host.until(lambda: template.spare_bytes, "it to be measured")
        budget = template.size_bytes + template.spare_bytes // 2
        ground.options = dataclasses.replace(ground.options, template_budget_bytes=budget)
        (row,) = await host.rows("spares")
        other = host.version(f"block = bytearray(b'x') * {8 * MIB}\n" + ECHO, start="template")
        await host.host.prepare(other, {})  # finds no room either
        await _ends(host, row["pid"])
        await host.wait_rows("templates", 1)
        (kept,) = await host.rows("templates")
        assert kept["version"] == version.key
        assert (await host.start(version)).report.kind == "template"
        await host.until(lambda: not template.sparing, "it to be thought over")
        assert await host.rows("spares") == []


async def a_template_with_a_spare_dies() -> None:
    async with _sparing() as (host, version):
        ((spare,), (row,)) = await host.rows("spares"), await host.rows("templates")
        os.kill(row["pid"], signal.SIGKILL)
        await _ends(host, spare["pid"])
        assert await host.ask(await host.start(version), 1) == 1


async def the_warden_dies_while_a_spare_waits() -> None:
    async with _sparing(own=True) as (host, version):
        (row,) = await host.rows("spares")
        os.kill(host.host.warden.pid, signal.SIGKILL)
        await host.until(lambda: leaks.state_of(row["pid"]) in ("", "Z"), "the spare to end")
        await host.wait_rows("spares", 0)
        await host.until(lambda: host.host.warden.pid and host.host.hello, "another warden")
        await (await host.wait_template(version)).stop(5)
        await host.wait_rows("spares", 1)


async def closed_while_a_spare_is_made() -> None:
    for delay_s in (0.0, 0.1, 0.105, 0.115):
        before = leaks.children()
        async with rig(own=True, spare_from_ms=0.001) as host:
            version = host.version(start="template")
            await host.host.prepare(version, {})
            instance = await host.start(version)
            await asyncio.sleep(delay_s)
            began = {instance.pid, host.host.warden.pid, *leaks.descendants(host.host.warden.pid)}
        await host.until(
            lambda began=began: not any(leaks.state_of(pid) not in ("", "Z") for pid in began), "all to end"
        )
        assert leaks.children() <= before


async def what_was_a_spare_can_be_frozen() -> None:
    async with _sparing() as (host, version):
        (row,) = await host.rows("spares")
        instance = await host.start(version)
        assert instance.pid == row["pid"]
        await check_freezing(host, instance)


async def what_was_a_spare_has_its_limits() -> None:
    async with _sparing(HUNGRY, memory_bytes=96 * MIB) as (host, version):
        (row,) = await host.rows("spares")
        instance = await host.start(version)
        assert instance.pid == row["pid"]
        error = await host.call(instance).error()
        # by the control group's limit, or where there is none by the process's own, which a handler can catch
        assert type(error) in (FunctionOutOfMemory, FunctionRaised), error
