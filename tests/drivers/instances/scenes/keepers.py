"""Programs in instances: a keeper starts them, forwards what they print and tells how they end."""

from __future__ import annotations

from fuyun.domain.errors import (
    BadRequest,
    FunctionExited,
    FunctionInitFailed,
    FunctionLoadFailed,
    FunctionOutOfMemory,
    FunctionRaised,
    HandlerMissing,
)
from tests.drivers.instances.scenes.hosts import rig
from tests.drivers.instances.scenes.rig import MIB, Answer, Rig, failure
from tests.leaks import state_of

API = 'url="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime"\n'
#: Takes an invocation into $event, its id into $id.
NEXT = """
all=$(curl -sS -i "$url/invocation/next" | tr -d '\\r') || exit 9
id=$(echo "$all" | sed -n 's/^Lambda-Runtime-Aws-Request-Id: //p')
event=$(echo "$all" | sed '1,/^$/d')
"""
ANSWER = 'curl -sS -o /dev/null --data-binary @- "$url/invocation/$id/response"\n'
ECHO = f'{API}while true; do\n{NEXT}printf %s "$event" | {ANSWER}done\n'


def once(what: str) -> str:
    """A bootstrap that does `what` with its first invocation."""
    return API + NEXT + what


async def a_shell_script_answers() -> None:
    async with rig() as host:
        await host.wait_blanks(1)
        instance = await host.start(host.program(ECHO))
        assert instance.report.kind == "blank"
        assert not instance.report.forkable
        assert "pre_stop" in instance.report.hooks
        for value in ({"a": [1]}, None, "text", 5):
            assert await host.ask(instance, value) == value
        await instance.stop(5)
        assert host.gone == [instance.id]
        assert await host.rows("instances") == []
        assert state_of(instance.pid) in ("", "Z")


async def what_it_prints_is_the_invocations() -> None:
    async with rig() as host:
        script = f"{API}echo starting\nwhile true; do\n{NEXT}echo got $event; echo no line >&2; printf end\n"
        instance = await host.start(host.program(f"{script}echo 1 | {ANSWER}done\n"))
        first, second = host.call(instance, 1), host.call(instance, 2)
        assert await first.wait() == await second.wait() == 1
        assert sorted(first.lines) == ["end", "got 1", "no line"]
        assert sorted(second.lines) == ["end", "got 2", "no line"]
        await host.until(lambda: host.lines, "the line of the start")
        assert [line.text for line in host.lines] == ["starting"]


async def _ends(host: Rig, what: str, **spec: object) -> Answer:
    return host.call(await host.start(host.program(once(what), **spec)))


async def how_it_ends_is_told() -> None:
    async with rig() as host:
        exited = await (await _ends(host, "exit 3")).error()
        assert isinstance(exited, FunctionExited), exited
        assert exited.fields["exit_code"] == 3
        ended = await (await _ends(host, "kill -SEGV $$")).error()
        assert isinstance(ended, FunctionExited), ended
        assert ended.fields["signal"] == 11
        hungry = await _ends(host, "exec python3 -c 'b = bytearray(512 << 20)'", memory_bytes=64 * MIB)
        error = await hungry.error()
        if host.host.hello["cgroup"]:
            assert isinstance(error, FunctionOutOfMemory), error
        else:  # its allocation is refused, and how it takes that is its own business
            assert isinstance(error, FunctionExited), error


async def it_is_killed_in_the_middle_of_its_answer() -> None:
    async with rig() as host:
        code = """
            import http.client, os, signal, sys
            api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
            api.putrequest("POST", "/2018-06-01/runtime/invocation/" + sys.argv[1] + "/response")
            api.putheader("Lambda-Runtime-Function-Response-Mode", "streaming")
            api.putheader("Transfer-Encoding", "chunked")
            api.endheaders(b"5\\r\\nhello\\r\\n5\\r\\nhe")
            os.kill(os.getpid(), signal.SIGKILL)
        """
        lines = "\n".join(line.strip() for line in code.splitlines())
        answer = await _ends(host, f"cat > /tmp/half.py <<'END'\n{lines}\nEND\nexec python3 /tmp/half.py $id")
        error = await answer.error()
        assert isinstance(error, FunctionExited), error
        assert error.fields["signal"] == 9


