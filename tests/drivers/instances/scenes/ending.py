"""How instances end, and what callers are told: by themselves, by the kernel, by the platform, from outside.

Where a function below sleeps it must not answer, nor end by itself: somebody else is to end it, long before it wakes.
"""

from __future__ import annotations

import asyncio
import os
import signal

from fuyun.domain.errors import (
    FunctionExited,
    FunctionOutOfMemory,
    FunctionRaised,
    InstanceLost,
    ProtocolViolated,
)
from fuyun.ports.instances import Instance
from tests.drivers.instances.scenes.hosts import rig
from tests.drivers.instances.scenes.rig import ECHO, LASTING, MIB, changed, check_freezing
from tests.leaks import state_of

STARTS = ("blank", "template")


async def by_exiting() -> None:
    code = """
    import ctypes, os, signal
    def handler(event):
        if event["how"] == "exit":
            os.write(1, b"last words")
            os._exit(event["status"])
        ctypes.string_at(0)
    """
    async with rig() as host:
        for start in STARTS:
            version = host.version(code, start=start)
            if start == "template":
                await host.host.prepare(version, {})
            for payload, fields in (
                ({"how": "exit", "status": 0}, {"exit_code": 0}),
                ({"how": "exit", "status": 3}, {"exit_code": 3}),
                ({"how": "crash"}, {"signal": signal.SIGSEGV}),
            ):
                instance = await host.start(version)
                answer = host.call(instance, payload)
                error = await answer.error()
                assert type(error) is FunctionExited, error
                assert error.fields == fields, (start, error.fields)
                assert instance.id in host.gone
                assert not fields.get("exit_code") or answer.lines == ["last words"]
        await host.wait_rows("instances", 0)


async def many_at_once_from_one_template() -> None:
    """Each tells its own status, however many end in the same moment; the template goes on."""
    async with rig() as host:
        version = host.version("import os\ndef handler(event):\n    os._exit(event)\n", start="template")
        await host.host.prepare(version, {})
        for _ in range(3):
            instances = [await host.start(version) for _ in range(16)]
            answers = [host.call(instance, n) for n, instance in enumerate(instances)]
            errors = [await answer.error() for answer in answers]
            assert [error.fields for error in errors] == [{"exit_code": n} for n in range(16)]
        assert (await host.start(version)).report.kind == "template"


async def out_of_memory() -> None:
    code = "def handler(event):\n    return len(bytearray(b'x') * (event * 2**20))\n"
    async with rig() as host:
        for start in STARTS:
            version = host.version(code, start=start, memory_bytes=64 * MIB)
            instance = await host.start(version)
            assert await host.ask(instance, 8) == 8 * MIB
            error = await host.call(instance, 500).error()
            # by the control group's limit, or where there is none by the process's own, which a handler can catch
            assert type(error) in (FunctionOutOfMemory, FunctionRaised), error
            if host.host.hello["cgroup"]:
                assert error.fields == {"limit_bytes": 64 * MIB}
                assert instance.id in host.gone


async def by_the_smallest_limit_that_may_be_set() -> None:
    async with rig() as host:
        instance = await host.start(host.version(memory_bytes=16 * MIB))
        assert await host.ask(instance, 1) == 1


async def killed_from_outside() -> None:
    async with rig() as host:
        for start in STARTS:
            version = host.version(LASTING, start=start)
            if start == "template":
                await host.host.prepare(version, {})
            instance = await host.start(version)
            answer = host.call(instance)
            os.kill(instance.pid, signal.SIGKILL)
            error = await answer.error()
            assert type(error) is InstanceLost, error
            assert host.gone[-1] == instance.id


async def called_just_after_its_death() -> None:
    """The call is written into a socket that nobody reads any more, before the platform has noticed."""
    async with rig() as host:
        for _ in range(10):
            instance = await host.start(host.version(start="blank"))
            os.kill(instance.pid, signal.SIGKILL)
            answer = host.call(instance)
            assert type(await answer.error()) is InstanceLost
            assert host.gone.count(instance.id) == 1


