"""Node in instances: prepared in blanks, sealed like every other, limited and ended by the host."""

from __future__ import annotations

import os

from fuyun.domain.errors import (
    FunctionExited,
    FunctionInitFailed,
    FunctionLoadFailed,
    FunctionOutOfMemory,
    FunctionRaised,
    InstanceLost,
)
from fuyun.domain.functions import Hooks
from fuyun.drivers.instances import memory
from tests.drivers.instances.scenes.hosts import rig
from tests.drivers.instances.scenes.rig import MIB, Rig, check_freezing, failure
from tests.leaks import command_of, descendants, state_of

ECHO = "exports.handler = async (event) => event;"


async def a_blank_with_node_serves() -> None:
    async with rig() as host:
        first = await host.start(host.node(ECHO))
        await host.until(lambda: _waiting(host), "a blank that has Node")
        instance = await host.start(host.node("exports.handler = async (event) => [event];"))
        assert instance.report.kind == "blank"
        assert not instance.report.forkable
        assert "threads" in instance.report.unforkable_reason
        for value in ({"a": [1]}, None, "text", 5):
            assert await host.ask(instance, value) == [value]
            assert await host.ask(first, value) == value
        for one in (first, instance):
            await one.stop(5)
            assert state_of(one.pid) in ("", "Z")
        assert host.gone == [first.id, instance.id]


def _waiting(host: Rig) -> bool:
    return any(family.interpreter.node and family.blanks for family in host.host._blanks._families.values())


def _dead(pid: int) -> bool:
    """Whether all its threads have ended: its parent can learn it only then."""
    try:
        return state_of(pid) in ("", "Z") and len(os.listdir(f"/proc/{pid}/task")) < 2
    except OSError:
        return True


async def it_is_sealed_before_it_knows_its_code() -> None:
    async with rig() as host:
        code = """
            const fs = require('node:fs');
            const { execFileSync } = require('node:child_process');
            const tried = (action) => {
              try { action(); return 'worked'; } catch (error) { return error.code || error.status; }
            };
            exports.handler = async () => ({
              status: fs.readFileSync('/proc/self/status', 'utf8').match(/^(NoNewPrivs|Seccomp|CapEff|CapBnd):.*/gm),
              code: tried(() => fs.writeFileSync('/code/x', '')),
              root: tried(() => fs.writeFileSync('/x', '')),
              tmp: tried(() => fs.writeFileSync('/tmp/x', 'x')),
              big: tried(() => fs.writeFileSync('/tmp/y', Buffer.alloc(5 << 20))),
              keeper: tried(() => fs.readFileSync('/proc/1/environ')),
              keeperFiles: tried(() => fs.readdirSync('/proc/1/fd')),
              store: fs.readdirSync('/store'),
              namespace: tried(() => execFileSync('unshare', ['-U', 'true'], { stdio: 'ignore' })),
              sees: fs.readdirSync('/code').sort(),
              uid: process.getuid(), pid: process.pid,
            });
        """
        for _ in range(2):  # from nothing, then from a blank
            instance = await host.start(host.node(code, tmp_bytes=4 * MIB))
            found = await host.ask(instance)
            assert [" ".join(line.split()) for line in found["status"]] == [
                "CapEff: 0000000000000000", "CapBnd: 0000000000000000", "NoNewPrivs: 1", "Seccomp: 2",
            ]  # fmt: skip
            assert found["code"] in ("EROFS", "EACCES"), found
            assert found["root"] in ("EROFS", "EACCES"), found
            assert (found["tmp"], found["big"]) == ("worked", "ENOSPC")
            assert found["keeper"] == found["keeperFiles"] == "ENOENT", found
            assert (found["store"], found["namespace"], found["sees"]) == ([], 1, ["index.js"])
            assert (found["uid"], found["pid"]) == (1000, 2)
            await instance.stop(5)


async def how_it_ends_is_told() -> None:
    async with rig() as host:
        code = "exports.handler = async (event) => { process.kill(process.pid, event); await new Promise(() => 0); };"
        ended = await host.call(await host.start(host.node(code)), "SIGSEGV").error()
        assert isinstance(ended, FunctionExited), ended
        assert ended.fields["signal"] == 11
        instance = await host.start(host.node("exports.handler = async () => process.exit(3);"))
        exited = await host.call(instance).error()
        assert isinstance(exited, FunctionExited), exited
        assert exited.fields["exit_code"] == 3
        late = "setImmediate(() => { throw new TypeError('late') })"
        thrown = f"exports.handler = async () => {{ {late}; await new Promise(() => 0); }};"
        error = await host.call(await host.start(host.node(thrown))).error()
        assert isinstance(error, FunctionRaised), error
        assert error.detail == "TypeError: late"
        await host.until(lambda: len(host.gone) == 3, "all of them to be gone")


