"""What breaks while it is needed: zygotes, wardens, templates, the host itself; and code that wants it to."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable
from contextlib import suppress
from types import SimpleNamespace

from fuyun.base import clock, ids
from fuyun.domain.errors import FuyunError, InstanceLost, Unavailable
from fuyun.drivers.instances import parents
from fuyun.drivers.instances.process import Process
from fuyun.ports.instances import Instance
from tests import leaks
from tests.drivers.instances.scenes.hosts import rig, store
from tests.drivers.instances.scenes.rig import ECHO, LASTING, Rig, changed, failure


async def _outcomes(attempts: list[Awaitable[Instance]]) -> list[Instance | BaseException]:
    async with asyncio.timeout(40):
        return await asyncio.gather(*attempts, return_exceptions=True)


async def _works(host: Rig) -> None:
    instance = await host.start(host.version())
    assert await host.ask(instance, "works") == "works"
    await instance.stop(5)


async def a_zygote_dies() -> None:
    async with rig(own=True) as host:
        instance = await host.start(host.version())
        await host.wait_blanks(1)
        (row,) = await host.rows("zygotes")
        os.kill(row["pid"], signal.SIGKILL)
        assert await host.ask(instance, 1) == 1  # it is a child of the warden
        await _works(host)
        await host.until(lambda: _zygote(host) not in ("", row["id"]), "another zygote")
        assert host.gone == [host.gone[0]]
        await _works(host)


def _zygote(host: Rig) -> str:
    return next((row["id"] for row in host.host._blanks.zygotes()), "")


async def zygotes_die_in_a_burst() -> None:
    """No start fails, however often the zygote is killed while blanks are made."""
    async with rig(blanks=0) as host:
        version = host.version(start="blank")
        for _ in range(3):
            await host.until(lambda: _zygote(host), "a zygote")
            starts = [asyncio.ensure_future(host.start(version)) for _ in range(14)]
            for _ in range(3):
                await asyncio.sleep(0.01)
                for row in host.host._blanks.zygotes():
                    with suppress(ProcessLookupError):  # the last kill may not have been heard of yet
                        os.kill(row["pid"], signal.SIGKILL)
            found = await _outcomes(list(starts))
            assert not [one for one in found if isinstance(one, BaseException)], found
            for one in found:
                assert not isinstance(one, BaseException)
                one.kill("done")
            await host.wait_rows("instances", 0)


async def a_zygote_is_stopped() -> None:
    """It reads nothing. Others start as if nothing were; what it was to make is made by the one that replaces it."""
    async with rig(blanks=0) as host:
        await host.until(lambda: _zygote(host), "a zygote")
        (row,) = host.host._blanks.zygotes()
        template = host.version(start="template")
        await host.host.prepare(template, {})
        os.kill(row["pid"], signal.SIGSTOP)
        version = host.version(start="blank")
        starts = [asyncio.ensure_future(host.start(version)) for _ in range(20)]  # more than its socket takes
        await asyncio.sleep(0.2)
        async with asyncio.timeout(3):
            for other in (template, host.version(isolation="process")):
                instance = await host.start(other)
                assert await host.ask(instance, "works") == "works"
                await instance.stop(5)
        assert not any(start.done() for start in starts)
        found = await _outcomes(list(starts))
        assert not [one for one in found if isinstance(one, BaseException)], found
        assert row["id"] not in [other["id"] for other in host.host._blanks.zygotes()]
        await host.until(lambda: leaks.state_of(row["pid"]) in ("", "Z"), "it to end")


async def those_who_wait_for_a_stopped_zygote_are_told() -> None:
    """What was ordered of it ends in an error that says to try again; one that cannot be sent is not kept for ever."""
    async with rig(blanks=0) as host:
        await host.until(lambda: _zygote(host), "a zygote")
        (row,) = host.host._blanks.zygotes()
        os.kill(row["pid"], signal.SIGSTOP)
        process = host.host._ground.new_process("blank", row["id"])
        passed = await process.connect()
        limits = {"memory": 64 * 2**20, "cpu": 1.0, "pids": 16}
        orders = [{"op": "spawn", "id": ids.new_id(), "zygote": row["id"], "limits": limits} for _ in range(30)]
        try:
            began = clock.mono_s()
            found = await asyncio.gather(
                *[host.host.warden.ask(order, passed) for order in orders], return_exceptions=True
            )
            assert 4 < clock.mono_s() - began < 10
        finally:
            for descriptor in passed:
                os.close(descriptor)
            process.abandon()
        assert all(isinstance(one, Unavailable) and one.retryable for one in found), found
        assert {one.detail for one in found if isinstance(one, Unavailable)} == {
            "spawn: the zygote made nothing in 5 s"
        }
        await _works(host)


async def the_warden_dies() -> None:
    async with rig(own=True) as host:
        version = host.version(LASTING)
        instances = [await host.start(version) for _ in range(3)]
        answers = [host.call(instance, 60) for instance in instances]
        old = host.host.warden.pid
        below = leaks.descendants(old)
        os.kill(old, signal.SIGKILL)
        for answer in answers:
            assert type(await answer.error()) is InstanceLost
        assert sorted(host.gone) == sorted(instance.id for instance in instances)
        assert all(leaks.state_of(pid) in ("", "Z") for pid in below)
        await _works(host)
        assert host.host.warden.pid not in (0, old)


async def the_warden_dies_in_a_burst() -> None:
    """Starts end, each in an instance that works or an error that says to try again."""
    async with rig(blanks=2) as host:
        versions = [host.version(start="blank"), host.version(start="template")]
        for delay_s in (0.0, 0.004, 0.03):
            starts = [asyncio.ensure_future(host.start(version)) for version in versions for _ in range(6)]
            await asyncio.sleep(delay_s)
            pid = host.host.warden.pid
            os.kill(pid, signal.SIGKILL)
            found = await _outcomes(list(starts))
            for one in found:
                if isinstance(one, BaseException):
                    assert isinstance(one, (Unavailable, InstanceLost)), one
                    assert one.retryable
                elif not one.gone:
                    one.kill("done")
            await host.until(lambda pid=pid: host.host.warden.pid != pid, "another warden")  # type: ignore[misc]
            await _works(host)


async def the_warden_dies_while_an_instance_is_frozen() -> None:
    async with rig(own=True) as host:
        instance = await host.start(host.version())
        instance.freeze(True)
        await asyncio.sleep(0.1)
        answer = host.call(instance)
        os.kill(host.host.warden.pid, signal.SIGKILL)
        try:
            await answer.wait()  # it may be quicker than its end, which begins with being thawed
        except InstanceLost:
            pass
        await host.until(lambda: leaks.state_of(instance.pid) in ("", "Z"), "it to end")
        await _works(host)


async def a_template_dies() -> None:
    async with rig() as host:
        version = host.version(start="template")
        await host.host.prepare(version, {})
        instance = await host.start(version)
        answer = host.call(await host.start(host.version(LASTING)))
        (row,) = await host.rows("templates")
        os.kill(row["pid"], signal.SIGKILL)
        await host.until(lambda: instance.id in host.gone, "its instances to go with it")
        assert not answer.done
        again = await host.start(version)
        assert again.report.kind != "template"
        assert await host.ask(again, 1) == 1
        await host.wait_template(version)


async def a_call_in_an_instance_of_a_template_that_dies_is_lost() -> None:
    async with rig() as host:
        version = host.version(LASTING, start="template")
        await host.host.prepare(version, {})
        answer = host.call(await host.start(version))
        (row,) = await host.rows("templates")
        os.kill(row["pid"], signal.SIGKILL)
        assert type(await answer.error()) is InstanceLost


async def templates_die_in_a_burst() -> None:
    """Every start ends, in an instance (from a blank, if need be) or in an error that says to try again."""
    async with rig(blanks=2) as host:
        version = host.version(start="template")
        for delay_s in (0.0, 0.005, 0.03):
            await host.host.prepare(version, {})
            (row,) = await host.wait_rows("templates", 1)
            starts = [asyncio.ensure_future(host.start(version)) for _ in range(12)]
            await asyncio.sleep(delay_s)
            os.kill(row["pid"], signal.SIGKILL)
            found = await _outcomes(list(starts))
            living = 0
            for one in found:
                if isinstance(one, BaseException):
                    assert isinstance(one, InstanceLost), one  # it was ready, and went with its template
                else:
                    living += not one.gone
                    one.kill("done")
            assert living
            await host.wait_rows("instances", 0)
            host.host.forget(version.key)


async def a_template_that_does_not_listen() -> None:
    """Its code took over the loop that forks: others start as if nothing were, and its own from blanks in the end."""
    deafening = "import fuyun.runtime.instance as i\ni.descriptors.receive = lambda s: threading.Event().wait()\n"
    code = "import threading\n" + deafening + ECHO
    patient_s, parents._FORK_S = parents._FORK_S, 1.0
    async with rig() as host:
        deaf = host.version(code, start="template")
        assert (await host.host.prepare(deaf, {})).kind == "template"
        starts = [asyncio.ensure_future(host.start(deaf)) for _ in range(30)]
        await asyncio.sleep(0.1)
        async with asyncio.timeout(3):
            await _works(host)
        found = await _outcomes(list(starts))
        parents._FORK_S = patient_s
        assert all(not isinstance(one, BaseException) and one.report.kind != "template" for one in found), found


async def a_template_that_forks_by_itself() -> None:
    """A template's code says hello in place of a child, or lets children die at once."""
    code = """
    import fuyun.runtime.instance as i
    def born(channel, passed, app, task):
        return 9
    i.born = born
    def handler(event):
        return event
    """
    async with rig() as host:
        version = host.version(code, start="template")
        await host.host.prepare(version, {})
        instance = await host.start(version)
        assert instance.report.kind != "template"
        assert await host.ask(instance, 1) == 1
        await _works(host)


