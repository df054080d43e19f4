"""Events and context: sections 3 and 7 of docs/contracts/runtime.md."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

import pytest

from fuyun.runtime import wire
from tests.runtime.driver import Reply, event_head, http_head, worker

ECHO = """
def handler(event, context):
    return event
"""


def test_payload_is_the_event(tmp_path: Path) -> None:
    """[R 3.1]"""
    with worker(tmp_path, ECHO) as w:
        for value in ({"a": [1, None, "é"]}, [], "text", 7, False):
            assert w.event(value).json == value
        assert w.event().json == {}


def test_payload_that_is_not_json(tmp_path: Path) -> None:
    """[R 3.2]"""
    with worker(tmp_path, ECHO) as w:
        for body in (b"{nope", b"\xff\xfe"):
            reply = w.wait(w.begin(event_head(), body))
            assert reply.error is not None
            assert reply.error["code"] == "bad_request"
            assert "not JSON" in reply.error["message"]
        assert w.event(1).json == 1


def test_http_event_has_every_key(tmp_path: Path) -> None:
    """[R 3.3] [R 3.4] [R 3.5]"""
    headers = [
        ["host", "example.test:8080"],
        ["user-agent", "test/1"],
        ["x-list", "a"],
        ["x-list", "b"],
        ["cookie", "one=1; two=2"],
        ["cookie", "three=3"],
    ]
    with worker(tmp_path, ECHO) as w:
        event = w.http("/a%20b?x=1&x=2&q=a+b%26c&flag", headers=headers, base="/fn/default/hello", id="abc").json
    now_ms = time.time() * 1000
    context = event.pop("requestContext")
    assert abs(context.pop("timeEpoch") - now_ms) < 60_000
    assert context.pop("time").endswith(" +0000")
    assert event == {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/a%20b",
        "rawQueryString": "x=1&x=2&q=a+b%26c&flag",
        "cookies": ["one=1", "two=2", "three=3"],
        "headers": {"host": "example.test:8080", "user-agent": "test/1", "x-list": "a,b"},
        "queryStringParameters": {"x": "1,2", "q": "a b&c", "flag": ""},
        "pathParameters": {},
        "stageVariables": {},
        "body": "",
        "isBase64Encoded": False,
    }
    assert context == {
        "accountId": "default",
        "apiId": "hello",
        "domainName": "example.test:8080",
        "http": {
            "method": "GET",
            "path": "/fn/default/hello/a%20b",
            "protocol": "HTTP/1.1",
            "sourceIp": "192.0.2.7",
            "userAgent": "test/1",
        },
        "requestId": "abc",
        "routeKey": "$default",
        "stage": "$default",
    }


@pytest.mark.parametrize(
    ("content_type", "encoding", "body", "text"),
    [
        (None, None, b"plain", True),
        ("text/plain; charset=utf-8", None, "é".encode(), True),
        ("application/json", None, b"{}", True),
        ("application/problem+json", None, b"{}", True),
        ("application/x-www-form-urlencoded", None, b"a=1", True),
        ("application/octet-stream", None, b"plain", False),
        ("image/png", None, b"\x89PNG", False),
        ("text/plain", None, b"\xff\xfe", False),
        ("application/json", "gzip", b"{}", False),
    ],
)
def test_body_is_text_or_base64(
    tmp_path: Path, content_type: str | None, encoding: str | None, body: bytes, text: bool
) -> None:
    """[R 3.6]"""
    headers = [[n, v] for n, v in (("content-type", content_type), ("content-encoding", encoding)) if v]
    with worker(tmp_path, ECHO) as w:
        event = w.http("/", body, method="POST", headers=headers).json
    assert event["isBase64Encoded"] is not text
    assert (event["body"].encode() if text else base64.b64decode(event["body"])) == body


@pytest.mark.parametrize("style", ["inline", "threads", "async"])
def test_body_in_pieces_is_put_together(tmp_path: Path, style: str) -> None:
    """[R 3.7] [R 12.5]: more than a window's worth arrives, each piece credited."""
    prefix = "async " if style == "async" else ""
    code = f"{prefix}def handler(event, context):\n    return len(event['body'])\n"
    with worker(tmp_path, code, concurrency=4 if style == "threads" else 1) as w:
        stream = w.begin(http_head("/", method="POST"), b"a" * 10, end=False)
        sent, window = 0, wire.WINDOW
        while sent < 3 * wire.WINDOW:
            room = window + w.credits.get(stream, 0) - sent
            if room < 32768:
                w.pump()
                continue
            w.send(wire.BODY, stream, b"b" * 32768)
            sent += 32768
        w.send(wire.BODY, stream, b"", wire.END)
        assert w.wait(stream).json == sent + 10
        assert w.credits[stream] <= sent


