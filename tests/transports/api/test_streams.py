"""Streams and tables over HTTP: roles, revisions, conflicts, waits and tails."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.transports.api.serving import Served, bearer

pytestmark = pytest.mark.anyio

STREAM, TABLE = "/v1/namespaces/default/streams/s", "/v1/namespaces/default/tables/t"


async def append(api: Served, *values: object, path: str = STREAM, **fields: object) -> None:
    body = {"records": [{"data": value, **fields} for value in values]}
    assert (await api.http.post(f"{path}/records", json=body)).status_code == 200


async def test_revisions_guard_settings_and_the_audit_log_tells(api: Served) -> None:
    made = await api.http.put(STREAM, json={"partitions": 2}, headers={"if-none-match": "*"})
    assert (made.status_code, made.headers["etag"]) == (200, '"1"')
    again = await api.http.put(STREAM, json={"partitions": 2}, headers={"if-none-match": "*"})
    assert (again.status_code, again.json()["etag"]) == (412, '"1"')
    changed = await api.http.put(STREAM, json={"partitions": 2, "retention_s": 60}, headers={"if-match": '"1"'})
    assert changed.headers["etag"] == '"2"'
    assert (await api.http.get(STREAM, headers={"if-none-match": '"2"'})).status_code == 304
    fixed = await api.http.put(STREAM, json={"partitions": 3})
    assert (fixed.status_code, fixed.json()["path"]) == (409, "partitions")
    assert (await api.http.put(TABLE, json={})).status_code == 200
    names = [one["name"] for one in (await api.http.get("/v1/namespaces/default/streams")).json()["items"]]
    assert names == ["s", "table.t"]
    for path in (STREAM, TABLE):
        assert (await api.http.delete(path)).status_code == 204
    entries = (await api.http.get("/v1/audit?namespace=default")).json()["items"]
    assert [one["action"] for one in entries] == [
        "stream.put", "stream.put", "table.put", "stream.delete", "table.delete",
    ]  # fmt: skip


async def test_a_wait_is_answered_by_an_append_and_a_tail_goes_on(api: Served) -> None:
    await api.http.put(STREAM, json={"partitions": 2})
    query = {"from": "end", "wait_s": 30, "partition": 1}
    waiting = asyncio.ensure_future(api.http.get(f"{STREAM}/records", params=query, timeout=40))
    follow = {"from": "start", "follow": "1"}
    lines = {"accept": "application/x-ndjson"}
    async with api.http.stream("GET", f"{STREAM}/records", params=follow, headers=lines, timeout=40) as tail:
        await append(api, "x", partition=1)
        found = (await waiting).json()
        assert ([one["event"]["data"] for one in found["records"]], found["next"]) == (["x"], 1)
        seen = tail.aiter_lines()
        assert json.loads(await anext(seen))["event"]["data"] == "x"
        await append(api, "y", partition=0)
        second = json.loads(await anext(seen))
        assert (second["event"]["data"], second["partition"], second["offset"]) == ("y", 0, 0)


async def test_conflicts_name_what_was_found(api: Served) -> None:
    await api.http.put(STREAM, json={"versioned": True})
    await append(api, 1, 2, key="k")
    refused = await api.http.post(f"{STREAM}/records", json={"records": [{"key": "k", "expected": 1, "data": 3}]})
    assert (refused.status_code, refused.json()["key"], refused.json()["found"]) == (409, "k", 2)
    history = (await api.http.get(f"{STREAM}/history", params={"key": "k", "limit": 1})).json()
    assert (history["items"][0]["version"], history["next"]) == (1, "1")
    claimed = (await api.http.post(f"{STREAM}/groups/g/claim", json={"owner": "a"})).json()
    await api.http.post(f"{STREAM}/groups/g/claim", json={"owner": "b"})
    commit = {"epoch": claimed["epoch"], "offset": 1}
    late = await api.http.post(f"{STREAM}/groups/g/commit", json=commit)
    assert (late.status_code, late.json()["owner"], late.json()["epoch"]) == (409, "b", 2)
    [group] = (await api.http.get(f"{STREAM}/groups")).json()
    assert (group["group"], group["lag"], group["age_s"] >= 0) == ("g", 2, True)
    await api.http.put(TABLE, json={})
    write = f"{TABLE}/write"
    [made] = (await api.http.post(write, json={"changes": [{"put": {"id": "a"}}]})).json()
    changes = [{"put": {"id": "b"}}, {"delete": {"id": "a"}, "if": {"version": made["version"] + 1}}]
    refused = await api.http.post(write, json={"changes": changes})
    assert (refused.status_code, refused.json()["place"], refused.json()["found"]) == (409, 1, made["version"])
    assert (await api.http.post(f"{TABLE}/read", json={"keys": [{"id": "b"}]})).json() == [None]


async def test_roles_bound_what_may_be_done(api: Served) -> None:
    await api.http.put(STREAM, json={})
    await api.http.put(TABLE, json={})
    invoker, viewer = bearer(await api.token("default", "invoker")), bearer(await api.token("default", "viewer"))
    sent = {"records": [{"data": 1}]}
    for headers, expected in ((invoker, (200, 200, 403, 403)), (viewer, (403, 403, 200, 403))):
        answers = (
            await api.http.post(f"{STREAM}/records", json=sent, headers=headers),
            await api.http.post(f"{TABLE}/query", json={}, headers=headers),
            await api.http.get(STREAM, headers=headers),
            await api.http.post(f"{STREAM}/groups/g/reset", json={}, headers=headers),
        )
        assert tuple(answer.status_code for answer in answers) == expected
    other = bearer(await api.token("default", "viewer"))
    assert (await api.http.get("/v1/namespaces/none/streams", headers=other)).status_code == 403