async def it_is_killed_in_the_middle_of_its_answer() -> None:
    async with rig() as host:
        code = """
            exports.handler = async function* () {
              for (let at = 0; at < 20; at += 1) yield 'x'.repeat(10_000);
              process.kill(process.pid, 'SIGKILL');
              for (;;) yield 'y'.repeat(10_000);
            };
        """
        answer = host.call(await host.start(host.node(code)))
        error = await answer.error()
        assert isinstance(error, FunctionExited), error
        assert error.fields["signal"] == 9
        assert answer.chunks, "nothing of it arrived"


async def memory_is_the_groups_to_limit() -> None:
    async with rig() as host:
        for hungry in ("Buffer.alloc(1 << 20, 1)", "{ a: [held.length] }"):
            code = f"exports.handler = async () => {{ const held = []; for (;;) held.push({hungry}); }};"
            error = await host.call(await host.start(host.node(code, memory_bytes=128 * MIB))).error(60)
            assert isinstance(error, FunctionOutOfMemory), error
            assert error.fields["limit_bytes"] == 128 * MIB


async def garbage_is_collected_within_a_small_limit() -> None:
    """Left alone, V8 lets this heap of 60 MiB grow to 180 before it collects what is dead."""
    async with rig() as host:
        code = """
            exports.handler = async () => {
              const live = new Map();
              for (let i = 0; i < 1200000; i++) live.set(i % 300000, { a: i, b: `x${i}`, c: [i] });
              return live.size;
            };
        """
        instance = await host.start(host.node(code, memory_bytes=216 * MIB))
        assert await host.call(instance).wait(60) == 300000


async def a_start_fails_and_says_why() -> None:
    async with rig() as host:
        broken = await failure(host.start(host.node("throw new TypeError('no')")))
        assert isinstance(broken, FunctionLoadFailed), broken
        assert broken.detail == "importing index failed: TypeError: no"
        assert broken.fields["traceback"][1].endswith("(/code/index.js:1:7)")
        hooks = Hooks(initializer="index.init", initializer_timeout_s=0.2)
        endless = await failure(
            host.start(host.node("exports.init = async () => new Promise(() => 0); " + ECHO, hooks=hooks))
        )
        assert isinstance(endless, FunctionInitFailed), endless
        assert endless.detail == "the initializer did not end within 0.2 s"
        dead = await failure(host.start(host.node("process.kill(process.pid, 'SIGKILL'); setTimeout(() => 0, 60000);")))
        assert isinstance(dead, FunctionExited | InstanceLost), dead


async def it_hears_its_hooks() -> None:
    async with rig() as host:
        code = "exports.stop = async () => console.log('saved'); " + ECHO
        instance = await host.start(host.node(code, hooks=Hooks(pre_stop="index.stop")))
        assert instance.report.hooks == ("pre_stop",)
        assert await instance.hook("pre_stop", 10)
        await host.until(lambda: host.lines, "its last words")
        assert host.lines[-1].text == "saved"


async def it_freezes() -> None:
    async with rig() as host:
        if host.host.hello["cgroup"]:
            await check_freezing(host, await host.start(host.node(ECHO)))


async def the_memory_of_its_node_counts_as_its_own() -> None:
    async with rig() as host:
        instance = await host.start(host.node(ECHO))
        keeper = memory.of([instance.pid])[instance.pid]
        (row,) = await host.rows("instances")
        assert row["private_bytes"] > keeper["private_bytes"] + 4 * MIB
        assert row["pss_bytes"] > keeper["pss_bytes"] + 8 * MIB


async def many_calls_at_once_share_one() -> None:
    async with rig() as host:
        code = """
            let inside = 0, most = 0;
            exports.handler = async () => {
              inside += 1; most = Math.max(most, inside);
              await new Promise((resolve) => setTimeout(resolve, 50));
              inside -= 1; return most;
            };
        """
        instance = await host.start(host.node(code, concurrency=20))
        calls = [host.call(instance) for _ in range(20)]
        assert max([await call.wait() for call in calls]) == 20


async def without_isolation_it_runs_too() -> None:
    async with rig() as host:
        instance = await host.start(host.node(ECHO, isolation="process"))
        assert await host.ask(instance, 7) == 7
        node = [pid for pid in descendants(instance.pid) if "worker.js" in command_of(pid)]
        assert len(node) == 1
        await instance.stop(5)
        await host.until(lambda: state_of(node[0]) in ("", "Z"), "Node to end")


async def a_blank_that_lost_its_node_starts_another() -> None:
    async with rig() as host:
        await host.start(host.node(ECHO))
        await host.until(lambda: _waiting(host), "a blank that has Node")
        families = host.host._blanks._families.values()
        blanks = [blank for family in families if family.interpreter.node for blank in family.blanks]
        for pid in [pid for blank in blanks for pid in descendants(blank.pid)]:
            os.kill(pid, 9)
            await host.until(lambda pid=pid: _dead(pid), "Node to end")
        instance = await host.start(host.node(ECHO))
        assert instance.report.kind == "blank"
        assert await host.ask(instance, 1) == 1