async def killed_by_the_platform() -> None:
    async with rig() as host:
        for start in STARTS:
            version = host.version(LASTING, start=start)
            if start == "template":
                await host.host.prepare(version, {})
            instance = await host.start(version)
            answer = host.call(instance)
            instance.kill("for a test")
            instance.kill("twice")
            assert instance.gone or not answer.done
            error = await answer.error()
            assert type(error) is InstanceLost
            assert "for a test" in error.detail
            assert host.gone.count(instance.id) == 1
            instance.kill("and again")
            await instance.stop(5)
            assert host.call(instance, 1) is not None
            await host.until(lambda pid=instance.pid: state_of(pid) in ("", "Z"), "it to end")  # type: ignore[misc]


async def stopped_while_a_call_is_inside() -> None:
    async with rig() as host:
        code = "import signal, threading\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + (
            "def handler(event):\n    threading.Event().wait()\n"
        )
        instance = await host.start(host.version(code))
        answer = host.call(instance)
        await asyncio.gather(instance.stop(0.2), instance.stop(0.2))
        assert type(await answer.error()) is InstanceLost


async def by_leaving_its_channel() -> None:
    """Code inside closes every descriptor, or writes nonsense into them, and lives on."""
    closing = "os.closerange(0, 4096)"
    writing = "[os.write(n, b'nonsense' * 9) for n in range(3, 64) if stat.S_ISSOCK(mode(n))]"
    code = """
    import os, stat, threading
    def mode(descriptor):
        try:
            return os.fstat(descriptor).st_mode
        except OSError:
            return 0
    def handler(event):
        {}
        threading.Event().wait()
    """
    async with rig() as host:
        for start in STARTS:
            for action in (closing, writing):
                instance = await host.start(host.version(code.replace("{}", action), start=start))
                error = await host.call(instance).error()
                assert type(error) is ProtocolViolated, (start, action, error)
                await host.until(lambda pid=instance.pid: state_of(pid) in ("", "Z"), "it to end")  # type: ignore[misc]


async def by_announcing_more_than_it_may_send() -> None:
    """A frame as long as the protocol knows would be put together in the platform's memory."""
    code = """
    import os, stat, struct, threading
    def handler(event):
        for number in range(3, 64):
            try:
                if stat.S_ISSOCK(os.fstat(number).st_mode):
                    os.write(number, struct.pack("<IBBHI", event, 18, 0, 0, 1))
            except OSError:
                pass
        threading.Event().wait()
    """
    async with rig() as host:
        version = host.version(code, output_bytes=2 * MIB)
        error = await host.call(await host.start(version), 3 * MIB + 1).error()
        assert type(error) is ProtocolViolated
        instance = await host.start(version)
        answer = host.call(instance, 3 * MIB)
        await host.until(lambda: bool(instance.channel._parts), "the frame's head to be here")
        assert not answer.done
        assert not instance.gone


async def what_it_started_ends_with_it() -> None:
    code = """
    import subprocess, sys
    def handler(event):
        waiting = "import threading; threading.Event().wait()"
        child = subprocess.Popen([sys.executable, "-c", waiting], start_new_session=True)
        return child.pid
    """
    async with rig() as host:
        for isolation in ("sandbox", "process"):
            instance = await host.start(host.version(code, isolation=isolation))
            assert await host.ask(instance) > 0
            below = await _below(instance.pid)
            assert below
            instance.kill("for a test")
            await host.until(lambda below=below: all(state_of(p) in ("", "Z") for p in below), "them to end")  # type: ignore[misc]


async def _below(pid: int) -> list[int]:
    from tests.leaks import descendants

    async with asyncio.timeout(5):
        while not (found := descendants(pid)):
            await asyncio.sleep(0.01)
    return found


