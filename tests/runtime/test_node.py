"""The Node worker: loading, handlers, errors, context, hooks. Cites clauses of docs/contracts/runtime.md."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fuyun.runtime import wire
from tests.runtime.driver import ROOT, event_head, node_worker, task_for

ECHO = "exports.handler = async (event, context) => event;"


def test_frames_have_the_numbers_of_the_wire() -> None:
    script = "const f = require('./frames.js'); console.log(JSON.stringify([f.KIND, f.WINDOW, f.MAX_FRAME]))"
    said = subprocess.run(["node", "-e", script], cwd=ROOT / "src/fuyun/runtime/node", capture_output=True, check=True)
    kinds, window, largest = json.loads(said.stdout)
    assert kinds == {name: getattr(wire, name) for name in kinds}
    assert {"SPECIALIZE", "INVOKE", "RESULT", "LOG", "HOOKED"} <= kinds.keys()
    assert (window, largest) == (wire.WINDOW, wire.MAX_FRAME)


@pytest.mark.parametrize(
    ("files", "handler"),
    [
        ({"index.js": ECHO}, "index.handler"),
        ({"index.mjs": "export const handler = async (event) => event;"}, "index.handler"),
        ({"index.cjs": ECHO}, "index.handler"),
        ({"src/app/main.js": ECHO}, "src/app/main.handler"),
        ({"lib/index.js": ECHO}, "lib.handler"),
        ({"my-file.v2.js": "exports.a = { b: (event) => event };"}, "my-file.v2:a.b"),
        ({"index.js": "export const handler = (e) => e;", "package.json": '{"type": "module"}'}, "index.handler"),
        ({"index.mjs": "await null; export default { handler: (event) => event };"}, "index.handler"),
        ({"index.js": "module.exports = (event) => event; module.exports.handler = module.exports;"}, "index.handler"),
        ({"index.js": "exports.handler = (event, context, callback) => callback(null, event);"}, "index.handler"),
        ({"index.js": "exports.handler = (e, c, done) => { setImmediate(() => done(null, e)); };"}, "index.handler"),
    ],
)
def test_handlers_of_every_kind(tmp_path: Path, files: dict[str, str], handler: str) -> None:
    """[R 16.1] [R 16.2]"""
    with node_worker(tmp_path, files, handler) as worker:
        ready = worker.wait_ready()
        assert ready["mode"] == "event"
        assert not ready["forkable"]
        assert worker.event({"a": [1, None]}).json == {"a": [1, None]}
        assert worker.event().json == {}


@pytest.mark.parametrize(
    ("files", "handler", "code", "words"),
    [
        ({"main.js": ECHO}, "mian.handler", "function_load_failed", ["no file mian.js", "main.js", 'mean "main"']),
        ({"index.js": "exports.handlr = () => 1;"}, "index.handler", "handler_missing", ['mean "handlr"']),
        ({"index.js": "exports.handler = 5;"}, "index.handler", "handler_missing", ["is a number"]),
        (
            {"index.js": "require('left-pad-9')"},
            "index.handler",
            "function_load_failed",
            ["left-pad-9", "package.json"],
        ),
        ({"index.js": "require('./other')"}, "index.handler", "function_load_failed", ["./other"]),
        ({"index.js": "import x from 'fs'; ("}, "index.handler", "function_load_failed", ["SyntaxError"]),
        ({"index.js": "throw new TypeError('no')"}, "index.handler", "function_load_failed", ["TypeError: no"]),
        ({"index.mjs": "await Promise.reject(new Error('x'))"}, "index.handler", "function_load_failed", ["Error: x"]),
        ({"index.js": ECHO}, "handler", "handler_missing", ["index.handler"]),
    ],
)
def test_what_does_not_load(tmp_path: Path, files: dict[str, str], handler: str, code: str, words: list[str]) -> None:
    """[R 6.5]"""
    with node_worker(tmp_path, files, handler) as worker:
        failed = worker.wait_failed()
        assert failed["code"] == code
        for word in words:
            assert word in failed["message"]
        assert worker.wait_exit() == 70


def test_an_error_while_loading_later_is_one_of_loading(tmp_path: Path) -> None:
    code = "setTimeout(() => { throw new Error('late') }, 1); await new Promise(() => setTimeout(() => 0, 60000));"
    with node_worker(tmp_path, {"index.mjs": code}) as worker:
        failed = worker.wait_failed()
        assert failed["code"] == "function_load_failed"
        assert "late" in failed["message"]
        assert worker.wait_exit() == 70


def test_a_raised_error_has_the_authors_frames(tmp_path: Path) -> None:
    """[R 6.2] [R 6.6]"""
    code = {
        "index.js": """
            const lib = require('lib');
            class Broken extends Error {}
            function inner(cause) { throw new Broken('no\\nreally', { cause }); }
            exports.handler = async (event) => {
              if (event.text) throw event.text;
              if (event.library) return lib(() => JSON.parse('{'));
              try { lib(() => { throw new RangeError('first'); }); } catch (error) { inner(error); }
            };
        """,
        "node_modules/lib/index.js": "module.exports = (f) => f();",
    }
    with node_worker(tmp_path, code) as worker:
        worker.wait_ready()
        reply = worker.event({"a": 1})
        assert reply.error is not None
        assert reply.error["code"] == "function_raised"
        assert reply.error["error_type"] == "Broken"
        assert reply.error["message"] == "Broken: no\nreally"
        trace = "\n".join(reply.error["traceback"])
        assert "at inner (" in trace
        assert "RangeError: first" in trace
        assert "worker.js" not in trace
        assert "node:internal" not in trace
        assert "node_modules/lib" not in trace
        assert [line["l"] for line in reply.logs] == ["error"]
        thrown = worker.event({"text": "just text"}).error
        assert thrown is not None
        assert (thrown["error_type"], thrown["message"]) == ("string", "string: just text")
        assert worker.event({"library": 1}).error["error_type"] == "SyntaxError"  # type: ignore[index]
        again = worker.event({"text": "x"}).error
        assert again is not None, "it goes on serving"


@pytest.mark.parametrize(
    "late",
    [
        "setTimeout(() => { throw new Error('nobody caught it') }, 1)",
        "Promise.reject(new Error('nobody caught it'))",
        "require('fs').readFile('/', () => { throw new Error('nobody caught it') })",
    ],
)
@pytest.mark.parametrize("concurrency", [1, 5])
def test_what_nobody_catches_fails_its_call_and_ends(tmp_path: Path, late: str, concurrency: int) -> None:
    """[R 16.5]"""
    code = f"exports.handler = async (event) => {{ if (event.bad) {late}; await new Promise(() => 0); }};"
    with node_worker(tmp_path, code, concurrency=concurrency) as worker:
        worker.wait_ready()
        others = [worker.begin(event_head(), b"{}") for _ in range(concurrency - 1)]
        error = worker.event({"bad": True}).error
        assert error is not None
        assert error["code"] == "function_raised"
        assert "nobody caught it" in error["message"]
        assert any("index.js" in line for line in error["traceback"]) or "readFile" in late
        worker.wait_eof()
        assert worker.wait_exit() == 1
        assert all(not worker.replies[stream].over for stream in others), "its neighbours are not told its error"


def test_process_exit_is_function_exited(tmp_path: Path) -> None:
    """[R 6.3]"""
    code = """
        process.on('exit', () => console.log('bye'));
        exports.handler = async () => { process.stdout.write('unfinished'); process.exit(3); };
    """
    with node_worker(tmp_path, code) as worker:
        worker.wait_ready()
        stream = worker.begin(event_head())
        worker.wait_eof()
        assert worker.wait_exit() == 3
        assert not worker.replies[stream].over, "how it ended is the platform's to tell"
        assert worker.replies[stream].text == ["unfinished", "bye"]


def test_a_payload_that_is_not_json(tmp_path: Path) -> None:
    """[R 3.2]"""
    with node_worker(tmp_path, ECHO) as worker:
        worker.wait_ready()
        error = worker.wait(worker.begin(event_head(), b"{'a': 1}")).error
        assert error is not None
        assert error["code"] == "bad_request"
        error = worker.wait(worker.begin(event_head(), b'"\xff"')).error
        assert error is not None
        assert error["code"] == "bad_request"


def test_the_context(tmp_path: Path) -> None:
    """[R 7.1] [R 7.2] [R 16.3]"""
    code = """
        exports.handler = async (event, c) => [
          c.requestId, c.awsRequestId, c.function, c.functionName, c.version, c.functionVersion, c.alias, c.namespace,
          c.instance, c.logStreamName, c.attempt, c.kind, c.trace, c.deadline, c.memoryLimitBytes, c.memoryLimitInMB,
          c.client, c.invokedFunctionArn, c.logGroupName, c.remainingTimeMs(), c.getRemainingTimeInMillis() <= 5000,
          c.signal.aborted, c.callbackWaitsForEmptyEventLoop,
        ];
    """
    head = {"alias": "live", "attempt": 2, "trace": "00-1", "source": "192.0.2.1", "deadline_ms": 1000}
    with node_worker(tmp_path, code) as worker:
        worker.wait_ready()
        assert worker.event(**head, headers=[["user-agent", "t"]]).json == [
            "req-1", "req-1", "hello", "hello", "3", "3", "live", "default", "i-1", "i-1", 2, "event", "00-1", 1,
            256 << 20, "256", {"address": "192.0.2.1", "scheme": "http", "userAgent": "t"},
            "fuyun:default:hello:live", "default/hello", 0, True, False, False,
        ]  # fmt: skip


def test_the_environment(tmp_path: Path) -> None:
    """[R 2.2] [R 2.3]"""
    code = "exports.handler = async () => ({ env: process.env, cwd: process.cwd(), hour: new Date(0).getHours() });"
    os.environ["NOT_FOR_FUNCTIONS"] = "1"
    try:
        with node_worker(tmp_path, code, env={"TZ": "Asia/Tokyo", "MINE": "yes"}) as worker:
            worker.wait_ready()
            found = worker.event().json
    finally:
        del os.environ["NOT_FOR_FUNCTIONS"]
    assert found["cwd"] == str(tmp_path / "code")
    assert found["env"]["MINE"] == "yes"
    assert found["env"]["FUYUN_FUNCTION"] == "hello"
    assert found["env"]["FUYUN_MEMORY_BYTES"] == str(256 << 20)
    assert "NOT_FOR_FUNCTIONS" not in found["env"]
    assert found["hour"] == 9


@pytest.mark.parametrize("inner", ["", "node_modules/", "nodejs/node_modules/"])
def test_layers_hold_packages(tmp_path: Path, inner: str) -> None:
    """[R 16.4]"""
    package = tmp_path / "layer" / f"{inner}tiny"
    package.mkdir(parents=True)
    (package / "index.js").write_text("module.exports = 'from the layer';")
    code = "const tiny = require('tiny'); exports.handler = async () => tiny;"
    with node_worker(tmp_path, code, layers=[str(tmp_path / "layer")]) as worker:
        worker.wait_ready()
        assert worker.event().json == "from the layer"


HOOKS = """
    const seen = [];
    exports.init = async (context) => { await null; seen.push('init ' + context.functionName); };
    exports.freeze = () => { seen.push('freeze'); };
    exports.stop = async () => { await new Promise((resolve) => setTimeout(resolve, 60000).unref()); };
    exports.broken = () => { throw new TypeError('not today'); };
    exports.handler = async () => seen;
