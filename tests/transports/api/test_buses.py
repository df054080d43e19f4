"""Buses over HTTP."""

from __future__ import annotations

import json

import pytest

from tests.transports.api.serving import Served, bearer
from tests.transports.api.test_metrics import scrape

pytestmark = pytest.mark.anyio

BUS = "/v1/namespaces/default/buses/orders"
HEADERS = {"ce-id": "e-1", "ce-source": "/shop", "ce-type": "order.paid", "ce-specversion": "1.0"}


async def test_a_bus_and_its_rules_are_made_changed_and_deleted(api: Served) -> None:
    made = await api.http.put(BUS, json={"archive_s": 60}, headers={"if-none-match": "*"})
    assert (made.status_code, made.json()["revision"], made.headers["etag"]) == (200, 1, '"1"')
    again = await api.http.put(BUS, json={}, headers={"if-none-match": "*"})
    assert (again.status_code, again.json()["code"]) == (412, "precondition_failed")
    rule = {"filter": {"type": {"prefix": "order."}}, "target": "queue:ship", "transform": {"template": {"a": 1}}}
    assert (await api.http.put(f"{BUS}/rules/paid", json=rule)).status_code == 200
    await api.http.put(f"{BUS}/rules/all", json={"target": "topic:t"})
    stale = await api.http.put(f"{BUS}/rules/paid", json=rule, headers={"if-match": '"7"'})
    assert stale.status_code == 412
    page = (await api.http.get(f"{BUS}/rules", params={"limit": 1})).json()
    assert ([item["name"] for item in page["items"]], page["next"]) == (["all"], "all")
    known = {"if-none-match": (await api.http.get(f"{BUS}/rules/paid")).headers["etag"]}
    assert (await api.http.get(f"{BUS}/rules/paid", headers=known)).status_code == 304
    wrong = await api.http.put(f"{BUS}/rules/paid", json={"target": "queue:ship", "filter": {"type": {"prefx": "a"}}})
    assert (wrong.status_code, wrong.json()["path"]) == (400, "filter.type.prefx")
    assert "did you mean 'prefix'" in wrong.json()["detail"]
    assert (await api.http.delete(f"{BUS}/rules/all")).status_code == 204
    assert (await api.http.get(f"{BUS}/rules/al")).json()["hint"].startswith("`fuyun bus rules")
    assert (await api.http.delete(BUS)).status_code == 204
    assert (await api.http.get(f"{BUS}/rules")).status_code == 404
    entries = (await api.http.get("/v1/audit?namespace=default")).json()["items"]
    assert [entry["action"] for entry in entries] == [
        "bus.put", "bus.rule.put", "bus.rule.put", "bus.rule.delete", "bus.delete",
    ]  # fmt: skip


async def test_events_are_published_in_every_mode_and_remembered(api: Served) -> None:
    await api.http.put(BUS, json={"archive_s": 3600})
    plain = {"specversion": "1.0", "id": "e-2", "source": "/shop", "type": "order.made", "data": {"n": 1}}
    sent = [
        await api.http.post(f"{BUS}/events", content=b"\0", headers={**HEADERS, "content-type": "image/png"}),
        await api.http.post(
            f"{BUS}/events", content=json.dumps(plain), headers={"content-type": "application/cloudevents+json"}
        ),
        await api.http.post(
            f"{BUS}/events", content=json.dumps([plain | {"id": "e-3"}, plain | {"id": "e-4"}]),
            headers={"content-type": "application/cloudevents-batch+json"},
        ),
    ]  # fmt: skip
    assert [(answer.status_code, answer.json()["ids"]) for answer in sent] == [
        (202, ["e-1"]), (202, ["e-2"]), (202, ["e-3", "e-4"]),
    ]  # fmt: skip
    archived = (await api.http.get(f"{BUS}/archive", params={"limit": 3})).json()
    assert [item["event"]["id"] for item in archived["items"]] == ["e-1", "e-2", "e-3"]
    following = (await api.http.get(f"{BUS}/archive", params={"after": archived["next"]})).json()
    assert ([item["event"]["id"] for item in following["items"]], following["next"]) == (["e-4"], None)
    types = (await api.http.get(f"{BUS}/types")).json()["items"]
    assert [(item["type"], item["count"], item["sample"]["id"]) for item in types] == [
        ("order.made", 3, "e-4"), ("order.paid", 1, "e-1"),
    ]  # fmt: skip
    refused = await api.http.post(f"{BUS}/events", json={"n": 1})
    assert (refused.status_code, refused.json()["code"]) == (400, "bad_request")
    assert "carries no CloudEvent" in refused.json()["detail"]