async def it_reports_an_error() -> None:
    async with rig() as host:
        body = '{"errorType": "Wrong", "errorMessage": "not that", "stackTrace": ["line 1", "line 2"]}'
        report = f"curl -sS -o /dev/null -d '{body}' \"$url/invocation/$id/error\"\n"
        instance = await host.start(host.program(f"{API}while true; do\n{NEXT}{report}done\n"))
        for _ in range(2):
            answer = host.call(instance)
            error = await answer.error()
            assert isinstance(error, FunctionRaised), error
            assert answer.lines == ["Wrong: not that"]
            assert error.detail == "Wrong: not that"
            assert error.fields == {"error_type": "Wrong", "traceback": ["line 1", "line 2"]}


async def a_start_fails_and_says_why() -> None:
    async with rig() as host:
        died = await failure(host.start(host.program("echo the disk is full >&2; exit 4")))
        assert isinstance(died, FunctionInitFailed), died
        assert died.detail == "bootstrap exited with status 4 before it was ready"
        assert died.fields["traceback"] == ["the disk is full"]
        body = '{"errorType": "Config", "errorMessage": "no key"}'
        told = await failure(host.start(host.program(f"{API}curl -sS -d '{body}' \"$url/init/error\"; sleep 60")))
        assert isinstance(told, FunctionInitFailed), told
        assert told.detail == "Config: no key"
        nothing = await failure(host.start(host.version(runtime="custom")))
        assert isinstance(nothing, HandlerMissing), nothing
        assert "holds handler.py" in nothing.detail
        strange = await failure(host.start(host.program("#!/usr/bin/ruby9\n")))
        assert isinstance(strange, FunctionLoadFailed), strange
        assert "names the interpreter '/usr/bin/ruby9'" in strange.detail


async def a_payload_that_is_not_json_is_refused() -> None:
    async with rig() as host:
        instance = await host.start(host.program(ECHO))
        answer = Answer()
        instance.invoke(b'{"id":"x","kind":"event","headers":[]}', b"{", True, answer)
        assert isinstance(await answer.error(), BadRequest)
        assert await host.ask(instance, 1) == 1


async def it_is_asked_to_end() -> None:
    async with rig() as host:
        script = f"trap 'echo saved; exit 0' TERM\n{API}{NEXT}echo 1 | {ANSWER}\nwhile true; do sleep 0.05; done\n"
        instance = await host.start(host.program(script))
        assert await host.ask(instance) == 1
        assert await instance.hook("pre_stop", 10)
        await host.until(lambda: host.lines, "its last words")
        assert host.lines[-1].text == "saved"
        await instance.stop(5)


async def it_is_shut_in() -> None:
    async with rig() as host:
        script = f"""
            {API}{NEXT}
            tried() {{ "$@" >/dev/null 2>&1 && echo "$1 worked"; }}
            {{ grep -E '^(NoNewPrivs|Seccomp|CapEff|CapBnd):' /proc/self/status | tr -s '\\t' ' '
               tried touch /code/x; tried mount -t tmpfs x /tmp; tried unshare -U true; tried cat /proc/1/environ
               tried ls -l /proc/1/fd/; ls /proc/self/fd | tr '\\n' ' '; }} > /tmp/found
            python3 -c 'import json; print(json.dumps(open("/tmp/found").read().splitlines()))' | {ANSWER}
            sleep 60
        """
        instance = await host.start(host.program("\n".join(line.strip() for line in script.splitlines())))
        assert await host.ask(instance) == [
            "CapEff: 0000000000000000", "CapBnd: 0000000000000000", "NoNewPrivs: 1", "Seccomp: 2", "0 1 2 3 ",
        ]  # fmt: skip


async def two_without_isolation() -> None:
    async with rig() as host:
        version = host.program(f'{API}echo "$AWS_LAMBDA_RUNTIME_API"\nsleep 60 &\n{ECHO}', isolation="process")
        first, second = await host.start(version), await host.start(version)
        assert [await host.ask(first, 1), await host.ask(second, 2)] == [1, 2]
        assert len({line.text for line in host.lines}) == 2  # an address each
        await first.stop(5)  # what it has left behind goes with it, as the end of every scene checks
        assert await host.ask(second, 3) == 3