async def a_blank_dies_in_the_reserve() -> None:
    async with rig(blanks=3) as host:
        await host.wait_blanks(3)
        for row in await host.rows("blanks"):
            if row["pid"]:
                os.kill(row["pid"], signal.SIGKILL)
        await _works(host)
        await host.wait_blanks(3)


async def a_start_is_given_up_as_its_blank_comes() -> None:
    """The next one takes that blank."""
    async with rig(blanks=0) as host:
        version = host.version(start="blank")
        start = asyncio.ensure_future(host.start(version))
        families = host.host._blanks._families
        await host.until(lambda: any(family.waiters for family in families.values()), "it to wait")
        (family,) = families.values()
        waiter = family.waiters.popleft()
        taken: list[int] = []

        def set_result(process: Process) -> None:
            taken.append(process.pid)
            waiter.set_result(process)
            start.cancel()

        family.waiters.append(SimpleNamespace(done=waiter.done, set_result=set_result))  # type: ignore[arg-type]
        await asyncio.wait([start])
        assert start.cancelled()
        instance = await host.start(version)
        assert ([instance.pid], instance.report.kind) == (taken, "blank")


async def no_zygote_can_start() -> None:
    """Who waits is told soon; afterwards it is tried now and then, not over and over."""
    async with rig(own=True) as host:
        version = changed(host.version(), runtime="python3")
        interpreter = host.host._interpreter_of("python3")
        object.__setattr__(interpreter, "mounts", (*interpreter.mounts, "/nonesuch"))
        try:
            host.host._blanks._families.clear()
            began = asyncio.get_running_loop().time()
            error: FuyunError = await failure(host.start(version))
            assert "/nonesuch" in error.detail, error.detail
            assert asyncio.get_running_loop().time() - began < 5
            (family,) = host.host._blanks._families.values()
            tries = family.failures
            await asyncio.sleep(0.5)
            assert family.failures <= tries + 2
        finally:
            object.__setattr__(interpreter, "mounts", interpreter.mounts[:-1])
        await host.until(lambda: family.up.is_set(), "a zygote once it can")
        await _works(host)


