"""The Node worker: events, results, streams, logs. The shapes are those of the Python worker; clauses as there."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fuyun.runtime import wire
from fuyun.runtime.events import http_event
from tests.runtime.driver import Worker, event_head, http_head, node_worker

#: Evaluates what it is sent: one worker serves many cases.
EVALUATE = """
    const { Readable } = require('node:stream');
    exports.handler = async (event, context) => eval(`(${event.body ?? event.code})`);
"""


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with node_worker(tmp_path_factory.mktemp("node"), EVALUATE, output_bytes=1000, log_bytes=2000) as worker:
        worker.wait_ready()
        yield worker


@pytest.mark.parametrize(
    "head",
    [
        {"path": "/", "query": ""},
        {"path": "/a%20b/c", "query": "x=1&x=2&y=%C3%A9+z&&k&=v&__proto__=p&bad=%ff", "base": "/fn/default/f"},
        {"path": "/", "headers": [["host", "h:1"], ["x", "1"], ["x", "2"], ["cookie", "a=1; b=2"], ["cookie", "c=3"]]},
        {"path": "/", "headers": [["__proto__", "x"], ["constructor", "y"], ["user-agent", "t"]], "method": "PATCH"},
    ],
)
@pytest.mark.parametrize(
    ("kind", "encoding", "body"),
    [
        ("", "", b"event"), ("text/plain", "", "é".encode()), ("text/plain", "", b"\xff"), ("image/png", "", b"abc"),
        ("application/json; charset=utf-8", "gzip", b"{}"), ("application/ld+json", "", b"{}"),
        ("application/json", "identity", b"{}"), ("text/plain", "", b"\xef\xbb\xbfbom"),
    ],
)  # fmt: skip
def test_http_events_are_those_of_python(
    head: dict[str, Any], kind: str, encoding: str, body: bytes, echo: Worker
) -> None:
    """[R 3.3] to [R 3.6]: every key and value, but for the time, as the Python worker makes it."""
    headers = [*head.get("headers", ()), *([["content-type", kind]] if kind else ())]
    headers += [["content-encoding", encoding]] if encoding else []
    full = http_head(**{**head, "headers": headers})
    full["query"] = head.get("query", "")
    found = echo.wait(echo.begin(full, body)).json
    wanted = http_event({**full, "headers": [tuple(pair) for pair in headers]}, body, {"namespace": "default"})
    for event in (found, wanted):
        assert abs(event["requestContext"].pop("timeEpoch") - 1e3 * time.time()) < 60_000
        assert len(event["requestContext"].pop("time")) == 26
    assert found == wanted


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with node_worker(tmp_path_factory.mktemp("echo"), "exports.handler = async (event) => event;") as worker:
        worker.wait_ready()
        yield worker


def test_a_body_in_pieces(echo: Worker) -> None:
    """[R 3.7] [R 5.6]: room is returned as it arrives."""
    stream = echo.begin(http_head("/", method="POST"), b"a" * 10, end=False)
    piece = b"b" * (wire.WINDOW // 8)
    for _ in range(16):
        echo.send(wire.BODY, stream, piece)
    while echo.credits.get(stream, 0) < wire.WINDOW:
        echo.pump()
    echo.send(wire.BODY, stream, b"c", wire.END)
    assert echo.wait(stream).json["body"] == "a" * 10 + "b" * (2 * wire.WINDOW) + "c"


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("{a: [1, 'é', null, true], u: undefined}", {"a": [1, "é", None, True]}), ("undefined", None), ("null", None),
        ("0", 0), ("new Date(0)", "1970-01-01T00:00:00.000Z"), ("[undefined, NaN]", [None, None]),
        ("Promise.resolve(5)", 5), ("({ then: (ok) => ok('thenable') })", "thenable"),
    ],
)  # fmt: skip
def test_json_results(evaluator: Worker, code: str, value: Any) -> None:
    """[R 4.1]"""
    reply = evaluator.event({"code": code})
    assert reply.json == value
    assert reply.headers is None


@pytest.mark.parametrize(
    ("code", "kind", "body"),
    [
        ("'text é'", "text/plain; charset=utf-8", "text é".encode()),
        ("Buffer.from([0, 255])", "application/octet-stream", b"\0\xff"),
        ("new Uint16Array([1]).buffer", "application/octet-stream", b"\1\0"),
        ("({a: 1})", None, b'{"a":1}'),
        ("({statusCode: 200, body: 'x'})", "text/plain; charset=utf-8", b"x"),
        ("({statusCode: 200, body: {a: 1}})", "application/json", b'{"a":1}'),
        ("({statusCode: 200, body: 'AP8=', isBase64Encoded: true})", "application/octet-stream", b"\0\xff"),
        ("({statusCode: 200, headers: {'Content-Type': 'x/y'}, body: 'x'})", "x/y", b"x"),
    ],
)
def test_http_results(evaluator: Worker, code: str, kind: str | None, body: bytes) -> None:
    """[R 4.2] [R 4.3] [R 4.4]"""
    reply = evaluator.http("/", code.encode())
    assert (reply.status, reply.header("content-type"), reply.body) == (200, kind, body)


def test_a_response_with_everything(evaluator: Worker) -> None:
    """[R 4.4] [R 4.6]"""
    code = """{statusCode: '201', headers: {'X-A': 1, Connection: 'close', 'Content-Length': '99', 'x-no': undefined},
      multiValueHeaders: {'x-b': ['1', '2']}, cookies: ['a=1', 'b=2']}"""
    reply = evaluator.http("/", code.encode())
    assert reply.status == 201
    assert reply.headers == [("x-a", "1"), ("x-b", "1"), ("x-b", "2"), ("set-cookie", "a=1"), ("set-cookie", "b=2")]
    assert evaluator.event({"code": "{statusCode: 999}"}).json == {"statusCode": 999}


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("10n", "result is a bigint"), ("{x: [1, 10n]}", 'result["x"][1] is a bigint'), ("() => 1", "is a function"),
        ("{statusCode: 99}", "is 99; use a number from 200 to 599"), ("{statusCode: 'ok'}", 'is "ok"'),
        ("{statusCode: 200, headers: {'a b': '1'}}", "header name that HTTP does not allow"),
        ("{statusCode: 200, headers: {a: 'x\\r\\ny'}}", "holds a line break"),
        ("{statusCode: 200, headers: {a: true}}", "is a boolean"), ("{statusCode: 200, headers: []}", "is a array"),
        ("{statusCode: 200, body: '%%', isBase64Encoded: true}", "is not base64"),
        ("{statusCode: 200, cookies: 'a=1'}", "cookies'] is a string"),
        ("(() => { const a = {}; a.self = a; return a; })()", 'result["self"] contains itself'),
    ],
)  # fmt: skip
def test_results_that_are_no_answer(evaluator: Worker, code: str, words: str) -> None:
    """[R 4.5] [R 4.6]"""
    error = evaluator.http("/", code.encode()).error
    assert error is not None
    assert error["code"] == "bad_response"
    assert words in error["message"]


def test_the_limit_of_a_buffered_result(evaluator: Worker) -> None:
    """[R 4.7]"""
    assert len(evaluator.http("/", b"'x'.repeat(1000)").body) == 1000
    error = evaluator.http("/", "'é'.repeat(501)".encode()).error
    assert error is not None
    assert error["code"] == "response_too_large"
    assert "1002 bytes, over the limit of 1000" in error["message"]


@pytest.mark.parametrize(
    ("code", "kind", "body"),
    [
        ("(function* () { yield 'a'; yield Buffer.from('b'); yield {c: 1}; })()", "text/plain; charset=utf-8",
         b'ab{"c":1}\n'),
        ("(async function* () { yield new Uint8Array([65]); yield 'b'; })()", "application/octet-stream", b"Ab"),
        ("(async function* () { yield [1]; yield 2; })()", "application/x-ndjson", b"[1]\n2\n"),
        ("Readable.from(['x', 'y'])", "text/plain; charset=utf-8", b"xy"),
        ("new Blob(['web']).stream()", "application/octet-stream", b"web"),
        ("({statusCode: 200, headers: {'content-type': 'x/y'}, body: Readable.from(['1', '2'])})", "x/y", b"12"),
        ("(function* () { yield {statusCode: 200, headers: {'content-type': 'x/z'}}; yield 'later'; })()", "x/z",
         b"later"),
    ],
)  # fmt: skip
def test_streams(evaluator: Worker, code: str, kind: str, body: bytes) -> None:
    """[R 5.1] [R 5.2]"""
    reply = evaluator.http("/", code.encode())
    assert reply.streamed
    assert (reply.status, reply.header("content-type"), reply.body) == (200, kind, body)


def test_a_stream_without_pieces_is_empty(evaluator: Worker) -> None:
    reply = evaluator.http("/", b"(function* () {})()")
    assert (reply.status, reply.body, reply.error) == (200, b"", None)


def test_a_stream_that_fails(evaluator: Worker) -> None:
    """[R 5.3]"""
    early = evaluator.http("/", b"(function* () { throw new TypeError('early'); })()")
    assert not early.streamed
    assert early.error is not None
    assert early.error["error_type"] == "TypeError"
    late = evaluator.http("/", b"(async function* () { yield 'a'; throw new TypeError('late'); })()")
    assert late.streamed
    assert late.chunks == [b"a"]
    assert late.error is not None
    assert late.error["message"] == "TypeError: late"


STREAM = """
    exports.closed = 0;
    exports.handler = async (event) => {
      if (event.count) return exports.closed;
      return (async function* () {
        try { for (;;) yield 'x'.repeat(100000); } finally { exports.closed += 1; }
      })();
    };
