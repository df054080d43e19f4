"""Layers over HTTP."""

from __future__ import annotations

import pytest

from tests.transports.api.serving import Served, bearer

pytestmark = pytest.mark.anyio

BASE = "/v1/namespaces/default/layers"


async def test_layers_are_published_read_and_deleted(api: Served) -> None:
    made = await api.publish_layer("fonts", {"a.txt": "a"})
    assert (made.status_code, made.json()["number"], made.json()["name"]) == (200, 1, "fonts")
    assert (await api.publish_layer("fonts", {"a.txt": "a"})).json() == made.json(), (
        "the same content, the same version"
    )
    assert (await api.publish_layer("fonts", {"a.txt": "b"})).json()["number"] == 2
    await api.publish_layer("data", {"a.txt": "c"})
    page = (await api.http.get(BASE, params={"limit": 1})).json()
    assert ([item["name"] for item in page["items"]], page["next"]) == (["data"], "data")
    page = (await api.http.get(BASE, params={"after": "data"})).json()
    assert ([(item["name"], item["number"]) for item in page["items"]], page["next"]) == ([("fonts", 2)], None)
    page = (await api.http.get(f"{BASE}/fonts/versions", params={"limit": 1})).json()
    assert ([item["number"] for item in page["items"]], page["next"]) == ([1], "1")
    assert (await api.http.get(f"{BASE}/fonts")).json()["number"] == 2
    assert (await api.http.get(f"{BASE}/fonts/versions/1")).json() == made.json()
    assert (await api.http.delete(f"{BASE}/fonts/versions/2")).status_code == 204
    assert (await api.http.get(f"{BASE}/fonts")).json()["number"] == 1
    gone = await api.http.get(f"{BASE}/fonts/versions/2")
    assert (gone.status_code, gone.json()["code"]) == (404, "not_found")
    entries = (await api.http.get("/v1/audit?namespace=default")).json()["items"]
    assert [entry["action"] for entry in entries] == ["layer.publish"] * 3 + ["layer.delete"]


async def test_a_read_that_knows_the_version_is_not_answered_again(api: Served) -> None:
    await api.publish_layer("fonts", {"a.txt": "a"})
    found = await api.http.get(f"{BASE}/fonts")
    known = {"if-none-match": found.headers["etag"]}
    assert (await api.http.get(f"{BASE}/fonts", headers=known)).status_code == 304
    assert (await api.http.get(f"{BASE}/fonts/versions/1", headers=known)).status_code == 304
    await api.publish_layer("fonts", {"a.txt": "b"})
    assert (await api.http.get(f"{BASE}/fonts", headers=known)).status_code == 200


async def test_roles_and_namespaces_bound_them(api: Served) -> None:
    await api.http.post("/v1/namespaces", json={"name": "acme"})
    made = (await api.publish_layer("fonts", {"a.txt": "a"})).json()
    body = {"content": made["content"]["digest"]}
    other, viewer = bearer(await api.token("acme")), bearer(await api.token("default", "viewer"))
    assert (await api.http.get(f"{BASE}/fonts", headers=other)).status_code == 403
    assert (await api.http.post(f"{BASE}/fonts/versions", json=body, headers=viewer)).status_code == 403
    assert (await api.http.delete(f"{BASE}/fonts/versions/1", headers=viewer)).status_code == 403
    assert (await api.http.get(f"{BASE}/fonts", headers=viewer)).status_code == 200
    assert (await api.http.get("/v1/namespaces/acme/layers", headers=other)).json()["items"] == []


async def test_what_no_archive_is_under_cannot_be_published(api: Served) -> None:
    absent = await api.http.post(f"{BASE}/fonts/versions", json={"content": "0" * 64})
    assert (absent.status_code, absent.json()["kind"]) == (404, "archive")
    malformed = await api.http.post(f"{BASE}/fonts/versions", json={"content": "../etc"})
    assert (malformed.status_code, malformed.json()["path"]) == (400, "content")


async def test_a_function_mounts_them_by_name(api: Served) -> None:
    made = (await api.publish_layer("fonts", {"a.txt": "a"})).json()
    version = (await api.deploy("hello", spec={"layers": ["fonts"]})).json()
    assert (version["spec"]["layers"], version["layers"]) == (["fonts:1"], [made["content"]])
    refused = await api.deploy("hello", spec={"layers": ["font"]})
    assert (refused.status_code, refused.json()["hint"]) == (404, "did you mean 'fonts'?")
