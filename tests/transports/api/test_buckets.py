"""Buckets and access keys over the API."""

from __future__ import annotations

import pytest

from fuyun.services.tenants import PLATFORM
from tests.transports.api.serving import Served, bearer

pytestmark = pytest.mark.anyio
BASE = "/v1/namespaces/default/buckets"


async def test_a_bucket_comes_and_goes(api: Served) -> None:
    made = await api.http.put(f"{BASE}/photos")
    assert (made.status_code, made.json()["name"], made.json()["objects"]) == (201, "photos", 0)
    assert (await api.http.put(f"{BASE}/photos")).status_code == 409
    assert [item["name"] for item in (await api.http.get(BASE)).json()["items"]] == ["photos"]
    assert (await api.http.get(f"{BASE}/photos")).json() == made.json()
    assert (await api.http.get("/v1/namespaces/other/buckets/photos")).status_code == 404, "it is not the namespace's"
    listed = await api.http.get(f"{BASE}/photos/objects", params={"delimiter": "/"})
    assert listed.json() == {"items": [], "next": None}
    assert (await api.http.delete(f"{BASE}/photos/objects", params={"key": "gone"})).status_code == 204
    assert (await api.http.delete(f"{BASE}/photos")).status_code == 204
    assert (await api.http.get(f"{BASE}/photos")).status_code == 404
    actions = [item["action"] for item in (await api.http.get("/v1/audit")).json()["items"]]
    assert [action for action in actions if action.startswith("bucket")] == ["bucket.create", "bucket.delete"]


async def test_addresses_are_signed_for_who_asks(api: Served) -> None:
    await api.http.put(f"{BASE}/photos")
    answer = await api.http.post(f"{BASE}/photos/presign", json={"key": "a b/ü", "lasts_s": 60})
    url = answer.json()["url"]
    assert url.startswith("http://127.0.0.1:8082/photos/a%20b/%C3%BC?")
    assert "X-Amz-Expires=60" in url
    viewer = bearer(await api.token("default", "viewer"))
    allowed = await api.http.post(f"{BASE}/photos/presign", json={"key": "k"}, headers=viewer)
    refused = await api.http.post(f"{BASE}/photos/presign", json={"key": "k", "method": "PUT"}, headers=viewer)
    assert (allowed.status_code, refused.status_code) == (200, 403)


async def test_who_holds_a_key_may_see_its_secret(api: Served) -> None:
    developer, viewer = await api.token("default", "developer"), await api.token("default", "viewer")
    own = developer.split("_")[1]
    path = f"/v1/namespaces/default/keys/{own}/s3"
    found = await api.http.get(path, headers=bearer(developer))
    assert found.json() == {
        "access_key": own, "secret_key": api.tenants.access_secret(own), "endpoint": "http://127.0.0.1:8082",
        "region": "us-east-1",
    }  # fmt: skip
    assert (await api.http.get(path, headers=bearer(viewer))).status_code == 403
    assert (await api.http.get(path)).status_code == 200, "an admin may make such keys anyway"
    assert (await api.http.get("/v1/namespaces/default/keys/none/s3")).status_code == 404
    await api.tenants.delete_key(PLATFORM, "default", own, "test")
    assert (await api.http.get(path)).status_code == 404
