"""Programs that speak the Lambda Runtime API, each a real process with its keeper, over the frames [R 13, R 14]."""

from __future__ import annotations

import base64
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.leaks import state_of
from tests.runtime import driver
from tests.runtime.bootstraps import BOOTSTRAP, custom, do
from tests.runtime.driver import Worker, event_head, http_head
from tests.waiting import wait_until


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Worker]:
    with custom(tmp_path) as worker:
        worker.wait_ready()
        yield worker


def test_ready_says_that_it_is_not_forked(program: Worker) -> None:
    assert program.ready is not None
    assert not program.ready["forkable"]
    assert program.ready["hooks"] == ["pre_stop"]
    assert program.ready["init_ms"] > 0


def test_an_event_and_its_headers(program: Worker) -> None:
    reply = do(
        program,
        "respond([headers, event['x']])",
        id="req-7",
        deadline_ms=1_900_000_000_123,
        trace="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        headers=[["x-amz-client-context", base64.b64encode(b'{"custom": {"a": "\xc3\xbc"}}').decode()]],
    )
    assert reply.error == {"code": "function_raised", "message": "KeyError: 'x'", "error_type": "KeyError",
                           "traceback": ["here"]}  # fmt: skip
    stream = program.begin(
        event_head(
            id="req-7",
            deadline_ms=1_900_000_000_123,
            trace="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            headers=[["x-amz-client-context", base64.b64encode(b'{"custom": {"a": "\xc3\xbc"}}').decode()]],
        ),
        json.dumps({"do": "respond([headers, event['x']])", "x": [None, "é"]}).encode(),
    )
    headers, value = program.wait(stream).json
    assert value == [None, "é"]
    assert headers["Content-Type"] == "application/json"
    told = {name: text for name, text in headers.items() if name.startswith("Lambda-Runtime")}
    assert json.loads(told.pop("Lambda-Runtime-Client-Context")) == {"custom": {"a": "ü"}}
    assert told == {
        "Lambda-Runtime-Aws-Request-Id": "req-7",
        "Lambda-Runtime-Deadline-Ms": "1900000000123",
        "Lambda-Runtime-Invoked-Function-Arn": "fuyun:default:hello:3",
        "Lambda-Runtime-Trace-Id": "Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=b7ad6b7169203331;Sampled=1",
    }


def test_a_request_is_an_event_as_python_functions_get_it(program: Worker) -> None:
    reply = program.http(
        "/a%20b?q=1&q=2", b"respond({k: event[k] for k in event if k != 'body'})", method="POST",
        headers=[["host", "h"], ["cookie", "a=1; b=2"], ["content-type", "text/plain"]],
    )  # fmt: skip
    event = reply.json
    assert (event["version"], event["rawPath"], event["queryStringParameters"]) == ("2.0", "/a%20b", {"q": "1,2"})
    assert event["cookies"] == ["a=1", "b=2"]
    assert event["requestContext"]["http"]["method"] == "POST"


ANSWERS = [
    ("respond({'statusCode': 201, 'headers': {'X-A': 'b'}, 'cookies': ['c=1'], 'body': 'made'})",
     201, b"made", {"x-a": "b", "set-cookie": "c=1", "content-type": "text/plain; charset=utf-8"}),
    ("respond({'statusCode': 200, 'body': 'AAH/', 'isBase64Encoded': True})",
     200, b"\x00\x01\xff", {"content-type": "application/octet-stream"}),
    ("respond('plain text')", 200, b"plain text", {"content-type": "text/plain; charset=utf-8"}),
    ("respond(b'not JSON', 'text/weird')", 200, b"not JSON", {"content-type": "text/plain; charset=utf-8"}),
    ("respond(b'\\xff\\xfe')", 200, b"\xff\xfe", {"content-type": "application/octet-stream"}),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "status", "body", "headers"), ANSWERS)
def test_answers_over_http(program: Worker, lines: str, status: int, body: bytes, headers: dict[str, str]) -> None:
    reply = program.http("/", lines.encode())
    assert (reply.status, reply.body, dict(reply.headers or [])) == (status, body, headers)


def test_json_passes_as_it_is(program: Worker) -> None:
    reply = program.http("/", b"respond(b' [1, 2.50]')")
    assert (reply.status, reply.headers, reply.body) == (200, None, b" [1, 2.50]")
    assert do(program, "respond({'statusCode': 404})").json == {"statusCode": 404}


def test_answers_that_cannot_be(program: Worker) -> None:
    reply = program.http("/", b"respond({'statusCode': 99})")
    assert reply.error is not None
    assert reply.error["code"] == "bad_response"
    assert "result['statusCode'] is 99" in reply.error["message"]
    reply = program.http("/", b"respond(b'[NaN]')")
    assert reply.header("content-type") == "text/plain; charset=utf-8"  # it is no JSON


