"""WebAssembly modules: section 18 of docs/contracts/runtime.md, at a real worker."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.runtime.driver import Reply, http_head, template, worker
from tests.runtime.modules import ECHO, ENVIRONMENT, LOOP, compiled, saying, text

TEXT = {"content-type": "text/plain; charset=utf-8"}
WASI = '(module (import "wasi_snapshot_preview1" "{}" (func)) (func (export "_start")))'


def variables(reply: Reply) -> dict[str, str]:
    assert reply.error is None, reply.error
    items = reply.whole.decode().split("\0")[:-1]
    return dict(item.split("=", 1) for item in items)


def error(reply: Reply, code: str) -> str:
    assert reply.error is not None, reply
    assert reply.error["code"] == code, reply.error
    return str(reply.error["message"])


def http_of(tmp_path: Path, output: str) -> Reply:
    with worker(tmp_path, "", **compiled(tmp_path, saying(output))) as w:
        return w.http()


@pytest.mark.parametrize("concurrency", [1, 4])
def test_standard_input_is_the_request_and_standard_output_the_answer(tmp_path: Path, concurrency: int) -> None:
    """[R 18.3] [R 18.5]"""
    with worker(tmp_path, "", concurrency=concurrency, **compiled(tmp_path, ECHO)) as w:
        ready = w.wait_ready()
        assert (ready["mode"], ready["forkable"], ready["reason"]) == ("wasm", True, "")
        assert w.event({"n": [1, 2]}).json == {"n": [1, 2]}
        assert w.event("déjà").json == "déjà"
        assert w.event().json is None, "no output is null"
        large = bytes(range(256)) * 4000
        reply = w.http("/", large, method="POST")
        assert reply.body == large
        assert reply.header("content-type") == "application/octet-stream"


def test_a_body_in_pieces_is_put_together(tmp_path: Path) -> None:
    """[R 18.3]"""
    from fuyun.runtime import wire

    with worker(tmp_path, "", **compiled(tmp_path, ECHO)) as w:
        stream = w.begin(http_head("/", method="POST"), b"one ", end=False)
        w.send(wire.BODY, stream, b"two ")
        w.send(wire.BODY, stream, b"three", wire.END)
        assert w.wait(stream).body == b"one two three"


def test_a_body_that_arrives_together_with_its_invoke(tmp_path: Path) -> None:
    """[R 3.7]: whichever thread reads what; again and again."""
    from fuyun.runtime import wire

    meta = json.dumps(http_head("/", method="POST")).encode()
    with worker(tmp_path, "", **compiled(tmp_path, ECHO), concurrency=4) as w:
        for number in range(1, 101):
            first = wire.frame(wire.INVOKE, number, wire.META.pack(len(meta)) + meta + b"a")
            w.replies[number] = Reply()
            w.sock.sendall(first + wire.frame(wire.BODY, number, b"b%d" % number, wire.END))
            assert w.wait(number).body == b"ab%d" % number


def test_environment_of_a_request(tmp_path: Path) -> None:
    """[R 18.4]"""
    parts = compiled(tmp_path, ENVIRONMENT)
    with worker(tmp_path, "", env={"GREETING": "hello"}, timeout_s=7.5, **parts) as w:
        headers = [
            ("host", "api.example:8080"), ("content-type", "text/plain"), ("content-length", "3"), ("x-a-b", "1"),
            ("x-a-b", "2"), ("cookie", "a=1"), ("cookie", "b=2"), ("proxy", "http://evil.example"), ("x_a_b", "forged"),
        ]  # fmt: skip
        found = variables(w.http("/a%20b/ü?x=1&y=%20", b"abc", method="PUT", headers=headers, base="/fn/default/f"))
        expected = {
            "GATEWAY_INTERFACE": "CGI/1.1", "SERVER_PROTOCOL": "HTTP/1.1", "REQUEST_METHOD": "PUT",
            "SCRIPT_NAME": "/fn/default/f", "PATH_INFO": "/a b/ü", "QUERY_STRING": "x=1&y=%20",
            "REQUEST_URI": "/fn/default/f/a%20b/ü?x=1&y=%20", "REMOTE_ADDR": "192.0.2.7", "REQUEST_SCHEME": "http",
            "SERVER_NAME": "api.example", "SERVER_PORT": "8080", "CONTENT_TYPE": "text/plain", "CONTENT_LENGTH": "3",
            "HTTP_HOST": "api.example:8080", "HTTP_X_A_B": "1,2", "HTTP_COOKIE": "a=1; b=2", "GREETING": "hello",
            "FUYUN_FUNCTION": "hello", "FUYUN_VERSION": "3", "FUYUN_NAMESPACE": "default", "FUYUN_KIND": "http",
            "FUYUN_REQUEST_ID": "req-1", "FUYUN_TIMEOUT_S": "7.5", "FUYUN_INSTANCE": "i-1",
        }  # fmt: skip
        assert {name: found.get(name) for name in expected} == expected
        assert "HTTP_PROXY" not in found
        assert "HTTP_CONTENT_LENGTH" not in found

        items = json.loads(w.event({}, trace="00-ab-cd-01").body).split("\0")
        assert "FUYUN_KIND=event" in items
        assert "TRACEPARENT=00-ab-cd-01" in items
        assert not [item for item in items if item.startswith(("REQUEST_", "HTTP_"))]


@pytest.mark.parametrize(
    ("output", "status", "headers", "body"),
    [
        ("plain words", 200, TEXT, "plain words"),
        ('{"a": 1}\n', 200, {"content-type": "application/json"}, '{"a": 1}\n'),
        ("[NaN]", 200, TEXT, "[NaN]"),
        ("Content-Type: text/html\n\n<p>\n\nx", 200, {"content-type": "text/html"}, "<p>\n\nx"),
        ("Status: 404 Not Found\r\nX-A: b\r\n\r\nno", 404, {"x-a": "b", **TEXT}, "no"),
        ("Location: /x\n\n", 302, {"location": "/x"}, ""),
        ("Status: 204\n\n", 204, {}, ""),
        ("Dear: reader\n\nhello", 200, TEXT, "Dear: reader\n\nhello"),
        ("Content-Type: text/html", 200, TEXT, "Content-Type: text/html"),
        ("", 200, TEXT, ""),
    ],
)  # fmt: skip
def test_answers_with_and_without_a_head(
    tmp_path: Path, output: str, status: int, headers: dict[str, str], body: str
) -> None:
    """[R 18.5] [R 18.6]"""
    reply = http_of(tmp_path, output)
    assert reply.error is None, reply.error
    assert (reply.status, dict(reply.headers or []), reply.body.decode()) == (status, headers, body)


def test_a_bad_head_is_no_answer(tmp_path: Path) -> None:
    """[R 18.6]"""
    assert "'9000'" in error(http_of(tmp_path, "Status: 9000\n\n"), "bad_response")


def test_results_of_events(tmp_path: Path) -> None:
    """[R 18.5]: for events a head is text like any other."""
    with worker(tmp_path, "", **compiled(tmp_path, saying("Status: 404\n\nx"))) as w:
        assert w.event().json == "Status: 404\n\nx"


def test_standard_error_is_the_log(tmp_path: Path) -> None:
    """[R 18.7]"""
    with worker(tmp_path, "", **compiled(tmp_path, saying("one\ntwo\nthr€e", to=2))) as w:
        reply = w.event()
        assert reply.json is None
        assert reply.text == ["one", "two", "thr€e"]
        assert {line["s"] for line in reply.logs} == {"stderr"}


def test_exit_codes(tmp_path: Path) -> None:
    """[R 18.8]; the instance serves on."""
    start = """(if (i32.eq (call $hear (i32.const 1024) (i32.const 1)) (i32.const 1))
      (then (call $proc_exit (i32.sub (i32.load8_u (i32.const 1024)) (i32.const 48)))))"""
    with worker(tmp_path, "", **compiled(tmp_path, text(start))) as w:
        assert "status 3" in error(w.http("/", b"3"), "function_exited")
        assert w.http("/", b"0").error is None
        assert "status 7" in error(w.http("/", b"7"), "function_exited")
        assert w.http().error is None


def test_traps_carry_the_backtrace(tmp_path: Path) -> None:
    """[R 18.8]"""
    rest = """(func $inner (param i32) (drop (i32.div_u (i32.const 1) (local.get 0))))
      (func $outer (call $inner (i32.const 0)))"""
    with worker(tmp_path, "", **compiled(tmp_path, text("(call $outer)", rest))) as w:
        for _ in range(2):
            reply = w.event()
            assert error(reply, "function_raised") == "Trap: integer divide by zero"
            assert reply.error is not None
            assert reply.error["error_type"] == "Trap"
            assert [line.rpartition("!")[2] for line in reply.error["traceback"]][:2] == ["inner", "outer"]
            assert "inner" in reply.logs[-1]["t"]


def test_stack_overflow_and_wild_pointers(tmp_path: Path) -> None:
    """[R 18.8]"""
    with worker(tmp_path, "", **compiled(tmp_path, text("(call $again)", "(func $again (call $again))"))) as w:
        assert "call stack exhausted" in error(w.event(), "function_raised")
        assert "call stack exhausted" in error(w.event(), "function_raised")
    second = tmp_path / "second"
    second.mkdir()
    with worker(second, "", **compiled(second, text("(i32.store (i32.const -4) (i32.const 1))"))) as w:
        assert "out of bounds memory access" in error(w.event(), "function_raised")


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_busy_loop_is_cut_off_and_the_instance_serves_on(tmp_path: Path, concurrency: int) -> None:
    """[R 18.9]: and only the one that loops is cut off."""
    start = "(if (call $hear (i32.const 1024) (i32.const 1)) (then (loop $on (br $on))))"
    with worker(tmp_path, "", timeout_s=1.5, concurrency=concurrency, **compiled(tmp_path, text(start))) as w:
        w.wait_ready()
        for _ in range(2):
            hung = w.begin(http_head("/", method="POST"), b"x")
            if concurrency > 1:
                for _ in range(5):
                    assert w.http().error is None
                assert not w.replies[hung].over
            assert "cut off" in error(w.wait(hung), "function_timed_out")
            assert w.http().error is None


@pytest.mark.parametrize("then", ["(br $on)", ""])
def test_sleeping_past_the_timeout_is_cut_off(tmp_path: Path, then: str) -> None:
    """[R 18.9]: one subscription to a clock, an hour away; then on for ever, or to the end, too early."""
    start = f"""(i64.store (i32.const 1048) (i64.const 3600000000000))
      (loop $on (drop (call $poll_oneoff (i32.const 1024) (i32.const 2048) (i32.const 1) (i32.const 8))) {then})"""
    with worker(tmp_path, "", timeout_s=0.3, **compiled(tmp_path, text(start))) as w:
        assert "cut off" in error(w.event(), "function_timed_out")


def test_memory_is_limited(tmp_path: Path) -> None:
    """[R 18.10]: growing fails at three quarters of the limit; failing while most of it is held is out of memory."""
    start = """(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
      (if (call $hear (i32.const 1024) (i32.const 1)) (then unreachable))
      (i32.store (i32.const 1024) (memory.size)) (call $say (i32.const 1) (i32.const 1024) (i32.const 4))"""
    with worker(tmp_path, "", memory_bytes=64 << 20, **compiled(tmp_path, text(start))) as w:
        for _ in range(2):
            pages = int.from_bytes(w.http().body, "little")
            assert 46 << 20 < pages << 16 <= 48 << 20
            assert "of the 48 MiB" in error(w.http("/", b"x"), "function_out_of_memory")


def test_a_module_that_starts_too_large_does_not_load(tmp_path: Path) -> None:
    """[R 18.10]"""
    with worker(tmp_path, "", memory_bytes=64 << 20, **compiled(tmp_path, text("", pages=800))) as w:
        failed = w.wait_failed()
        assert failed["code"] == "function_out_of_memory"
        assert "more memory than it may have" in failed["message"]


def test_output_is_limited(tmp_path: Path) -> None:
    """[R 18.10]"""
    start = "(loop $on (call $say (i32.const 1) (i32.const 1024) (i32.const 60000)) (br $on))"
    with worker(tmp_path, "", output_bytes=1_000_000, **compiled(tmp_path, text(start))) as w:
        for _ in range(2):
            assert "over 1000000 bytes" in error(w.event(), "response_too_large")


def test_a_flood_of_standard_error_is_cut(tmp_path: Path) -> None:
    """[R 8.3]"""
    start = """(local $left i32) (local.set $left (i32.const 100))
      (loop $on (call $say (i32.const 2) (i32.const 1024) (i32.const 60000))
        (br_if $on (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))"""
    with worker(tmp_path, "", log_bytes=100_000, **compiled(tmp_path, text(start))) as w:
        reply = w.event()
        assert reply.json is None
        assert sum(len(line["t"]) for line in reply.logs) < 110_000
        assert "log cut" in reply.logs[-1]["t"]


@pytest.mark.parametrize("concurrency", [1, 4])
def test_nothing_of_a_call_is_left_for_the_next(tmp_path: Path, concurrency: int) -> None:
    """[R 18.2]: memory, a global, a table, memory that was added, also after a trap."""
    rest = """(global $count (mut i32) (i32.const 0)) (table $names 4 funcref) (elem declare func $hear)
      (data (i32.const 66000) "\\01\\00\\00\\00")"""
    start = """(if (i32.or (global.get $count) (i32.or (i32.load (i32.const 5000)) (i32.or (i32.load (i32.const 131000))
          (i32.or (i32.ne (memory.size) (i32.const 2)) (i32.or (i32.ne (i32.load (i32.const 66000)) (i32.const 1))
          (i32.eqz (ref.is_null (table.get $names (i32.const 1)))))))))
        (then (call $proc_exit (i32.const 9))))
      (global.set $count (i32.const 5)) (i32.store (i32.const 5000) (i32.const 5))
      (i32.store (i32.const 131000) (i32.const 5))
      (i32.store (i32.const 66000) (i32.const 5)) (drop (memory.grow (i32.const 20)))
      (i32.store (i32.const 900000) (i32.const 5)) (table.set $names (i32.const 1) (ref.func $hear))
      (if (call $hear (i32.const 1024) (i32.const 1)) (then unreachable))"""
    with worker(tmp_path, "", concurrency=concurrency, **compiled(tmp_path, text(start, rest))) as w:
        for number in range(60):
            if number % 3:
                assert w.http().error is None
            else:
                error(w.http("/", b"x"), "function_raised")


def test_many_at_once(tmp_path: Path) -> None:
    """[R 1.5] [R 18.2]"""
    with worker(tmp_path, "", concurrency=100, **compiled(tmp_path, ECHO)) as w:
        w.wait_ready()
        streams = [w.begin(http_head("/", method="POST"), b"%d" % n * 3000) for n in range(100)]
        assert [w.wait(stream).body for stream in streams] == [b"%d" % n * 3000 for n in range(100)]


def test_copies_of_a_template_run_and_are_cut_off(tmp_path: Path) -> None:
    """[R 11.1]: an engine survives a fork; timers are each copy's own."""
    start = "(if (call $hear (i32.const 1024) (i32.const 1)) (then (loop $on (br $on))))"
    parts: dict[str, Any] = compiled(tmp_path, text(start + "(call $say (i32.const 1) (i32.const 0) (i32.const 4))"))
    with template(tmp_path, "", 3, timeout_s=0.4, **parts) as (parent, copies):
        ready = parent.wait_ready()
        assert (ready["forkable"], ready["reason"]) == (True, "")
        for copy in copies:
            assert copy.wait_ready()["mode"] == "wasm"
            assert copy.http().error is None
        hung = [copy.begin(http_head("/", method="POST"), b"x") for copy in copies]
        for copy, stream in zip(copies, hung, strict=True):
            error(copy.wait(stream), "function_timed_out")
            assert copy.http().error is None


def test_what_wasi_gives(tmp_path: Path) -> None:
    """[R 18.11]: randomness differs, clocks go on, and files and sockets are not there."""
    start = """(drop (call $random_get (i32.const 1024) (i32.const 16)))
      (drop (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 1040)))
      (i32.store8 (i32.const 1048) (call $path_open (i32.const 3) (i32.const 0) (i32.const 1024) (i32.const 4)
        (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 8)))
      (i32.store8 (i32.const 1049) (call $fd_prestat_get (i32.const 3) (i32.const 16)))
      (i32.store8 (i32.const 1050)
        (call $sock_send (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 8)))
      (i32.store8 (i32.const 1051) (call $fd_seek (i32.const 1) (i64.const 0) (i32.const 0) (i32.const 8)))
      (i32.store8 (i32.const 1052) (call $fd_write (i32.const 3) (i32.const 0) (i32.const 1) (i32.const 8)))
      (i32.store8 (i32.const 1053) (call $fd_write (i32.const 1) (i32.const -8) (i32.const 1) (i32.const 8)))
      (i32.store8 (i32.const 1054) (call $random_get (i32.const 131000) (i32.const 1000)))
      (i32.store8 (i32.const 1055) (call $clock_time_get (i32.const 9) (i64.const 0) (i32.const 1040)))
      (call $say (i32.const 1) (i32.const 1024) (i32.const 32))"""
    with worker(tmp_path, "", **compiled(tmp_path, text(start))) as w:
        first, second = w.http().body, w.http().body
        assert first[:16] != second[:16]
        clocks = [int.from_bytes(one[16:24], "little") for one in (first, second)]
        assert 1_600_000_000_000_000_000 < clocks[0] <= clocks[1]
        badf, fault, inval, spipe = 8, 21, 28, 70
        assert list(first[24:]) == [badf, badf, badf, spipe, badf, fault, fault, inval]


@pytest.mark.parametrize(
    ("module", "code", "words"),
    [
        ('(module (func (export "main")))', "handler_missing", "exports no _start; it exports main"),
        ('(module (import "env" "f" (func)) (func (export "_start")))', "function_load_failed", "imports env.f"),
        (WASI.format("fd_fly"), "function_load_failed", "has no fd_fly"),
        (WASI.format("fd_read"), "function_load_failed", "cannot be linked"),
        (f'(module {"(memory 1)" * 2} (func (export "_start")))', "function_load_failed", "cannot be loaded"),
        ('(module (func $f unreachable) (start $f) (func (export "_start")))', "function_raised", "unreachable"),
    ],
)  # fmt: skip
def test_modules_that_cannot_serve_say_why(tmp_path: Path, module: str, code: str, words: str) -> None:
    """[R 18.1]"""
    with worker(tmp_path, "", **compiled(tmp_path, module)) as w:
        failed = w.wait_failed()
        assert failed["code"] == code
        assert words in failed["message"], failed
        assert w.wait_exit() != 0


def test_machine_code_for_another_engine_is_refused(tmp_path: Path) -> None:
    """[R 18.1]"""
    parts = compiled(tmp_path, ECHO)
    place = tmp_path / "code/app.wat.cwasm"
    place.write_bytes(place.read_bytes()[:2000])
    with worker(tmp_path, "", **parts) as w:
        assert "cannot be loaded" in w.wait_failed()["message"]
    (tmp_path / "empty").mkdir()
    with worker(tmp_path, "", **{**parts, "layers": [str(tmp_path / "empty")]}) as w:
        assert "no layer of the version holds a WebAssembly engine" in w.wait_failed()["message"]
    place.unlink()
    with worker(tmp_path, "", **parts) as w:
        assert "no compiled app.wat" in w.wait_failed()["message"]


def test_a_module_without_memory(tmp_path: Path) -> None:
    """[R 18.11]: what WASI cannot write anywhere fails."""
    module = """(module (import "wasi_snapshot_preview1" "random_get" (func $r (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (func (export "_start") (call $exit (call $r (i32.const 0) (i32.const 1)))))"""
    with worker(tmp_path, "", **compiled(tmp_path, module)) as w:
        assert "status 21" in error(w.event(), "function_exited")


def test_loops_end_with_the_platform(tmp_path: Path) -> None:
    """[R 12.6] holds between calls; within one the timeout does."""
    with worker(tmp_path, "", timeout_s=0.3, **compiled(tmp_path, LOOP)) as w:
        w.begin({"id": "1", "kind": "event", "headers": []})
        w.sock.close()
        assert w.wait_exit() == 0


def test_no_pointer_leads_out_of_the_module(tmp_path: Path) -> None:
    """[R 18.11]: whatever numbers a module hands to WASI, it gets a code, and the instance lives."""
    a, b, c, d = (f"(i32.load (i32.const {1024 + 4 * n}))" for n in range(4))
    calls = [
        f"(call $fd_write (i32.const 2) {a} {b} {c})", f"(call $fd_read (i32.const 0) {a} {b} {c})",
        f"(call $environ_get {a} {b})", f"(call $environ_sizes_get {a} {b})", f"(call $args_get {c} {d})",
        f"(call $random_get {a} {d})", f"(call $poll_oneoff {a} {b} (i32.and {c} (i32.const 2047)) {d})",
        f"(call $fd_fdstat_get {d} {a})", f"(call $clock_time_get {d} (i64.const 0) {a})",
    ]  # fmt: skip
    # The numbers are put back before each call: the one before may have written over them.
    again = "(memory.copy (i32.const 1024) (i32.const 512) (i32.const 16))"
    start = "(drop (call $hear (i32.const 512) (i32.const 16)))" + "".join(f"{again} (drop {one})" for one in calls)
    edges = st.sampled_from([0, 1, 8, 512, 1024, 131064, 131071, 131072, 2**31 - 1, 2**31, 2**32 - 8, 2**32 - 1])
    numbers = st.tuples(*[edges | st.integers(0, 2**32 - 1)] * 4)
    with worker(tmp_path, "", log_bytes=1000, timeout_s=5.0, **compiled(tmp_path, text(start))) as w:

        @given(values=numbers)
        def attempt(values: tuple[int, int, int, int]) -> None:
            reply = w.http("/", struct.pack("<4I", *values), method="POST")
            assert reply.error is None or reply.error["error_type"] == "Trap", reply.error

        attempt()
