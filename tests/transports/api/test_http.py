"""What holds for every route: problems, methods, ids, limits, media types."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from fuyun.domain.errors import HostUnable, Internal
from fuyun.transports.api.app import ENDPOINTS, Limits
from fuyun.transports.api.server import ApiServer
from fuyun.transports.web import serving
from fuyun.transports.web.serving import HEAD_BYTES
from tests.transports.api.serving import Served, served

pytestmark = pytest.mark.anyio


def problem_of(answer: httpx.Response) -> dict[str, Any]:
    """The problem document, after checking its shape."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    found: dict[str, Any] = answer.json()
    assert {"type", "title", "status", "code", "detail", "hint", "request_id"} <= found.keys()
    assert found["status"] == answer.status_code
    assert found["request_id"] == answer.headers["fuyun-request-id"]
    return found


async def test_an_unknown_path_is_a_problem(api: Served) -> None:
    for path in (
        "/",
        "/v1",
        "/v1/nothing",
        "/v1/info/",
        "/v1/namespaces/default/functions/a/b/c",
        "/v1/namespaces/a%2Fb",
    ):
        answer = await api.http.get(path)
        assert (answer.status_code, problem_of(answer)["code"]) == (404, "not_found"), path


async def test_a_method_a_path_does_not_have(api: Served) -> None:
    answer = await api.http.patch("/v1/namespaces")
    assert (answer.status_code, problem_of(answer)["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    assert answer.json()["allowed"] == ["GET", "HEAD", "OPTIONS", "POST"]


async def test_options_names_the_methods(api: Served) -> None:
    answer = await api.http.options("/v1/namespaces/default")
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["allow"] == "DELETE, GET, HEAD, OPTIONS"


async def test_head_is_get_without_its_body(api: Served) -> None:
    for path in ("/v1/info", "/healthz", "/metrics", "/v1/openapi.json"):
        head = await api.http.head(path)
        assert (head.status_code, head.content) == (200, b""), path
        assert int(head.headers["content-length"]) > 0
    assert (await api.http.head("/v1/nothing")).status_code == 404


async def test_every_answer_has_an_id_of_its_own(api: Served) -> None:
    paths = ["/v1/info", "/v1/info", "/nothing", "/healthz", "/metrics"]
    ids = [(await api.http.get(path)).headers["fuyun-request-id"] for path in paths]
    assert len(set(ids)) == len(ids)
    assert all(len(id_) == 32 for id_ in ids)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "no body"),
        (b"{", "not JSON"),
        (b'{"name": "\xff"}', "not JSON"),
        (b"[]", "Expected `object`"),
        (b'{"name": 1}', "at name"),
        (b"{}", "missing required field `name`"),
        (b'{"name": "a", "quotas": {"functions": "many"}}', "at quotas.functions"),
    ],
)
async def test_a_body_that_does_not_fit_is_told_where(api: Served, content: bytes, part: str) -> None:
    answer = await api.http.post("/v1/namespaces", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert part in problem_of(answer)["detail"]


async def test_an_unknown_field_gets_the_nearest_known_one(api: Served) -> None:
    answer = await api.http.post("/v1/namespaces", json={"name": "a", "quota": {}})
    problem = problem_of(answer)
    assert (answer.status_code, problem["path"], problem["hint"]) == (400, "quota", "did you mean 'quotas'?")
    nested = await api.http.post("/v1/namespaces", json={"name": "a", "quotas": {"function": 1}})
    problem = problem_of(nested)
    assert (problem["path"], problem["hint"]) == ("quotas.function", "did you mean 'functions'?")


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("limit=0", "limit"),
        ("limit=x", "limit"),
        ("limit=1001", "limit"),
        ("limit=1&limit=2", "limit"),
        ("lmit=1", "lmit"),
    ],
)
async def test_a_query_that_does_not_fit(api: Served, query: str, path: str) -> None:
    answer = await api.http.get(f"/v1/namespaces?{query}")
    assert answer.status_code == 400
    assert problem_of(answer)["path"] == path


async def test_a_body_of_another_type(api: Served) -> None:
    form = await api.http.post("/v1/namespaces", data={"name": "a"})
    assert (form.status_code, problem_of(form)["code"]) == (415, "unsupported_media_type")
    assert form.json()["hint"] == "send content-type: application/json"
    parameter = await api.http.post(
        "/v1/namespaces", content=b'{"name": "a"}', headers={"content-type": "application/json; charset=utf-8"}
    )
    assert parameter.status_code == 201


async def test_names_are_checked_before_anything_is_looked_up(api: Served) -> None:
    for path in (
        "/v1/namespaces/Upper",
        "/v1/namespaces/default/functions/a--",
        "/v1/namespaces/default/functions/a/versions/0",
    ):
        answer = await api.http.get(path)
        assert (answer.status_code, problem_of(answer)["code"]) == (400, "bad_request"), path