def test_a_payload_that_is_not_json_does_not_reach_it(program: Worker) -> None:
    reply = program.wait(program.begin(event_head(), b"{"))
    assert reply.error is not None
    assert reply.error["code"] == "bad_request"
    assert do(program, "respond(1)").json == 1


def test_a_body_in_pieces(program: Worker) -> None:
    stream = program.begin(http_head(method="POST"), b"respond(", end=False)
    program.send(driver.wire.BODY, stream, b"len(event['body']))" + b" " * 200_000, driver.wire.END)
    assert program.wait(stream).json == len("respond(len(event['body']))") + 200_000


def test_a_result_over_the_limit(tmp_path: Path) -> None:
    with custom(tmp_path, output_bytes=1000) as worker:
        reply = do(worker, "answer = respond(b'1' * 1001)")
        assert reply.error is not None
        assert reply.error["code"] == "response_too_large"
        assert "1001 bytes, over the limit of 1000" in reply.error["message"]
        status, told = do(worker, "respond([answer[0], json.loads(answer[2])])").json
        assert (status, told["errorType"]) == (413, "RequestEntityTooLarge")
        assert do(worker, "respond(b'1' * 1000)").body == b"1" * 1000


def test_a_large_result(tmp_path: Path) -> None:
    with custom(tmp_path, output_bytes=80 << 20) as worker:
        assert len(do(worker, "respond(b'7' * (20 << 20))").body) == 20 << 20
        assert len(do(worker, "respond(b'7' * (70 << 20))").body) == 70 << 20  # too long for a frame: a stream


def test_streaming(program: Worker) -> None:
    reply = do(program, "stream([b'one ', b'two ', b'x' * 600_000])")
    assert reply.streamed
    assert reply.headers == [("content-type", "text/plain")]
    assert reply.body == b"one two " + b"x" * 600_000


def test_streaming_with_a_prelude(program: Worker) -> None:
    prelude = "json.dumps({'statusCode': 418, 'headers': {'X-A': '1'}, 'cookies': ['a=b']}).encode()"
    lines = f"p = {prelude}; stream([p[:9], p[9:] + bytes(5), bytes(3) + b'tea', b' time'], KIND)"
    kind = "KIND = 'application/vnd.awslambda.http-integration-response'; "
    reply = program.http("/", (kind + lines).encode())
    assert (reply.status, reply.body, reply.streamed) == (418, b"tea time", True)
    assert dict(reply.headers or []) == {
        "x-a": "1", "set-cookie": "a=b", "content-type": "application/octet-stream"
    }  # fmt: skip
    for wrong in ("b'no prelude at all'", "b'[1' + bytes(8)", "b'x' * 100_000"):
        reply = program.http("/", f"{kind}stream([{wrong}], KIND)".encode())
        assert reply.error is not None
        assert reply.error["code"] == "bad_response"
        assert "prelude" in reply.error["message"]


def test_a_stream_that_fails_at_its_end(program: Worker) -> None:
    told = base64.b64encode(b'{"errorType": "Late", "errorMessage": "too bad"}').decode()
    trailers = f"[b'Lambda-Runtime-Function-Error-Type: Late', b'Lambda-Runtime-Function-Error-Body: {told}']"
    reply = do(program, f"stream([b'half'], trailers={trailers})")
    assert reply.body == b"half"
    assert reply.error is not None
    assert (reply.error["code"], reply.error["message"]) == ("function_raised", "Late: too bad")
    assert do(program, "respond(1)").json == 1


BREAK_OFF = (
    "s = socket.create_connection(API.split(':')); s.sendall(('POST ' + RUNTIME + '/invocation/' + id + "
    "'/response HTTP/1.1\\r\\nlambda-runtime-function-response-mode: streaming\\r\\n"
    "transfer-encoding: chunked\\r\\n\\r\\n5\\r\\nhello\\r\\n5\\r\\nhe').encode()); s.close()"
)


def test_a_stream_that_breaks_off(program: Worker) -> None:
    reply = do(program, BREAK_OFF)
    assert reply.body.startswith(b"hello")
    assert reply.error is not None
    assert reply.error["code"] == "bad_response"
    assert "broke off" in reply.error["message"]


@pytest.mark.parametrize(("end", "status"), [("os._exit(3)", 3), ("os.kill(os.getpid(), signal.SIGKILL)", 137)])
def test_a_stream_that_breaks_off_because_the_program_ends(program: Worker, end: str, status: int) -> None:
    stream = program.begin(event_head(), json.dumps({"do": f"{BREAK_OFF}; time.sleep(0.3); {end}"}).encode())
    program.wait_eof()
    assert program.wait_exit() == status
    assert program.replies[stream].body.startswith(b"hello")
    assert program.replies[stream].error is None  # the exit status says more


