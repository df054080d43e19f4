"""Invoking through the API: results, streams, failures, clients that leave."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from fuyun.domain.errors import FunctionRaised, FunctionTimedOut, InstanceLost, Throttled
from tests.transports.api.invoker import Behaviour, MemoryFlight, fails, never
from tests.transports.api.serving import Served, bearer

pytestmark = pytest.mark.anyio

URL = "/v1/namespaces/default/functions/hello/invoke"


async def deployed(api: Served, behaviour: Behaviour | None = None) -> None:
    """A function `hello` that does what `behaviour` says."""
    assert (await api.deploy("hello")).status_code == 200
    if behaviour is not None:
        api.invoker.behaviours["hello"] = behaviour


async def test_the_answer_is_the_result_and_its_headers_tell_of_the_run(api: Served) -> None:
    await deployed(api)
    answer = await api.http.post(URL, json={"a": [1, 2]})
    assert (answer.status_code, answer.json()) == (200, {"a": [1, 2]})
    (flight,) = api.invoker.flights
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["fuyun-request-id"] == flight.id
    assert answer.headers["fuyun-version"] == "3"
    assert answer.headers["fuyun-start"] == "warm"
    assert answer.headers["server-timing"] == flight.timing
    assert flight.log == [("sent", 200, len(answer.content))]


async def test_the_callers_key_is_kept_from_the_function(api: Served) -> None:
    await deployed(api)
    await api.http.post(URL, json={}, headers={"fuyun-key": api.key, "x-user": "u1"})
    headers = dict(api.invoker.flights[0].headers)
    assert "authorization" not in headers
    assert "fuyun-key" not in headers
    assert headers["x-user"] == "u1"
    assert headers["content-type"] == "application/json"


async def test_no_payload_is_an_empty_object(api: Served) -> None:
    await deployed(api)
    assert (await api.http.post(URL)).json() == {}


async def test_a_payload_must_be_json_and_within_the_limit(api: Served) -> None:
    await api.deploy("hello", spec={"payload_bytes": 100})
    bad = await api.http.post(URL, content=b"{", headers={"content-type": "application/json"})
    assert (bad.status_code, bad.json()["code"]) == (400, "bad_request")
    big = await api.http.post(URL, json="x" * 200)
    assert (big.status_code, big.json()["limit_bytes"]) == (413, 100)
    assert api.invoker.flights == []


async def test_what_is_not_there_is_not_found(api: Served) -> None:
    await deployed(api)
    for url in (URL.replace("hello", "other"), f"{URL}?qualifier=9", f"{URL}?qualifier=nowhere"):
        answer = await api.http.post(url, json={})
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), url
    assert (await api.http.post(f"{URL}?qualifier=UP", json={})).status_code == 400


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (FunctionRaised("ValueError: no", error_type="ValueError", traceback=["line 1"]), 502),
        (FunctionTimedOut("no answer within 1 s", timeout_s=1), 504),
        (Throttled("too many", retry_after_s=0.2), 429),
        (InstanceLost("killed"), 503),
    ],
)
async def test_a_failure_is_a_problem_with_its_fields(api: Served, error: Throttled, status: int) -> None:
    await deployed(api, fails(error))
    answer = await api.http.post(URL, json={})
    problem = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert (problem["code"], problem["detail"]) == (error.code, error.detail)
    assert error.fields.items() <= problem.items()
    (flight,) = api.invoker.flights
    assert problem["request_id"] == answer.headers["fuyun-request-id"] == flight.id
    assert ("retry-after" in answer.headers) == (status in (429, 503))
    assert flight.log == [("sent", status, len(answer.content))]


async def test_the_status_of_an_application_is_told_beside_its_answer(api: Served) -> None:
    await deployed(api, lambda flight: flight.responder.on_result(405, [("content-type", "text/plain")], b"GET only"))
    answer = await api.http.post(URL, json={})
    assert (answer.status_code, answer.headers["fuyun-status"], answer.text) == (200, "405", "GET only")
    (flight,) = api.invoker.flights
    assert flight.log == [("sent", 200, 8)]


async def test_a_streamed_answer_is_passed_on_piece_by_piece(api: Served) -> None:
    await deployed(api, lambda flight: flight.responder.on_head(200, [("content-type", "text/plain")]))
    async with api.http.stream("POST", URL, json={}) as answer:
        assert answer.headers["content-type"] == "text/plain"
        (flight,) = api.invoker.flights
        pieces = answer.aiter_bytes()
        for piece in (b"one", b"twotwo"):
            flight.responder.on_body(piece)
            assert await anext(pieces) == piece
        flight.responder.on_end()
        assert [piece async for piece in pieces] == []
    await flight.over.wait()
    assert flight.log == [("consumed", 3), ("consumed", 6), ("sent", 200, 9)]


async def test_a_stream_that_fails_in_the_middle_is_cut(api: Served) -> None:
    def breaks(flight: MemoryFlight) -> None:
        flight.responder.on_head(200, [("content-type", "text/plain")])
        flight.responder.on_body(b"half")
        flight.responder.on_fail(FunctionRaised("ValueError: no"))

    await deployed(api, breaks)
    with pytest.raises(httpx.RemoteProtocolError):
        await api.http.post(URL, json={})
    assert api.invoker.flights[0].log == [("consumed", 4), ("sent", 200, 4)]


async def test_a_client_that_leaves_cancels_the_flight(api: Served) -> None:
    await deployed(api, never)
    asking = asyncio.ensure_future(api.http.post(URL, json={}))
    async with asyncio.timeout(5):
        while not api.invoker.flights:
            await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    (flight,) = api.invoker.flights
    await flight.over.wait()
    assert flight.log == [("cancel",)]


async def test_only_a_key_that_may_invoke_does(api: Served) -> None:
    await deployed(api)
    for role, status in (("invoker", 200), ("viewer", 403)):
        answer = await api.http.post(URL, json={}, headers=bearer(await api.token("default", role)))
        assert answer.status_code == status
    read = await api.http.get("/v1/namespaces/default/functions", headers=bearer(await api.token("default", "invoker")))
    assert read.status_code == 403


async def test_a_content_type_that_is_no_header_is_replaced(api: Served) -> None:
    await deployed(api, lambda flight: flight.responder.on_result(200, [("Content-Type", "a\r\nx: y")], b"b"))
    answer = await api.http.post(URL, json={})
    assert (answer.headers["content-type"], "x" in answer.headers) == ("application/octet-stream", False)


async def test_big_results_arrive_whole(api: Served) -> None:
    body = json.dumps(["x" * 1000] * 5000).encode()
    await deployed(api, lambda flight: flight.responder.on_result(200, None, body))
    assert (await api.http.post(URL, json={})).content == body