def test_context(tmp_path: Path) -> None:
    """[R 7.1] [R 7.2] [R 7.3]"""
    code = """
    from fuyun.sdk import current_context

    def handler(event, context):
        assert current_context() is context
        names = ["request_id", "function", "version", "alias", "namespace", "instance", "attempt", "kind", "trace",
                 "deadline", "memory_limit_bytes", "aws_request_id", "function_name", "function_version",
                 "memory_limit_in_mb", "invoked_function_arn", "log_group_name", "log_stream_name"]
        found = {name: getattr(context, name) for name in names}
        found["deadline"] = str(context.deadline)
        found["client"] = repr(context.client)
        found["logger"] = context.logger.name
        found["remaining"] = [context.remaining_time_ms(), context.get_remaining_time_in_millis()]
        return found
    """
    deadline_ms = int(time.time() * 1000) + 5000
    head = {"id": "r1", "alias": "live", "attempt": 2, "trace": "00-aa-bb-01", "function": "hello", "version": "3"}
    with worker(tmp_path, code) as w:
        found = w.event(1, deadline_ms=deadline_ms, source="192.0.2.9", headers=[["user-agent", "u"]], **head).json
        unlimited = w.event(1, deadline_ms=0).json
    remaining = found.pop("remaining")
    assert all(0 < value <= 5000 for value in remaining)
    assert unlimited["deadline"] == "inf"
    assert unlimited["remaining"] == [30000, 30000]
    assert found == {
        "request_id": "r1",
        "function": "hello",
        "version": "3",
        "alias": "live",
        "namespace": "default",
        "instance": "i-1",
        "attempt": 2,
        "kind": "event",
        "trace": "00-aa-bb-01",
        "deadline": str(deadline_ms / 1000),
        "memory_limit_bytes": 256 << 20,
        "client": "Client(address='192.0.2.9', scheme='http', user_agent='u')",
        "logger": "hello",
        "aws_request_id": "r1",
        "function_name": "hello",
        "function_version": "3",
        "memory_limit_in_mb": 256,
        "invoked_function_arn": "fuyun:default:hello:live",
        "log_group_name": "default/hello",
        "log_stream_name": "i-1",
    }


def test_no_context_outside_an_invocation(tmp_path: Path) -> None:
    """[R 7.3]"""
    code = """
    from fuyun.sdk import current_context
    try:
        current_context()
    except LookupError as exc:
        said = str(exc)

    def handler(event):
        return said
    """
    with worker(tmp_path, code) as w:
        assert "inside a handler" in w.event().json


@pytest.mark.parametrize("style", ["inline", "threads", "async", "wsgi"])
def test_body_that_arrives_together_with_its_invoke(tmp_path: Path, style: str) -> None:
    """[R 3.7]: INVOKE, BODY and the end in one write, again and again."""
    prefix = "async " if style == "async" else ""
    code = f"{prefix}def handler(event, context):\n    return event['body']\n"
    if style == "wsgi":
        code = "def handler(environ, start_response):\n    start_response('200 OK', [])\n"
        code += "    return [environ['wsgi.input'].read()]\n"
    meta = json.dumps(http_head("/", method="POST", headers=[["content-type", "text/plain"]])).encode()
    with worker(tmp_path, code, concurrency=4 if style == "threads" else 1) as w:
        for number in range(1, 101):
            first = wire.frame(wire.INVOKE, number, wire.META.pack(len(meta)) + meta + b"a")
            w.replies[number] = Reply()
            w.sock.sendall(first + wire.frame(wire.BODY, number, b"b%d" % number, wire.END))
            assert w.wait(number).body == b"ab%d" % number
