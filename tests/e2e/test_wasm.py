"""WebAssembly functions on a real platform, as root and without rights."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from tests.running import Platform
from tests.runtime.modules import ECHO, text

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

LOOPS_IF_ASKED = text(
    """(if (call $hear (i32.const 1024) (i32.const 1)) (then (loop $on (br $on))))
    (call $say (i32.const 1) (i32.const 512) (i32.const 2))""",
    '(data (i32.const 512) "42")',
)


def deploy(platform: Platform, name: str, module: str, **spec: object) -> None:
    platform.deploy(name, {"app.wat": module}, runtime="wasm", handler="app.wat", **spec)


def test_calls_events_and_a_hundred_at_once(either_platform: Platform) -> None:
    """[R 18.2] [R 18.3]"""
    platform = either_platform
    deploy(platform, "wasm-echo", ECHO, concurrency=20, max_instances=4)
    answer = platform.http.post(platform.url("wasm-echo"), content=b'{"a": 1}')
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == {"a": 1}
    assert platform.invoke("wasm-echo", [1, "two"]).json() == [1, "two"]

    async def many() -> list[str]:
        limits = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(
            headers=dict(platform.http.headers), trust_env=False, verify=False, limits=limits
        ) as http:
            url = platform.url("wasm-echo")
            answers = [http.post(url, content=f"call {n} " * 500, timeout=60) for n in range(100)]
            return [answer.text for answer in await asyncio.gather(*answers)]

    assert asyncio.run(many()) == [f"call {n} " * 500 for n in range(100)]
    platform.remove("wasm-echo")


def test_what_fails_is_told_apart_and_the_next_call_is_answered(either_platform: Platform) -> None:
    """[R 18.8] [R 18.9] [R 18.10]"""
    platform = either_platform
    bomb = "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable"
    flood = "(loop $on (call $say (i32.const 1) (i32.const 1024) (i32.const 60000)) (br $on))"
    modules = {
        "wasm-trap": (text("unreachable"), "function_raised"),
        "wasm-exit": (text("(call $proc_exit (i32.const 3))"), "function_exited"),
        "wasm-bomb": (text(bomb), "function_out_of_memory"),
        "wasm-flood": (text(flood), "response_too_large"),
    }
    for name, (module, code) in modules.items():
        deploy(platform, name, module, memory_bytes=64 << 20, output_bytes=1 << 20)
        served_by = set()
        for _ in range(2):
            answer = platform.http.get(platform.url(name))
            assert answer.json()["code"] == code, answer.text
            served_by |= {instance["id"] for instance in platform.instances_of(name)}
        assert len(served_by) == 1, "the instance serves on"
        platform.remove(name)

    deploy(platform, "wasm-loop", LOOPS_IF_ASKED, timeout_s=1.0)
    assert platform.http.post(platform.url("wasm-loop"), content=b"x").json()["code"] == "function_timed_out"
    assert platform.http.get(platform.url("wasm-loop")).text == "42"
    platform.remove("wasm-loop")


def test_started_from_a_template_and_without_isolation(platform: Platform) -> None:
    """[R 18.12]"""
    deploy(platform, "wasm-copied", LOOPS_IF_ASKED, start="template", timeout_s=1.0)
    answer = platform.http.get(platform.url("wasm-copied"))
    assert (answer.text, answer.headers["fuyun-start"]) == ("42", "template")
    looped = platform.http.post(platform.url("wasm-copied"), content=b"x")
    assert looped.json()["code"] == "function_timed_out", "a copy has a timer of its own"
    platform.remove("wasm-copied")
    deploy(platform, "wasm-open", ECHO, isolation="process")
    assert platform.http.post(platform.url("wasm-open"), content=b"hello").text == "hello"
    platform.remove("wasm-open")


def test_deployments_that_cannot_work_say_why(platform: Platform) -> None:
    """[R 18.1]"""
    refusals = [
        ({"app.wasm": b"\x7fELF nothing"}, {"handler": "app.wasm"}, "it is no WebAssembly binary"),
        ({"app.wasm": b"\0asm\x0d\0\x01\0"}, {"handler": "app.wasm"}, "it is a component"),
        ({"app.wat": "(module (func"}, {"handler": "app.wat"}, "cannot be compiled"),
        ({"app.wat": '(module (func (export "main")))'}, {"handler": "app.wat"}, "exports no _start; it exports main"),
        ({"app.wat": ECHO}, {"handler": "ap.wat"}, "there is no ap.wat in the code; it holds app.wat"),
        ({"app.wat": ECHO}, {"handler": "app.handler"}, "is not a module's file"),
        ({"app.wat": ECHO}, {"handler": "../app.wat"}, "is not a module's file"),
        ({"app.wat": ECHO}, {"handler": "app.wat", "hooks": {"initializer": "app.init"}}, "is a hook"),
    ]
    for files, spec, words in refusals:
        answer = platform.try_deploy("wasm-refused", files, runtime="wasm", **spec)
        assert not answer.is_success, answer.text
        assert words in answer.json()["detail"], answer.text
    answer = platform.try_deploy(
        "wasm-refused", {"app.wat": ECHO}, requirements="flask\n", runtime="wasm", handler="app.wat"
    )
    assert "has no Python packages" in answer.json()["detail"]


def test_a_module_keeps_its_engine_and_the_same_code_is_compiled_once(platform: Platform) -> None:
    """[R 18.1]"""
    files = {"app.wat": ECHO, "notes.txt": "x"}
    first = platform.deploy("wasm-one", files, runtime="wasm", handler="app.wat")
    second = platform.deploy("wasm-two", files, runtime="wasm", handler="app.wat")
    assert (first["code"], first["layers"]) == (second["code"], second["layers"])
    digest = first["code"]["digest"]
    stored = platform.data / "objects" / digest[:2] / digest
    assert sorted(path.name for path in stored.iterdir()) == ["app.wat", "app.wat.cwasm", "notes.txt"]
    engine = first["layers"][0]["digest"]
    assert (platform.data / "objects" / engine[:2] / engine / "wasm-engine/engine.json").is_file()
    for name in ("wasm-one", "wasm-two"):
        platform.remove(name)