def test_a_stream_whose_caller_is_gone_is_read_to_its_end(program: Worker) -> None:
    program.auto_credit = False
    stream = program.begin(event_head(), json.dumps({"do": "stream([b'x' * 100_000] * 20)"}).encode())
    wait_until(lambda: program.pump() or len(program.replies[stream].body) >= driver.wire.WINDOW, "a full window")
    program.send(driver.wire.CANCEL, stream)
    assert len(program.wait(stream).body) == driver.wire.WINDOW
    assert do(program, "respond(1)").json == 1


REFUSED = [
    ("ask('GET', RUNTIME + '/invocation/next')", 403, "InvalidStateTransition"),
    ("ask('POST', RUNTIME + '/invocation/other/response', b'1')", 400, "InvalidRequestID"),
    ("ask('POST', RUNTIME + '/init/error', b'{}')", 403, "InvalidStateTransition"),
    ("ask('GET', '/2018-06-01/runtime/nothing')", 404, "NotFound"),
    ("ask('PUT', '/2022-07-01/telemetry', b'{}')", 202, "Telemetry.NotSupported"),
    ("ask('GET', '/2020-01-01/extension/event/next')", 403, "Extension.UnknownExtensionIdentifier"),
    ("ask('POST', '/2020-01-01/extension/register', b'{}', {'Lambda-Extension-Name': 'x'})", 403,
     "Extension.RegistrationClosed"),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "status", "error_type"), REFUSED)
def test_requests_that_cannot_be(program: Worker, request_: str, status: int, error_type: str) -> None:
    found, told = do(program, f"a = {request_}; respond([a[0], json.loads(a[2])])").json
    assert (found, told["errorType"]) == (status, error_type)


def test_a_second_answer_is_refused(program: Worker) -> None:
    assert do(program, "respond(1); second = respond(2)").json == 1
    assert do(program, "respond([second[0], json.loads(second[2])['errorType']])").json == [400, "InvalidRequestID"]


def test_what_is_printed_belongs_to_the_invocation(tmp_path: Path) -> None:
    with custom(tmp_path, env={"FIRST": "print('starting', flush=True)"}) as worker:
        lines = "print('out'); print('err\\rover', file=sys.stderr); print('half', end='', flush=True); respond(1)"
        reply = do(worker, lines)
        assert sorted(reply.text) == ["err", "half", "out", "over"]
        assert {line["s"] for line in reply.logs} == {"stdout", "stderr"}
        assert [line["t"] for line in worker.idle_logs] == ["starting"]


def test_a_flood_of_output_is_cut(tmp_path: Path) -> None:
    with custom(tmp_path, log_bytes=10_000) as worker:
        reply = do(worker, "print('x' * 99 + '\\n', end='' * 3, flush=True) or sys.stdout.write('y\\n' * 200_000)\n"
                           "sys.stdout.flush(); respond(1)")  # fmt: skip
        assert reply.json == 1
        assert sum(len(line["t"]) + 1 for line in reply.logs if line["l"] != "warning") <= 10_000
        assert "log cut" in reply.logs[-1]["t"]


def test_several_invocations_at_once(tmp_path: Path) -> None:
    first = """
def work():
    mine = connect()
    while True:
        status, headers, raw = ask("GET", RUNTIME + "/invocation/next", connection=mine)
        id = headers["Lambda-Runtime-Aws-Request-Id"]
        together.wait(20)
        ask("POST", RUNTIME + "/invocation/" + id + "/response", raw, connection=mine)
together = threading.Barrier(3)
for _ in range(3):
    threading.Thread(target=work).start()
threading.Event().wait()
"""
    with custom(tmp_path, concurrency=3, env={"FIRST": first}) as worker:
        for _ in range(5):
            streams = [worker.begin(event_head(id=f"r{number % 2}"), b"%d" % number) for number in range(3)]
            assert [worker.wait(stream).json for stream in streams] == [0, 1, 2]


