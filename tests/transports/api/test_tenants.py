"""Namespaces, keys, secrets and the audit log over HTTP."""

from __future__ import annotations

import httpx
import pytest

from tests.transports.api.serving import Served, bearer

pytestmark = pytest.mark.anyio


async def test_a_namespace_is_made_read_and_deleted(api: Served) -> None:
    made = await api.http.post("/v1/namespaces", json={"name": "team-a"})
    assert made.status_code == 201
    assert made.headers["location"] == "/v1/namespaces/team-a"
    assert made.json()["quotas"]["functions"] == 1000
    read = await api.http.get("/v1/namespaces/team-a")
    assert read.json() == made.json()
    again = await api.http.post("/v1/namespaces", json={"name": "team-a"})
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    assert (await api.http.delete("/v1/namespaces/team-a")).status_code == 204
    assert (await api.http.get("/v1/namespaces/team-a")).status_code == 404


async def test_lists_come_in_pages(api: Served) -> None:
    for name in ("a1", "b2", "c3", "d4"):
        await api.http.post("/v1/namespaces", json={"name": name})
    seen: list[str] = []
    after = ""
    while True:
        page = (await api.http.get("/v1/namespaces", params={"limit": 2, "after": after})).json()
        assert len(page["items"]) <= 2
        seen += [item["name"] for item in page["items"]]
        if page["next"] is None:
            break
        after = page["next"]
    assert seen == sorted({"a1", "b2", "c3", "d4", *seen})
    assert {"a1", "b2", "c3", "d4"} <= set(seen)


async def test_quotas_change_by_compare_and_set(api: Served) -> None:
    first = await api.http.post("/v1/namespaces", json={"name": "team-a"})
    assert first.headers["etag"] == '"1"'
    changed = await api.http.put("/v1/namespaces/team-a/quotas", json={"functions": 5}, headers={"if-match": '"1"'})
    assert (changed.status_code, changed.headers["etag"], changed.json()["quotas"]["functions"]) == (200, '"2"', 5)
    late = await api.http.put("/v1/namespaces/team-a/quotas", json={"functions": 9}, headers={"if-match": '"1"'})
    assert (late.status_code, late.json()["code"], late.json()["etag"]) == (412, "precondition_failed", '"2"')
    same = await api.http.get("/v1/namespaces/team-a", headers={"if-none-match": '"2"'})
    assert (same.status_code, same.content) == (304, b"")
    bad = await api.http.put("/v1/namespaces/team-a/quotas", json={"functions": -1})
    assert (bad.status_code, bad.json()["path"]) == (400, "quotas.functions")


async def test_a_key_works_until_it_is_revoked(api: Served) -> None:
    await api.http.post("/v1/namespaces", json={"name": "team-a"})
    made = (await api.http.post("/v1/namespaces/team-a/keys", json={"role": "viewer", "name": "ci"})).json()
    token, key = made["token"], made["key"]
    assert token.startswith(f"fk_{key['id']}_")
    listed = (await api.http.get("/v1/namespaces/team-a/keys")).json()["items"]
    assert listed == [key]
    for headers in (bearer(token), {"fuyun-key": token, "authorization": ""}):
        seen = await api.http.get("/v1/info", headers=headers)
        assert (seen.status_code, seen.json()["namespace"], seen.json()["role"]) == (200, "team-a", "viewer")
    assert (await api.http.delete(f"/v1/namespaces/team-a/keys/{key['id']}")).status_code == 204
    gone = await api.http.get("/v1/info", headers=bearer(token))
    assert (gone.status_code, gone.headers["www-authenticate"]) == (401, 'Bearer realm="fuyun"')


async def test_the_last_platform_key_stays(api: Served) -> None:
    (only,) = (await api.http.get("/v1/namespaces/*/keys")).json()["items"]
    kept = await api.http.delete(f"/v1/namespaces/*/keys/{only['id']}")
    assert (kept.status_code, kept.json()["code"]) == (409, "conflict")


async def test_secrets_are_named_never_shown(api: Served) -> None:
    await api.http.post("/v1/namespaces", json={"name": "team-a"})
    base = "/v1/namespaces/team-a/secrets"
    assert (await api.http.put(f"{base}/DB_PASSWORD", json={"value": "hunter2"})).status_code == 204
    listed = await api.http.get(base)
    assert listed.json() == {"items": [{"name": "DB_PASSWORD"}], "next": None}
    audit = await api.http.get("/v1/audit", params={"namespace": "team-a"})
    assert "hunter2" not in listed.text + audit.text
    assert (await api.http.delete(f"{base}/DB_PASSWORD")).status_code == 204
    assert (await api.http.delete(f"{base}/DB_PASSWORD")).status_code == 404


async def test_every_change_is_audited_with_its_source(api: Served) -> None:
    await api.http.post("/v1/namespaces", json={"name": "team-a"})
    await api.http.put("/v1/namespaces/team-a/secrets/s1", json={"value": "x"})
    entries = (await api.http.get("/v1/audit", params={"namespace": "team-a"})).json()["items"]
    assert [(entry["action"], entry["target"], entry["source"]) for entry in entries] == [
        ("namespace.create", "team-a", "127.0.0.1"),
        ("secret.put", "s1", "127.0.0.1"),
    ]
    first = (await api.http.get("/v1/audit", params={"namespace": "team-a", "limit": 1})).json()
    rest = await api.http.get("/v1/audit", params={"namespace": "team-a", "after": first["next"]})
    assert rest.json()["items"] == entries[1:]


async def test_roles_bound_what_a_key_may_do(api: Served) -> None:
    await api.http.post("/v1/namespaces", json={"name": "team-a"})
    allowed = {
        ("GET", ""): {"admin", "developer", "viewer"},
        ("GET", "/secrets"): {"admin", "developer", "viewer"},
        ("PUT", "/secrets/s1"): {"admin", "developer"},
        ("GET", "/keys"): {"admin"},
        ("PUT", "/quotas"): set(),
    }
    for role in ("admin", "developer", "viewer", "invoker"):
        headers = bearer(await api.token("team-a", role))
        for (method, path), roles in allowed.items():
            body = {"value": "v"} if path == "/secrets/s1" else {} if method == "PUT" else None
            answer = await api.http.request(method, f"/v1/namespaces/team-a{path}", json=body, headers=headers)
            assert (answer.status_code == 403) == (role not in roles), (role, method, path, answer.text)


async def test_without_a_key_only_health_is_served(api: Served) -> None:
    async with httpx.AsyncClient(base_url=api.url, trust_env=False, verify=False) as stranger:
        for path in ("/healthz", "/readyz", "/metrics", "/v1/openapi.json"):
            assert (await stranger.get(path)).status_code == 200, path
        for path in ("/v1/info", "/v1/status", "/v1/namespaces", "/v1/audit", "/v1/namespaces/default/functions"):
            answer = await stranger.get(path)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), path