async def test_a_stretch_of_the_archive_is_replayed(api: Served) -> None:
    await api.http.put(BUS, json={"archive_s": 3600})
    await api.http.post(f"{BUS}/events", headers=HEADERS)
    second = BUS.replace("orders", "again")
    await api.http.put(second, json={"archive_s": 3600})
    begun = await api.http.post(f"{BUS}/replays", json={"since_s": 0, "target": "bus:again"})
    assert (begun.status_code, begun.json()["state"]) == (202, "running")
    while (await api.http.get(f"{BUS}/replays")).json()["items"][0]["state"] == "running":
        pass
    [kept] = (await api.http.get(f"{second}/archive")).json()["items"]
    assert (kept["event"]["id"], kept["event"]["hops"]) == ("e-1", 1)
    over = await api.http.delete(f"{BUS}/replays/{begun.json()['id']}")
    assert (over.status_code, over.json()["code"]) == (409, "conflict")


async def test_roles_and_namespaces_bound_buses(api: Served) -> None:
    await api.http.post("/v1/namespaces", json={"name": "acme"})
    await api.http.put(BUS, json={})
    other, invoker = bearer(await api.token("acme")), bearer(await api.token("default", "invoker"))
    assert (await api.http.get(BUS, headers=other)).status_code == 403
    assert (await api.http.put(BUS, json={}, headers=invoker)).status_code == 403
    assert (await api.http.post(f"{BUS}/events", headers=HEADERS | invoker)).status_code == 202
    assert (await api.http.get(f"{BUS}/archive", headers=invoker)).status_code == 403
    assert (await api.http.get("/v1/namespaces/acme/buses", headers=other)).json()["items"] == []


async def test_buses_have_a_quota_and_metrics(api: Served) -> None:
    url = "/v1/namespaces/default"
    await api.http.put(f"{url}/quotas", json={"buses": 1})
    await api.http.put(BUS, json={})
    refused = await api.http.put(f"{url}/buses/second", json={})
    assert (refused.status_code, refused.json()["code"]) == (403, "quota_exceeded")
    await api.http.put(f"{BUS}/rules/paid", json={"filter": {"type": "order.paid"}, "target": "queue:ship"})
    for type_ in ("order.paid", "order.sent"):
        answer = await api.http.post(f"{BUS}/events", content=b"[1,2]", headers={**HEADERS, "ce-type": type_})
        assert answer.status_code == 202
    found = await scrape(api)
    labels = {"namespace": "default", "bus": "orders"}
    told = {
        name: found[f"fuyun_bus_{name}_total", frozenset(labels.items())] for name in ("published", "published_bytes")
    }
    assert told == {"published": 2, "published_bytes": 10}


async def test_streams_are_told_of_once(api: Served) -> None:
    """A sample that stands twice is refused by who scrapes."""
    url = "/v1/namespaces/default/streams/walk"
    await api.http.put(url, json={})
    assert (await api.http.post(f"{url}/records", json={"records": [{"data": 1}]})).status_code == 200
    found = await scrape(api)
    labels = frozenset({"namespace": "default", "stream": "walk"}.items())
    assert found["fuyun_stream_appended_total", labels] == 1