def test_the_environment(program: Worker) -> None:
    env = do(program, "respond(dict(os.environ, cwd=os.getcwd()))").json
    assert env["cwd"] == env["LAMBDA_TASK_ROOT"]
    assert env["AWS_LAMBDA_RUNTIME_API"].startswith("127.0.0.1:")
    expected = {
        "AWS_LAMBDA_FUNCTION_NAME": "hello", "AWS_LAMBDA_FUNCTION_VERSION": "3", "_HANDLER": "app.handler",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256", "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1", "TZ": "UTC", "LANG": "C.UTF-8",
        "LAMBDA_RUNTIME_DIR": "/var/runtime", "AWS_LAMBDA_LOG_GROUP_NAME": "/fuyun/default/hello",
        "AWS_LAMBDA_LOG_STREAM_NAME": "i-1", "FUYUN_FUNCTION": "hello", "FUYUN_INSTANCE": "i-1",
    }  # fmt: skip
    assert {name: env.get(name) for name in expected} == expected
    assert os.access(env["FUYUN_PYTHON"], os.X_OK)


def test_what_the_function_sets_and_what_it_cannot(tmp_path: Path) -> None:
    env = {"AWS_REGION": "eu-west-1", "TZ": "Asia/Shanghai", "AWS_LAMBDA_RUNTIME_API": "elsewhere", "MINE": "1"}
    with custom(tmp_path, env=env) as worker:
        found = do(worker, "respond(dict(os.environ))").json
    assert (found["AWS_REGION"], found["AWS_DEFAULT_REGION"]) == ("eu-west-1", "eu-west-1")
    assert (found["TZ"], found["MINE"]) == ("Asia/Shanghai", "1")
    assert found["AWS_LAMBDA_RUNTIME_API"].startswith("127.0.0.1:")


def test_a_bootstrap_in_a_layer(tmp_path: Path) -> None:
    layer = driver.write_code(tmp_path / "shared", {"bootstrap": BOOTSTRAP, "bin/tool": "#!/bin/sh\necho used\n"})
    with driver.worker(tmp_path, {"x": ""}, "app.handler", runtime="custom", layers=[str(layer)]) as worker:
        assert do(worker, "import subprocess; respond(subprocess.getoutput('tool'))").json == "used"


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("", "function_load_failed", "bootstrap is not executable; run chmod +x bootstrap"),
        ("#!/usr/bin/env nothing-of-the-kind\n", "function_init_failed", "bootstrap exited with status 127 before"),
        ("#!/bin/sh\r\nexit\r\n", "function_load_failed", "'/bin/sh', which the sandbox does not have (its first line"),
        ("#!/bin/sh\necho out; echo last >&2; exit 3\n", "function_init_failed", "bootstrap exited with status 3"),
        ("#!/bin/sh\nkill -SEGV $$\n", "function_init_failed", "bootstrap was ended by signal 11 (SIGSEGV)"),
    ],
)
def test_starts_that_fail(tmp_path: Path, text: str, code: str, message: str) -> None:
    with driver.worker(tmp_path, {"bootstrap": text}, "app.handler", runtime="custom") as worker:
        problem = worker.wait_failed()
        assert (problem["code"], message in problem["message"]) == (code, True), problem
        worker.wait_eof()
        assert worker.wait_exit() == 70
        if "last" in text:
            assert sorted(problem["traceback"]) == ["last", "out"]


def test_it_ends_during_an_invocation(program: Worker) -> None:
    program.begin(event_head(), json.dumps({"do": "print('bye', flush=True); os._exit(3)"}).encode())
    program.wait_eof()
    assert program.wait_exit() == 3
    assert program.replies[1].text == ["bye"]


def test_a_signal_ends_it(program: Worker) -> None:
    program.begin(event_head(), json.dumps({"do": "os.kill(os.getpid(), signal.SIGABRT)"}).encode())
    program.wait_eof()
    assert program.wait_exit() == 128 + signal.SIGABRT


def test_one_that_exits_between_invocations_is_started_again(program: Worker) -> None:
    pids = [do(program, "respond(os.getpid()); os._exit(1)").json for _ in range(3)]
    assert len(set(pids)) == 3
    wait_until(lambda: all(state_of(pid) in ("", "Z") for pid in pids), "all to end")


def test_nothing_is_left_when_the_platform_hangs_up(program: Worker) -> None:
    lines = "import subprocess; child = subprocess.Popen(['sleep', '60']); respond([os.getpid(), child.pid])"
    pids = do(program, lines).json
    program.sock.close()
    assert program.wait_exit() == 0
    wait_until(lambda: all(state_of(pid) in ("", "Z") for pid in pids), "both to end")


def test_usage_counts_the_program(program: Worker) -> None:
    burn = "until = time.process_time() + 0.3\nwhile time.process_time() < until: pass\n"
    before = do(program, "respond(1)").usage
    run_us, cpu_us, peak_kib = do(program, burn + "respond(len(b'x' * (64 << 20)))").usage
    assert run_us >= 300_000
    assert cpu_us >= 290_000
    assert peak_kib >= before[2] + (60 << 10)