async def closed_while_starting() -> None:
    async with rig() as host:
        for delay_s in (0.0, 0.01, 0.05):
            with store() as root:
                other = Rig(root, tree=f"fuyun-rig-{os.getpid()}-b")
                await other.host.open()
                versions = [other.version(start="blank"), other.version(start="template")]
                starts = [asyncio.ensure_future(other.start(version)) for version in versions for _ in range(4)]
                await asyncio.sleep(delay_s)
                async with asyncio.timeout(15):
                    await other.host.close()
                found = await _outcomes(list(starts))
                assert all(not isinstance(one, BaseException) or isinstance(one, FuyunError) for one in found), found
        await _works(host)


async def closed_while_the_warden_restarts() -> None:
    for delay_s in (0.0, 0.02, 0.1):
        async with rig(own=True) as host:
            os.kill(host.host.warden.pid, signal.SIGKILL)
            await asyncio.sleep(delay_s)


async def opened_and_closed_again_and_again() -> None:
    for _ in range(3):
        async with rig(blanks=4) as host:
            await host.start(host.version(start="blank"))


async def two_hosts_side_by_side() -> None:
    async with rig(tree=f"fuyun-rig-{os.getpid()}.a") as one, rig(tree=f"fuyun-rig-{os.getpid()}.b") as other:
        await asyncio.gather(_works(one), _works(other))
        os.kill(one.host.warden.pid, signal.SIGKILL)
        await asyncio.gather(_works(one), _works(other))
        assert len(other.gone) == 2