"""


def test_hooks(tmp_path: Path) -> None:
    """[R 10.1] [R 10.2] [R 10.3]"""
    hooks = {"initializer": "index.init", "pre_freeze": "index.freeze", "pre_stop": "index.stop"}
    limits = {"pre_stop_timeout_s": 0.05}
    with node_worker(tmp_path, HOOKS, hooks={**hooks, **limits}) as worker:
        assert worker.wait_ready()["hooks"] == ["pre_freeze", "pre_stop"]
        assert worker.hook("pre_freeze") == {"ok": True}
        assert worker.event().json == ["init hello", "freeze"]
        told = worker.hook("pre_stop")
        assert (told["code"], told["message"]) == ("function_timed_out", "pre_stop did not end within 0.05 s")


@pytest.mark.parametrize(
    ("hooks", "words"),
    [
        ({"initializer": "index.broken"}, "initializer failed: TypeError: not today"),
        ({"initializer": "index.stop", "initializer_timeout_s": 0.05}, "did not end within 0.05 s"),
    ],
)
def test_an_initializer_that_fails(tmp_path: Path, hooks: dict[str, Any], words: str) -> None:
    """[R 6.5]"""
    with node_worker(tmp_path, HOOKS, hooks=hooks) as worker:
        failed = worker.wait_failed()
        assert failed["code"] == "function_init_failed"
        assert words in failed["message"]
        assert worker.wait_exit() == 70


def test_it_ends_with_its_connection(tmp_path: Path) -> None:
    """[R 12.6]"""
    code = "process.on('exit', () => require('fs').writeFileSync(process.env.TMPDIR + '/x', '')); " + ECHO
    with node_worker(tmp_path, code) as worker:
        worker.wait_ready()
        worker.sock.close()
        assert worker.wait_exit() == 0
    assert not (tmp_path / "tmp/x").exists(), "exit handlers do not run"


def test_a_frame_out_of_place_ends_it(tmp_path: Path) -> None:
    """[R 12.6]"""
    with node_worker(tmp_path, ECHO) as worker:
        worker.wait_ready()
        worker.send(wire.SPECIALIZE, 0, b"{}")
        worker.wait_eof()
        assert worker.wait_exit() == 0


def test_it_ends_when_its_task_never_comes(tmp_path: Path) -> None:
    task_for(tmp_path, {"index.js": ECHO}, "index.handler")
    script = ROOT / "src/fuyun/runtime/node/worker.js"
    done = subprocess.run(["node", str(script), "0", "1"], stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_children_do_not_inherit_the_connection(tmp_path: Path) -> None:
    """[R 6.7]"""
    code = """
        const { execFileSync } = require('node:child_process');
        exports.handler = async () => execFileSync('ls', ['/proc/self/fd']).toString();
    """
    with node_worker(tmp_path, code) as worker:
        worker.wait_ready()
        assert worker.event().json.split() == ["0", "1", "2", "3"], "its own three, and the folder it lists"