"""


def test_a_stream_waits_for_room_and_ends_with_its_caller(tmp_path: Path) -> None:
    """[R 5.4] [R 5.5]"""
    with node_worker(tmp_path, STREAM) as worker:
        worker.wait_ready()
        worker.auto_credit = False
        stream = worker.begin(event_head())
        while sum(map(len, worker.replies[stream].chunks)) < wire.WINDOW:
            worker.pump()
        assert sum(map(len, worker.replies[stream].chunks)) == wire.WINDOW
        worker.credit(stream, 10)
        while sum(map(len, worker.replies[stream].chunks)) < wire.WINDOW + 10:
            worker.pump()
        worker.send(wire.CANCEL, stream)
        worker.wait(stream)
        assert sum(map(len, worker.replies[stream].chunks)) == wire.WINDOW + 10
        assert worker.event({"count": True}).json == 1


RESPONSES = """
    const { pipeline } = require('node:stream/promises');
    const { Readable } = require('node:stream');
    exports.handler = awslambda.streamifyResponse(async (event, stream, context) => {
      const { how } = typeof event.body === 'string' ? JSON.parse(event.body) : event;
      if (how === 'raise') throw new TypeError('before');
      if (how === 'late') { stream.write('begun'); await null; throw new TypeError('after'); }
      if (how === 'piped') return pipeline(Readable.from(['a', 'b']), stream);
      if (how === 'typed') { stream.setContentType('text/html'); stream.end('<p>'); return; }
      const { HttpResponseStream } = awslambda;
      const out = HttpResponseStream.from(stream, { statusCode: 201, headers: { 'X-A': 'b' }, cookies: ['c=1'] });
      out.write('x'.repeat(600000));
      setTimeout(() => out.end('!'), 5);
    });
