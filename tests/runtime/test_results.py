"""Results: section 4 of docs/contracts/runtime.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.runtime.driver import Reply, worker

#: The handler evaluates the expression it is sent.
EVALUATE = """
import base64, datetime, decimal, collections, math
import json as json_

def handler(event, context):
    if isinstance(event, dict) and "requestContext" in event:
        return eval(event["body"])
    return eval(event)
"""


@pytest.fixture
def answer(tmp_path: Path) -> Any:
    with worker(tmp_path, EVALUATE, output_bytes=1000) as w:

        def ask(expression: str, http: bool = True) -> Reply:
            return w.http("/", expression.encode(), method="POST") if http else w.event(expression)

        yield ask


def problem(reply: Reply, code: str = "bad_response") -> str:
    assert reply.error is not None, reply
    assert reply.error["code"] == code
    return str(reply.error["message"])


def test_json_text_and_bytes(answer: Any) -> None:
    """[R 4.1] [R 4.2] [R 4.3]"""
    for http in (True, False):
        for expression, body in (
            ("None", b"null"),
            ("{'a': (1, 2.5, True)}", b'{"a":[1,2.5,true]}'),
            ("collections.OrderedDict(b=1)", b'{"b":1}'),
            ("{1: 2}", b'{"1":2}'),
            ("['é', '\\udc80']", b'["\\u00e9","\\udc80"]'),
            ("'é' and ['é']", '["é"]'.encode()),
        ):
            reply = answer(expression, http)
            assert (reply.status, reply.headers, reply.body) == (200, None, body), reply
        reply = answer("b'\\xff\\x00'", http)
        assert (reply.body, reply.headers) == (b"\xff\x00", [("content-type", "application/octet-stream")])
        assert answer("bytearray(b'x')", http).body == b"x"
    assert answer("'héllo'").body == "héllo".encode()
    assert answer("'x'").headers == [("content-type", "text/plain; charset=utf-8")]
    assert answer("'x'", http=False).body == b'"x"'
    assert answer("'x'", http=False).headers is None


def test_http_response(answer: Any) -> None:
    """[R 4.4]"""
    reply = answer(
        "{'statusCode': 201, 'headers': {'X-One': 'a', 'X-Number': 3, 'X-Many': ['p', 'q']},"
        " 'multiValueHeaders': {'X-Two': ['b', 'c']}, 'cookies': ['s=1; Path=/', 't=2'], 'body': 'hé'}"
    )
    assert reply.status == 201
    assert reply.headers == [
        ("x-one", "a"), ("x-number", "3"), ("x-many", "p"), ("x-many", "q"), ("x-two", "b"), ("x-two", "c"),
        ("set-cookie", "s=1; Path=/"), ("set-cookie", "t=2"), ("content-type", "text/plain; charset=utf-8"),
    ]  # fmt: skip
    assert reply.body == "hé".encode()
    reply = answer("{'statusCode': 204}")
    assert (reply.status, reply.headers, reply.body) == (204, [], b"")
    reply = answer("{'statusCode': '200', 'body': {'a': 1}}")
    assert (reply.body, reply.header("content-type")) == (b'{"a":1}', "application/json")
    reply = answer("{'statusCode': 200, 'body': base64.b64encode(b'\\x00').decode(), 'isBase64Encoded': True}")
    assert (reply.body, reply.header("content-type")) == (b"\x00", "application/octet-stream")
    reply = answer("{'statusCode': 200, 'body': b'raw', 'headers': {'Content-Type': 'image/png'}}")
    assert (reply.body, reply.headers) == (b"raw", [("content-type", "image/png")])
    assert answer("{'statusCode': 404}", http=False).json == {"statusCode": 404}


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("{'x': {1}}", "result['x'] is a set"),
        ("[0, {'a': [datetime.date(2026, 1, 1)]}]", "result[1]['a'][0] is a date"),
        ("decimal.Decimal(1)", "result is a Decimal"),
        ("{'n': math.nan}", "result['n'] is nan"),
        ("[math.inf]", "result[0] is inf"),
        ("{(1, 2): 3}", "result has a key of type tuple"),
        ("(lambda x: x.append(x) or x)([])", "result[0] contains itself"),
        ("object()", "result is a object"),
        ("'\\udc80'", "lone surrogate"),
    ],
)
def test_what_json_cannot_carry(answer: Any, expression: str, said: str) -> None:
    """[R 4.5]"""
    assert said in problem(answer(expression))
    assert answer("1").body == b"1"


def test_deep_nesting_is_refused(answer: Any) -> None:
    """[R 4.5]"""
    reply = answer("__import__('functools').reduce(lambda inner, _: [inner], range(100000), 1)")
    assert "nested more than" in problem(reply)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("{'statusCode': 99}", "result['statusCode'] is 99"),
        ("{'statusCode': None}", "result['statusCode'] is None"),
        ("{'statusCode': True}", "result['statusCode'] is True"),
        ("{'statusCode': 200, 'headers': {'a b': 'c'}}", "header name"),
        ("{'statusCode': 200, 'headers': {'a': 'c\\r\\nx: y'}}", "line break"),
        ("{'statusCode': 200, 'headers': {'a': None}}", "NoneType"),
        ("{'statusCode': 200, 'headers': [1]}", "result['headers'] is a list"),
        ("{'statusCode': 200, 'cookies': 'a=1'}", "result['cookies'] is a str"),
        ("{'statusCode': 200, 'body': '*', 'isBase64Encoded': True}", "not base64"),
        ("{'statusCode': 200, 'body': {'s': {1}}}", "result['body']['s'] is a set"),
    ],
)
def test_responses_http_does_not_allow(answer: Any, expression: str, said: str) -> None:
    """[R 4.4] [R 4.6]"""
    assert said in problem(answer(expression))


def test_headers_of_the_connection_are_dropped(answer: Any) -> None:
    """[R 4.6]"""
    reply = answer(
        "{'statusCode': 200, 'body': 'four', 'headers': {'Connection': 'close', 'Transfer-Encoding': 'chunked',"
        " 'Content-Length': '99', 'content-type': 'text/x'}}"
    )
    assert reply.headers == [("content-type", "text/x")]


def test_output_limit(answer: Any) -> None:
    """[R 4.7]"""
    assert len(answer("'x' * 1000").body) == 1000
    for expression in ("'x' * 1001", "b'x' * 1001", "['x' * 999]", "{'statusCode': 200, 'body': 'x' * 1001}"):
        assert "over the limit of 1000" in problem(answer(expression), "response_too_large")


def test_result_larger_than_a_frame_streams(tmp_path: Path) -> None:
    """[R 12.1]"""
    with worker(tmp_path, "def handler(event):\n    return b'x' * (65 << 20)\n", output_bytes=1 << 30) as w:
        reply = w.event()
        assert reply.streamed
        assert len(reply.body) == 65 << 20


def test_usage(tmp_path: Path) -> None:
    """[R 12.4]"""
    code = """
    import time
    def handler(event, context):
        end = time.process_time() + event["burn_s"]
        while time.process_time() < end:
            pass
        time.sleep(event["sleep_s"])
        return 1
    """
    with worker(tmp_path, code) as w:
        w.event({"burn_s": 0, "sleep_s": 0})
        run_us, cpu_us, peak_kib = w.event({"burn_s": 0.05, "sleep_s": 0.1}).usage
        assert run_us >= 150_000
        assert 45_000 <= cpu_us <= run_us
        assert peak_kib > 4_000