async def test_a_body_over_the_limit_is_refused_while_it_comes(tmp_path: Path) -> None:
    async with served(tmp_path, Limits(json_bytes=1000)) as api:
        declared = await api.http.post("/v1/namespaces", json={"name": "a" * 2000})
        assert (declared.status_code, problem_of(declared)["limit_bytes"]) == (413, 1000)

        async def chunks() -> Any:
            for _ in range(20):
                yield b" " * 100

        headers = {"content-type": "application/json"}
        chunked = await api.http.post("/v1/namespaces", content=chunks(), headers=headers)
        assert (chunked.status_code, problem_of(chunked)["code"]) == (413, "payload_too_large")


async def raw(api: Served, request: bytes) -> bytes:
    """All the server answers on a fresh connection until it closes it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(api.url.rpartition(":")[2]))
    writer.write(request)
    await writer.drain()
    try:
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


async def test_what_is_not_http_gets_a_problem_too(api: Served) -> None:
    answer = await raw(api, b"HELLO\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/problem+json" in head
    assert json.loads(body)["code"] == "bad_request"


async def test_a_head_that_goes_on_and_on_is_refused(api: Served) -> None:
    answer = await raw(api, b"GET / HTTP/1.1\r\nx: " + b"a" * (HEAD_BYTES + 1))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ")
    assert json.loads(body)["code"] == "head_too_large"
    many = b"".join(b"x-%d: %s\r\n" % (number, b"a" * 1000) for number in range(60))
    fine = await raw(api, b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" + many + b"\r\n")
    assert fine.startswith(b"HTTP/1.1 200 ")


async def test_requests_in_a_row_are_answered_in_order(api: Served) -> None:
    one = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
    last = b"GET /nothing HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    answer = await raw(api, one * 50 + last)
    assert answer.count(b"HTTP/1.1 200 OK") == 50
    assert answer.index(b"HTTP/1.1 404 ") > answer.rindex(b"HTTP/1.1 200 OK")


async def test_a_head_that_takes_too_long_is_refused(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "HEAD_S", 0.05)
    assert (await raw(api, b"GET / HTTP/1.1\r\n")).startswith(b"HTTP/1.1 408 ")
    assert await raw(api, b"") == b""
    late = await raw(api, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nGET /healthz HTT")
    assert (late.count(b"HTTP/1.1 200 "), late.count(b"HTTP/1.1 408 ")) == (1, 1)


async def test_a_client_that_stops_sending_is_timed_out(tmp_path: Path) -> None:
    async with served(tmp_path, Limits(body_idle_s=0.05)) as api:
        head = f"POST /v1/namespaces HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {api.key}\r\ncontent-length: 9\r\n"
        answer = await raw(api, head.encode() + b"connection: close\r\n\r\n{")
        assert answer.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("bug", [RuntimeError("the innermost secret"), Internal("the innermost secret")])
async def test_a_bug_is_a_500_that_tells_nothing(api: Served, monkeypatch: pytest.MonkeyPatch, bug: Exception) -> None:
    async def broken(*_: object) -> None:
        raise bug

    monkeypatch.setattr(api.tenants, "list_namespaces", broken)
    answer = await api.http.get("/v1/namespaces")
    problem = problem_of(answer)
    assert (answer.status_code, problem["code"]) == (500, "internal")
    assert "innermost" not in answer.text
    assert problem["request_id"] in problem["hint"]


async def test_a_taken_port_is_refused_with_a_hint(api: Served) -> None:
    port = int(api.url.rpartition(":")[2])
    with pytest.raises(HostUnable) as caught:
        await ApiServer(api.server.app, "127.0.0.1", port).start()
    assert "--api-port" in caught.value.hint


@pytest.mark.parametrize("host", ["203.0.113.1", "not a host"])
async def test_an_address_of_another_machine_is_refused_with_a_hint(api: Served, host: str) -> None:
    with pytest.raises(HostUnable) as caught:
        await ApiServer(api.server.app, host, 0).start()
    assert "--host" in caught.value.hint
    assert "--api-port" not in caught.value.hint


async def test_stopping_lets_requests_finish_and_ends_the_rest(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        release = asyncio.Event()
        entered = asyncio.Event()
        plain = api.tenants.list_namespaces

        async def slow() -> Any:
            entered.set()
            await release.wait()
            return await plain()

        api.tenants.list_namespaces = slow  # type: ignore[method-assign]
        asking = asyncio.ensure_future(api.http.get("/v1/namespaces"))
        await entered.wait()
        stopping = asyncio.ensure_future(api.server.stop(10.0))
        await asyncio.sleep(0)
        release.set()
        assert (await asking).status_code == 200
        await stopping
        with pytest.raises(httpx.ConnectError):
            await api.http.get("/healthz")


async def test_readiness_follows_the_platform(api: Served) -> None:
    assert (await api.http.get("/readyz")).json() == {"status": "ready"}
    api.unready = "the warden is starting"
    answer = await api.http.get("/readyz")
    assert (answer.status_code, problem_of(answer)["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"] == "1"
    assert "the warden is starting" in answer.json()["detail"]
    assert (await api.http.get("/healthz")).status_code == 200


def test_every_row_is_one_operation() -> None:
    rows = [(endpoint.method, endpoint.path) for endpoint in ENDPOINTS]
    assert len(rows) == len(set(rows))
    names = [endpoint.operation_id for endpoint in ENDPOINTS]
    assert len(names) == len(set(names))
