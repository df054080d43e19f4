"""Records and logs over HTTP, so far and followed."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Literal

import pytest

from fuyun.base import clock, ids
from fuyun.domain.invocations import Invocation, LogLine, Waterfall
from tests.transports.api.serving import Served

pytestmark = pytest.mark.anyio

BASE = "/v1/namespaces/default/functions/hello"


def record(status: Literal["ok", "error"] = "ok", at_s: float | None = None) -> Invocation:
    """A record of `hello`."""
    return Invocation(
        id=ids.new_id(), at_s=at_s or clock.wall_s(), namespace="default", function="hello", version=1, status=status,
        start_kind="warm", waterfall=Waterfall(run=1.5), duration_ms=2.0,
    )  # fmt: skip


def line(text: str, request: str = "") -> LogLine:
    """A line of `hello`."""
    return LogLine(
        at_s=clock.wall_s(), namespace="default", function="hello", version=1, instance="i1", request=request, text=text
    )


async def test_records_are_listed_by_time_and_status_and_found_by_id(api: Served) -> None:
    await api.deploy("hello")
    made = [record(), record("error"), record()]
    for item in made:
        api.store.append_nowait(item)
    listed = (await api.http.get(f"{BASE}/invocations")).json()
    assert ([item["id"] for item in listed["items"]], listed["next"]) == ([item.id for item in made], None)
    failed = (await api.http.get(f"{BASE}/invocations?status=error")).json()["items"]
    assert [item["id"] for item in failed] == [made[1].id]
    newest = (await api.http.get(f"{BASE}/invocations?limit=1")).json()["items"]
    assert [item["id"] for item in newest] == [made[2].id]
    assert (await api.http.get(f"{BASE}/invocations", params={"until": made[0].at_s - 3600})).json()["items"] == []
    one = await api.http.get(f"{BASE}/invocations/{made[1].id}")
    assert (one.json()["waterfall"]["run"], one.json()["status"]) == (1.5, "error")
    absent = await api.http.get(f"{BASE}/invocations/{'0' * 32}")
    assert (absent.status_code, absent.json()["kind"]) == (404, "invocation")


async def test_a_function_that_does_not_exist_has_no_history(api: Served) -> None:
    for path in ("invocations", "logs", "logs?follow=1"):
        answer = await api.http.get(f"{BASE}/{path}")
        assert (answer.status_code, answer.json()["kind"]) == (404, "function"), path


async def test_lines_are_listed_by_request(api: Served) -> None:
    await api.deploy("hello")
    for text, request in (("one", "r1"), ("two", "r2"), ("three", "r1")):
        api.store.append_nowait(line(text, request))
    items = (await api.http.get(f"{BASE}/logs?request=r1")).json()["items"]
    assert [item["text"] for item in items] == ["one", "three"]
    backwards = await api.http.get(f"{BASE}/logs?since=20&until=10")
    assert (backwards.status_code, backwards.json()["path"]) == (400, "since")


async def test_following_gives_what_was_and_what_comes(api: Served) -> None:
    await api.deploy("hello")
    api.store.append_nowait(line("before", "r1"))
    async with api.http.stream("GET", f"{BASE}/logs?follow=1&request=r1") as answer:
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")
        lines = answer.aiter_lines()
        assert json.loads(await anext(lines))["text"] == "before"
        api.store.append_nowait(line("other", "r2"))
        for text in ("after", "more"):
            api.store.append_nowait(line(text, "r1"))
            assert json.loads(await anext(lines))["text"] == text


async def test_following_ends_when_the_client_leaves(api: Served) -> None:
    await api.deploy("hello")
    stopped = asyncio.Event()
    follow = api.store.follow

    def watched(*args: Any) -> Any:
        stop = follow(*args)
        return lambda: (stop(), stopped.set())

    api.store.follow = watched  # type: ignore[method-assign]
    api.store.append_nowait(line("before"))
    async with api.http.stream("GET", f"{BASE}/logs?follow=1") as answer:
        await anext(answer.aiter_lines())
    async with asyncio.timeout(5):
        await stopped.wait()


async def test_following_ends_when_the_platform_stops(api: Served) -> None:
    await api.deploy("hello")
    api.store.append_nowait(line("before"))
    async with api.http.stream("GET", f"{BASE}/logs?follow=1") as answer:
        lines = answer.aiter_lines()
        await anext(lines)
        stopping = asyncio.ensure_future(api.server.stop(5.0))
        assert [text async for text in lines] == []
        await stopping


async def test_head_of_a_followed_log_is_short(api: Served) -> None:
    await api.deploy("hello")
    answer = await api.http.head(f"{BASE}/logs?follow=1")
    assert (answer.status_code, answer.content) == (200, b"")