async def frozen_and_thawed() -> None:
    async with rig() as host:
        for start in STARTS:
            instance = await host.start(host.version(ECHO, start=start))
            assert await host.ask(instance, 1) == 1
            await check_freezing(host, instance)


async def killed_while_frozen() -> None:
    async with rig() as host:
        for start in STARTS:
            instance = await host.start(host.version(ECHO, start=start))
            instance.freeze(True)
            await asyncio.sleep(0.05)
            answer = host.call(instance, 2)
            instance.kill("for a test")
            assert type(await answer.error()) is InstanceLost
            await host.until(lambda pid=instance.pid: state_of(pid) in ("", "Z"), "it to end", 5)  # type: ignore[misc]


async def closed_while_one_is_frozen() -> None:
    async with rig(own=True) as host:
        instance = await host.start(host.version())
        instance.freeze(True)
        await asyncio.sleep(0.05)
        async with asyncio.timeout(8):
            await host.host.close()
        assert state_of(instance.pid) in ("", "Z")


async def hooks_run_and_are_cut_off() -> None:
    code = """
    import threading
    seen = []
    def pre_freeze():
        seen.append("pre_freeze")
    def pre_stop():
        threading.Event().wait()
    def bad():
        raise ValueError("no")
    def handler(event):
        return seen
    """
    async with rig() as host:
        version = host.version(code)
        hooks = type(version.spec.hooks)
        version = changed(version, hooks=hooks(pre_freeze="handler.pre_freeze", pre_stop="handler.pre_stop",
                                               pre_stop_timeout_s=0.2))  # fmt: skip
        instance = await host.start(version)
        assert await instance.hook("pre_freeze", 5)
        assert await host.ask(instance) == ["pre_freeze"]
        assert not await instance.hook("pre_stop", 5)
        assert await host.ask(instance) == ["pre_freeze"]  # it is as good as before
        await instance.stop(5)
        assert not await instance.hook("pre_freeze", 5)
        bad = await host.start(changed(version, hooks=hooks(pre_freeze="handler.bad")))
        assert not await bad.hook("pre_freeze", 5)


async def output_without_a_call_is_not_lost() -> None:
    code = """
    import os, threading
    os.write(1, b"loading\\n")
    def handler(event):
        threading.Timer(0.05, lambda: os.write(2, b"later, unfinished")).start()
    """
    async with rig() as host:
        version = host.version(code, start="blank")
        instance = await host.start(version)
        await host.ask(instance)
        await host.until(lambda: host.lines, "the first line")
        await asyncio.sleep(0.2)
        instance.kill("for a test")
        await host.until(lambda: len(host.lines) == 2, "both lines")
        assert [(line.text, line.function, line.instance) for line in host.lines] == [
            ("loading", version.function, instance.id),
            ("later, unfinished", version.function, instance.id),
        ]


#: Sixty thousand blocks of the C library's, of which the last, on top of the heap, is kept.
_FREES = """
kept = []
DEF handler(event):
    if event == "take":
        blocks = [bytes([n % 256]) * 1000 for n in range(60_000)]
        kept.append(blocks[-1])
        kept.append([bytes(1000) for _ in range(200)])
        del blocks
    return len(kept)
"""


async def a_frozen_instance_gives_back_what_it_has_freed() -> None:
    async with rig() as host:
        for define, start in (("def", "blank"), ("def", "template"), ("async def", "blank")):
            instance = await host.start(host.version(_FREES.replace("DEF", define), start=start))
            assert await host.ask(instance, "take") == 2

            async def private(instance: Instance = instance) -> int:
                rows = await host.rows("instances")
                return int(next(row["private_bytes"] for row in rows if row["id"] == instance.id))

            held = await private()
            assert held > 50 * MIB, "the C library keeps it"
            assert await instance.hook("pre_freeze", 5)
            instance.freeze(True)
            assert await private() < held / 2
            instance.freeze(False)
            assert await host.ask(instance) == 2
            await instance.stop(5)
