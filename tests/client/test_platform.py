"""The client against a real socket: what it sends, what it makes of answers, and how problems become errors."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from fuyun.client.config import Profile
from fuyun.client.http import error_classes, error_of
from fuyun.client.platform import LogQuery, Platform, Release, parse_timing
from fuyun.domain import errors
from fuyun.domain.functions import FunctionSpec, Weight
from tests.client.api_server import ApiServer, Reply, lines, problem, serving

SPEC = {"handler": "app.handler"}
ARTIFACT = {"digest": "a" * 64, "size_bytes": 10}
VERSION = {"namespace": "default", "function": "hello", "number": 0, "spec": SPEC, "code": ARTIFACT, "created_s": 1.0}


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with serving() as server:
        yield server


@pytest.fixture
def platform(api: ApiServer) -> Iterator[Platform]:
    with Platform(Profile(api=api.url, key="fk_id_secret")) as found:
        yield found


def test_every_request_carries_the_key(api: ApiServer, platform: Platform) -> None:
    api.on("GET", "/info", {"version": "1"})
    assert platform.get_info() == {"version": "1"}
    assert api.asked[0].headers["authorization"] == "Bearer fk_id_secret"
    assert api.asked[0].headers["user-agent"].startswith("fuyun/")


def test_lists_are_read_to_their_end(api: ApiServer, platform: Platform) -> None:
    def page(asked):  # type: ignore[no-untyped-def]
        names = ["a", "b"] if "after" not in asked.query else ["c"]
        items = [{"namespace": "default", "name": n, "last_version": 1, "created_s": 0, "updated_s": 0} for n in names]
        return Reply({"items": items, "next": "b" if "after" not in asked.query else None})

    api.on("GET", "/namespaces/default/functions", page)
    assert [item.name for item in platform.list_functions()] == ["a", "b", "c"]
    assert [asked.query.get("after") for asked in api.asked] == [None, "b"]


def test_deploy_streams_progress_and_returns_the_version(api: ApiServer, platform: Platform) -> None:
    api.on("PUT", "/namespaces/default/functions/hello", lines({"progress": "resolving"}, {"version": VERSION}))
    said: list[str] = []
    version = platform.deploy("hello", Release(spec=FunctionSpec(), code="a" * 64, alias="live"), said.append)
    assert (version.qualifier, said) == ("$LATEST", ["resolving"])
    sent = api.asked[0].json()
    assert (sent["alias"], sent["code"], sent["publish"]) == ("live", "a" * 64, False)
    assert api.asked[0].headers["accept"] == "application/x-ndjson"


def test_a_problem_in_the_stream_is_its_error(api: ApiServer, platform: Platform) -> None:
    failed = {"code": "build_failed", "detail": "no such package", "hint": "check", "status": 422, "log": ["a", "b"]}
    api.on("PUT", "/namespaces/default/functions/hello", lines({"progress": "x"}, {"problem": failed}))
    with pytest.raises(errors.BuildFailed, match="no such package") as caught:
        platform.deploy("hello", Release(spec=FunctionSpec(), code="a" * 64))
    assert caught.value.fields["log"] == ["a", "b"]
    assert caught.value.hint == "check"


def test_a_stream_without_a_result_is_an_error(api: ApiServer, platform: Platform) -> None:
    api.on("PUT", "/namespaces/default/functions/hello", lines({"progress": "x"}))
    with pytest.raises(errors.PlatformError, match="without a result"):
        platform.deploy("hello", Release(spec=FunctionSpec(), code="a" * 64))


def test_invoke_returns_what_the_function_returned(api: ApiServer, platform: Platform) -> None:
    headers = {"fuyun-request-id": "r", "fuyun-version": "3", "fuyun-start": "warm",
               "server-timing": "queue;dur=0.01, run;dur=3"}  # fmt: skip
    api.on("POST", "/namespaces/default/functions/hello/invoke", Reply({"x": 1}, headers=headers))
    outcome = platform.invoke("hello", b"[1]", "live")
    assert (outcome.body, outcome.version, outcome.start_kind) == (b'{"x": 1}', "3", "warm")
    assert outcome.timing == {"queue": 0.01, "run": 3.0}
    assert (api.asked[0].query, api.asked[0].body) == ({"qualifier": "live"}, b"[1]")


def test_a_failed_invocation_keeps_traceback_and_timing(api: ApiServer, platform: Platform) -> None:
    reply = problem("function_raised", "ValueError: no", 502, traceback=["line"], error_type="ValueError")
    reply.headers["server-timing"] = "run;dur=1"
    api.on("POST", "/namespaces/default/functions/hello/invoke", reply)
    with pytest.raises(errors.FunctionRaised) as caught:
        platform.invoke("hello", b"{}")
    assert caught.value.fields["traceback"] == ["line"]
    assert caught.value.fields["server-timing"] == "run;dur=1"
    assert caught.value.fields["request_id"] == "r1"


@pytest.mark.parametrize(("expected", "header", "value"), [(0, "if-none-match", "*"), (4, "if-match", '"4"')])
def test_an_alias_moves_from_a_revision(
    api: ApiServer, platform: Platform, expected: int, header: str, value: str
) -> None:
    made = {"namespace": "default", "function": "hello", "name": "live", "weights": [{"version": 2, "weight": 100}]}
    api.on("PUT", "/namespaces/default/functions/hello/aliases/live", made)
    platform.set_alias("hello", "live", [Weight(version=2, weight=100)], expected_revision=expected)
    assert api.asked[0].headers[header] == value


def test_logs_are_followed_line_by_line(api: ApiServer, platform: Platform) -> None:
    line = {"at_s": 1.5, "namespace": "default", "function": "hello", "version": 1, "instance": "i", "text": "hi"}
    api.on("GET", "/namespaces/default/functions/hello/logs", lines(line, line | {"text": "ho"}))
    with closing(platform.follow_logs("hello", LogQuery(since_s=1.25))) as found:
        assert [item.text for item in found] == ["hi", "ho"]
    assert api.asked[0].query == {"since": "1.25", "limit": "1000", "follow": "1"}


def test_names_are_encoded_in_paths(api: ApiServer, platform: Platform) -> None:
    api.on("PUT", "/namespaces/default/secrets/a/b c", Reply(None, 204))
    platform.put_secret("a/b c", "v")
    assert api.asked[0].json() == {"value": "v"}


def test_an_answer_of_another_shape_names_the_client(api: ApiServer, platform: Platform) -> None:
    api.on("GET", "/namespaces/default/functions/hello", {"surprise": 1})
    with pytest.raises(errors.PlatformError, match="is not a Function") as caught:
        platform.get_function("hello")
    assert "fuyun status" in caught.value.hint


@pytest.mark.parametrize(
    ("reply", "cls"),
    [
        (Reply(b"<html>nope", 502), errors.PlatformError),
        (Reply(b"", 401), errors.Unauthenticated),
        (Reply({"odd": 1}, 429, {"retry-after": "3"}), errors.Throttled),
        (problem("from_the_future", "new", 418), errors.CallerError),
    ],
)
def test_answers_without_a_known_problem_are_errors_all_the_same(
    api: ApiServer, platform: Platform, reply: Reply, cls: type[errors.FuyunError]
) -> None:
    api.on("GET", "/info", reply)
    with pytest.raises(cls):
        platform.get_info()


def test_nobody_listening_says_what_to_start() -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused, and nobody else gets the port
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with Platform(Profile(api=url)) as platform, pytest.raises(errors.Unavailable) as caught:
            platform.get_info()
    assert str(caught.value) == f"no platform at {url}"
    assert caught.value.hint == "start one with: fuyun up"


def test_a_connection_that_ends_early_is_unavailable() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        import threading

        def hang_up() -> None:
            accepted, _ = server.accept()
            accepted.recv(65536)
            accepted.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        profile = Profile(api=f"http://127.0.0.1:{server.getsockname()[1]}")
        with Platform(profile) as platform, pytest.raises(errors.Unavailable, match="closed the connection"):
            platform.get_info()
        thread.join()


def test_an_address_that_is_none_is_refused() -> None:
    with Platform(Profile(api="localhost:8081")) as platform, pytest.raises(errors.BadRequest, match="not an address"):
        platform.get_info()


def test_every_class_of_the_error_tree_comes_back_by_its_code() -> None:
    for code, cls in error_classes().items():
        error = error_of({"code": code, "detail": "d", "hint": "h", "status": 500, "limit_bytes": 3}, 500)
        assert type(error) is cls
        assert (error.detail, error.hint, error.fields["limit_bytes"]) == ("d", "h", 3)


def test_hostile_problem_fields_do_no_harm() -> None:
    error = error_of({"code": "conflict", "detail": "d", "self": 1, "hint": None, "status": "x"}, 409)
    assert isinstance(error, errors.Conflict)


def test_timing_headers_are_read_leniently() -> None:
    assert parse_timing('a;dur=1, b;desc="x";dur=2.5, c, ;dur=1, d;dur=x') == {"a": 1.0, "b": 2.5}
