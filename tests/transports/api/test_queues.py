"""Queues and topics over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.transports.api.serving import Served, bearer
from tests.transports.api.test_metrics import scrape

pytestmark = pytest.mark.anyio

BASE = "/v1/namespaces/default"
Q = f"{BASE}/queues/q"


async def send(api: Served, *data: Any, **rest: Any) -> list[str]:
    answer = await api.http.post(f"{Q}/messages", json={"messages": [{"data": one, **rest} for one in data]})
    assert answer.status_code == 200, answer.text
    return [sent["id"] for sent in answer.json()["sent"]]


async def receive(api: Served, **asked: Any) -> list[dict[str, Any]]:
    answer = await api.http.post(f"{Q}/receive", json=asked, timeout=30)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["messages"]
    return found


async def test_messages_go_through_a_queue(api: Served) -> None:
    made = await api.http.put(Q, json={"visibility_s": 60, "dead_letter": ""}, headers={"if-none-match": "*"})
    assert (made.status_code, made.headers["etag"], made.json()["spec"]["visibility_s"]) == (200, '"1"', 60)
    again = await api.http.put(Q, json={}, headers={"if-none-match": "*"})
    assert (again.status_code, again.json()["code"]) == (412, "precondition_failed")
    assert (await api.http.put(Q, json={}, headers={"if-match": '"1"'})).headers["etag"] == '"2"'
    ids = await send(api, {"n": 1}, "text", attributes={"kind": "x"})
    raw = {"data_base64": "AAE=", "content_type": "image/png", "id": "own", "type": "t", "subject": "s"}
    assert (await api.http.post(f"{Q}/messages", json={"messages": [raw]})).json()["sent"][0]["id"] == "own"
    seen = (await api.http.get(f"{Q}/messages", params={"limit": 2})).json()["messages"]
    assert [(one["event"]["id"], one["receipt"], one["receives"]) for one in seen] == [(ids[0], "", 0), (ids[1], "", 0)]
    got = await receive(api, max=10)
    first = got[0]["event"]
    assert (first["data"], first["kind"], first["source"]) == ({"n": 1}, "x", "/default/queue/q")
    assert (got[2]["event"]["data_base64"], got[2]["event"]["datacontenttype"]) == ("AAE=", "image/png")
    receipts = [one["receipt"] for one in got]
    kept = await api.http.post(f"{Q}/extend", json={"receipts": receipts[:1], "visibility_s": 0})
    assert kept.json() == {"done": 1, "refused": {}}
    done = (await api.http.post(f"{Q}/acknowledge", json={"receipts": receipts})).json()
    assert (done["done"], list(done["refused"])) == (2, receipts[:1])
    assert "ran out" in done["refused"][receipts[0]]
    report = (await api.http.get(Q)).json()
    assert (report["queue"]["messages"], report["statistics"]["ready"]) == (1, 1)
    assert (await api.http.delete(f"{Q}/messages")).json() == {"count": 1}
    assert (await api.http.delete(Q)).status_code == 204
    assert (await api.http.get(Q)).status_code == 404
    entries = (await api.http.get("/v1/audit?namespace=default")).json()["items"]
    assert [entry["action"] for entry in entries] == ["queue.put", "queue.put", "queue.purge", "queue.delete"]


async def test_a_receiver_waits_and_one_that_leaves_takes_nothing(api: Served) -> None:
    await api.http.put(Q, json={})
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(receive(api, wait_s=20))
        while not api.queues.lines:
            await asyncio.sleep(0.001)
        await send(api, 1)
    assert [one["event"]["data"] for one in waiting.result()] == [1]
    gone = asyncio.ensure_future(receive(api, wait_s=20))
    while not api.queues.lines:
        await asyncio.sleep(0.001)
    gone.cancel()
    while api.queues.lines:
        await asyncio.sleep(0.001)
    await send(api, 2)
    assert (await api.http.get(Q)).json()["statistics"]["ready"] == 1


async def test_an_api_that_stops_sends_receivers_home(api: Served) -> None:
    await api.http.put(Q, json={})
    waiting = asyncio.ensure_future(receive(api, wait_s=60))
    while not api.queues.lines:
        await asyncio.sleep(0.001)
    await api.server.stop(20.0)
    assert await waiting == []


async def test_dead_letters_are_driven_back(api: Served) -> None:
    await api.http.put(f"{BASE}/queues/dead", json={})
    await api.http.put(Q, json={"dead_letter": "dead", "max_receives": 1})
    await send(api, 1)
    [got] = await receive(api)
    await api.http.post(f"{Q}/extend", json={"receipts": [got["receipt"]], "visibility_s": 0})
    assert await receive(api) == []
    refused = await api.http.delete(f"{BASE}/queues/dead")
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert (await api.http.post(f"{BASE}/queues/dead/redrive", json={})).json() == {"count": 1}
    [again] = await receive(api)
    assert (again["event"]["id"], again["receives"]) == (got["event"]["id"], 1)


async def test_topics_hand_on(api: Served) -> None:
    for path, body in (("queues/q", {}), ("topics/t", {"description": "prices"})):
        assert (await api.http.put(f"{BASE}/{path}", json=body)).status_code == 200
    subscription = f"{BASE}/topics/t/subscriptions/s"
    spec = {"target": "queue:q", "filter": {"data.price": {"numeric": [">", 10]}}}
    assert (await api.http.put(subscription, json=spec)).json()["spec"]["filter"] == spec["filter"]
    messages = [{"data": {"price": price}} for price in (5, 15)]
    published = (await api.http.post(f"{BASE}/topics/t/publish", json={"messages": messages})).json()
    assert (len(published["ids"]), published["queues"]) == (2, {"q": 1})
    assert [one["event"]["data"] for one in await receive(api, max=5)] == [{"price": 15}]
    assert [one["name"] for one in (await api.http.get(f"{BASE}/topics/t/subscriptions")).json()["items"]] == ["s"]
    assert (await api.http.get(f"{BASE}/topics/t")).json()["description"] == "prices"
    bad = await api.http.put(subscription, json={"target": "queue:q", "filter": {"data.x": {"prefiks": 1}}})
    assert (bad.status_code, bad.json()["path"]) == (400, "filter.data.x.prefiks")
    assert (await api.http.delete(subscription)).status_code == 204
    assert (await api.http.delete(f"{BASE}/topics/t")).status_code == 204
    assert (await api.http.get(f"{BASE}/topics")).json()["items"] == []


async def test_lists_are_paged(api: Served) -> None:
    for name in ("b", "a", "c"):
        await api.http.put(f"{BASE}/queues/{name}", json={})
        await api.http.put(f"{BASE}/topics/{name}", json={})
    for kind in ("queues", "topics"):
        page = (await api.http.get(f"{BASE}/{kind}", params={"limit": 2})).json()
        assert ([item["name"] for item in page["items"]], page["next"]) == (["a", "b"], "b")
        page = (await api.http.get(f"{BASE}/{kind}", params={"after": "b"})).json()
        assert ([item["name"] for item in page["items"]], page["next"]) == (["c"], None)


async def test_roles_and_namespaces_bound_them(api: Served) -> None:
    await api.http.post("/v1/namespaces", json={"name": "acme"})
    await api.http.put(Q, json={})
    other = bearer(await api.token("acme"))
    viewer, invoker = bearer(await api.token("default", "viewer")), bearer(await api.token("default", "invoker"))
    message = {"messages": [{"data": 1}]}
    for headers, reading, sending, changing in (
        (other, 403, 403, 403),
        (viewer, 200, 403, 403),
        (invoker, 403, 200, 403),
    ):
        assert (await api.http.get(Q, headers=headers)).status_code == reading
        assert (await api.http.post(f"{Q}/messages", json=message, headers=headers)).status_code == sending
        assert (await api.http.post(f"{Q}/receive", json={}, headers=headers)).status_code == sending
        assert (await api.http.put(Q, json={}, headers=headers)).status_code == changing
        assert (await api.http.delete(f"{Q}/messages", headers=headers)).status_code == changing
    assert (await api.http.get("/v1/namespaces/acme/queues", headers=other)).json()["items"] == []


async def test_what_cannot_be_is_told(api: Served) -> None:
    await api.http.put(Q, json={})
    cases: list[tuple[str, dict[str, Any], int, str | None]] = [
        ("messages", {"messages": []}, 400, "messages"),
        ("messages", {"messages": [{"data": 1, "group": "g"}]}, 400, "group"),
        ("messages", {"messages": [{"data_base64": "%"}]}, 400, "data_base64"),
        ("messages", {"messages": [{"data": "x" * 300_000}]}, 413, None),
        ("messages", {"messages": [{"dato": 1}]}, 400, "messages[0].dato"),
        ("receive", {"max": 0}, 400, "max"),
        ("receive", {"wait_s": 1e9}, 400, "wait_s"),
        ("receive", {"visibility_s": -1}, 400, "visibility_s"),
        ("acknowledge", {"receipts": ["nonsense"]}, 400, "receipt"),
        ("extend", {"receipts": ["1-1"], "visibility_s": -1}, 400, "visibility_s"),
        ("redrive", {"to": "q"}, 400, "to"),
    ]
    for path, body, status, where in cases:
        answer = await api.http.post(f"{Q}/{path}", json=body)
        assert (answer.status_code, answer.json().get("path")) == (status, where), answer.text
        assert answer.json()["hint"]


async def test_metrics_tell_of_queues(api: Served) -> None:
    await api.http.put(Q, json={})
    await send(api, 1, 2)
    await receive(api)
    found = await scrape(api)
    labels = {"namespace": "default", "queue": "q"}
    assert found["fuyun_queue_messages", frozenset(labels.items())] == 2
    assert found["fuyun_queue_bytes", frozenset(labels.items())] > 0
    moved = {how: found["fuyun_queue_moved_total", frozenset({**labels, "how": how}.items())]
             for how in ("sent", "received", "acknowledged")}  # fmt: skip
    assert moved == {"sent": 2, "received": 1, "acknowledged": 0}