"""


def test_streamed_responses_as_aws_has_them(tmp_path: Path) -> None:
    """[R 16.2]"""
    with node_worker(tmp_path, RESPONSES) as worker:
        assert worker.wait_ready()["style"] == "stream"
        reply = worker.http("/", b'{"how": "piped"}')
        assert (reply.body, reply.header("content-type")) == (b"ab", "application/octet-stream")
        assert worker.http("/", b'{"how": "typed"}').header("content-type") == "text/html"
        reply = worker.http("/", b'{"how": "everything"}')
        assert (reply.status, len(reply.body), reply.body[-1:]) == (201, 600001, b"!")
        assert reply.headers == [("x-a", "b"), ("set-cookie", "c=1"), ("content-type", "application/octet-stream")]
        early, late = worker.event({"how": "raise"}), worker.event({"how": "late"})
        assert early.error is not None
        assert early.error["message"] == "TypeError: before"
        assert late.chunks == [b"begun"]
        assert late.error is not None
        assert late.error["message"] == "TypeError: after"


def test_a_result_longer_than_a_frame_leaves_as_a_stream(tmp_path: Path) -> None:
    code = "exports.handler = async () => Buffer.alloc(70 << 20, 'a');"
    with node_worker(tmp_path, code, output_bytes=1 << 30, memory_bytes=1 << 30) as worker:
        worker.wait_ready()
        reply = worker.event()
        assert reply.streamed
        assert len(reply.body) == 70 << 20


def test_a_cancelled_call_hears_of_it_and_is_answered(tmp_path: Path) -> None:
    """[R 5.5] [R 12.3] [R 16.3]"""
    code = """exports.handler = (event, context) => new Promise((resolve) => {
      console.log('waiting');
      context.signal.addEventListener('abort', () => resolve('gone'));
    });"""
    with node_worker(tmp_path, code) as worker:
        worker.wait_ready()
        stream = worker.begin(event_head())
        while not worker.replies[stream].logs:
            worker.pump()
        worker.send(wire.CANCEL, stream)
        assert worker.wait(stream).json == "gone"


def test_logs_carry_stream_and_level(evaluator: Worker) -> None:
    """[R 8.1] [R 16.6]"""
    code = """(console.log('%s and', 'log', {a: 1}), console.info('i'), console.debug('d'), console.warn('w'),
      console.error('e\\nf'), console.group('g'), console.log('inner'), console.groupEnd(),
      process.stdout.write('unfin'), process.stdout.write(Buffer.from('ished\\nrest')),
      process.stderr.write(Buffer.from([0xc3])), process.stderr.write(Buffer.from([0xa9])), 1)"""
    logs = evaluator.event({"code": code}).logs
    assert [(line["s"], line["l"], line["t"]) for line in logs] == [
        ("stdout", "", "log and { a: 1 }"), ("log", "info", "i"), ("log", "debug", "d"), ("log", "warning", "w"),
        ("log", "error", "e\nf"), ("stdout", "", "g"), ("stdout", "", "  inner"), ("stdout", "", "unfinished"),
        ("stdout", "", "rest"), ("stderr", "", "é"),
    ]  # fmt: skip


def test_the_limit_of_a_log(evaluator: Worker) -> None:
    """[R 8.3]"""
    code = "(() => { for (let i = 0; i < 50; i++) console.log('x'.repeat(99)); return 1; })()"
    for _ in range(2):
        lines = evaluator.event({"code": code}).text
        assert lines[:-1] == ["x" * 99] * 20
        assert lines[-1] == "log cut: more than 2000 bytes; raise `log` to keep more"


def test_lines_of_the_start_belong_to_no_call(tmp_path: Path) -> None:
    """[R 8.4]"""
    code = "console.log('loading'); process.stdout.write('half'); exports.handler = async () => console.log('called');"
    with node_worker(tmp_path, code) as worker:
        worker.wait_ready()
        assert worker.event().text == ["called"]
        assert [line["t"] for line in worker.idle_logs] == ["loading"]


def test_calls_at_once_keep_their_lines(tmp_path: Path) -> None:
    """[R 8.5] [R 16.6]"""
    code = """
        const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
        exports.handler = async ({ n }) => {
          console.log('begin', n); await wait(30 - n); console.error('end', n); return n;
        };
    """
    with node_worker(tmp_path, code, concurrency=20) as worker:
        worker.wait_ready()
        streams = [worker.begin(event_head(), json.dumps({"n": n}).encode()) for n in range(20)]
        for n, stream in enumerate(streams):
            reply = worker.wait(stream)
            assert (reply.json, reply.text) == (n, [f"begin {n}", f"end {n}"])


def test_what_an_answer_has_used(evaluator: Worker) -> None:
    """[R 12.4]"""
    busy = "(() => { const end = Date.now() + 50; while (Date.now() < end); return 1; })()"
    evaluator.event({"code": "1"})
    run_us, cpu_us, peak_kib = evaluator.event({"code": busy}).usage
    assert run_us >= 49_000
    assert cpu_us > 0
    assert 20_000 < peak_kib < 2_000_000
