"""Archives, deployments, versions and aliases over HTTP."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from fuyun.domain.errors import FunctionLoadFailed
from fuyun.transports.api.app import Limits
from tests.running import archive
from tests.transports.api.serving import Served, bearer, served

pytestmark = pytest.mark.anyio

BASE = "/v1/namespaces/default/functions"


async def lines_of(api: Served, name: str, **rest: Any) -> list[dict[str, Any]]:
    """The lines of a deployment that is watched."""
    code = archive({"handler.py": "handler = print"})
    stored = await api.http.post(
        "/v1/namespaces/default/archives", content=code, headers={"content-type": "application/zip"}
    )
    body = {"spec": {}, "code": stored.json()["digest"], **rest}
    headers = {"accept": "application/x-ndjson"}
    async with api.http.stream("PUT", f"{BASE}/{name}", json=body, headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/x-ndjson"
        return [json.loads(line) async for line in answer.aiter_lines()]


async def test_a_deployed_function_is_read_and_deleted(api: Served) -> None:
    deployed = await api.deploy("hello", description="first")
    assert (deployed.status_code, deployed.json()["number"]) == (200, 1)
    read = await api.http.get(f"{BASE}/hello")
    assert (read.json()["name"], read.json()["last_version"]) == ("hello", 1)
    assert [item["name"] for item in (await api.http.get(BASE)).json()["items"]] == ["hello"]
    assert (await api.http.delete(f"{BASE}/hello")).status_code == 204
    gone = await api.http.get(f"{BASE}/hello")
    assert (gone.status_code, gone.json()["code"]) == (404, "not_found")
    assert (await api.http.delete(f"{BASE}/hello")).status_code == 404
    entries = (await api.http.get("/v1/audit?namespace=default")).json()["items"]
    actions = [(entry["action"], entry["target"], entry["source"]) for entry in entries]
    assert actions == [(f"function.{action}", "hello", "127.0.0.1") for action in ("deploy", "publish", "delete")]


async def test_a_deployment_is_watched_line_by_line(api: Served) -> None:
    *progress, last = await lines_of(api, "hello", requirements="pillow")
    assert all(line.keys() == {"progress"} for line in progress)
    assert "dependencies: resolving" in [line["progress"] for line in progress]
    assert last["version"]["function"] == "hello"


async def test_a_watched_deployment_that_fails_ends_with_the_problem(api: Served) -> None:
    last = (await lines_of(api, "hello", requirements="missing"))[-1]
    assert (last["problem"]["code"], last["problem"]["log"]) == ("build_failed", ["ERROR: missing"])
    plain = await api.deploy("hello", requirements="missing")
    assert (plain.status_code, plain.json()["code"]) == (422, "build_failed")
    assert (await api.http.get(f"{BASE}/hello")).status_code == 404


async def test_a_version_that_does_not_load_leaves_the_old_one(api: Served) -> None:
    await api.deploy("hello")
    api.host.failing["hello"] = FunctionLoadFailed("SyntaxError: invalid syntax", error_type="SyntaxError")
    failed = await api.deploy("hello", spec={"timeout_s": 5})
    assert (failed.status_code, failed.json()["error_type"]) == (502, "SyntaxError")
    versions = (await api.http.get(f"{BASE}/hello/versions")).json()["items"]
    assert [(version["number"], version["spec"]["timeout_s"]) for version in versions] == [(0, 30.0), (1, 30.0)]


async def test_a_deployment_goes_on_when_its_watcher_leaves(api: Served) -> None:
    entered, release = asyncio.Event(), asyncio.Event()
    prepare = api.host.prepare

    async def slow(*args: Any) -> Any:
        entered.set()
        await release.wait()
        return await prepare(*args)

    api.host.prepare = slow  # type: ignore[method-assign]
    watching = asyncio.ensure_future(lines_of(api, "hello"))
    await entered.wait()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    release.set()
    async with asyncio.timeout(5):
        while (await api.http.get(f"{BASE}/hello")).status_code == 404:
            pass


@pytest.mark.parametrize(
    ("spec", "path"),
    [({"memory_bytes": 1}, "memory_bytes"), ({"runtime": "cobol"}, "runtime"), ({"memry": 1}, "spec.memry")],
)
async def test_a_spec_that_breaks_a_rule(api: Served, spec: dict[str, Any], path: str) -> None:
    answer = await api.deploy("hello", spec=spec)
    assert (answer.status_code, answer.json()["path"]) == (400, path)


async def test_archives_are_bounded_and_must_be_zip(tmp_path: Path) -> None:
    async with served(tmp_path, Limits(upload_bytes=1000)) as api:
        url, zipped = "/v1/namespaces/default/archives", {"content-type": "application/zip"}

        async def endless() -> Any:
            for _ in range(1000):
                yield b"x" * 1000

        big = await api.http.post(url, content=endless(), headers=zipped)
        assert (big.status_code, big.json()["limit_bytes"]) == (413, 1000)
        no_zip = await api.http.post(url, content=b"hello", headers=zipped)
        assert (no_zip.status_code, no_zip.json()["code"]) == (400, "bad_request")
        other = await api.http.post(url, content=b"hello", headers={"content-type": "text/plain"})
        assert other.status_code == 415


async def test_versions_are_published_once_and_paged(api: Served) -> None:
    await api.deploy("hello", publish=False)
    assert (await api.http.post(f"{BASE}/hello/versions", json={"description": "one"})).json()["number"] == 1
    assert (await api.http.post(f"{BASE}/hello/versions", json={"description": "again"})).json()["number"] == 1
    for timeout_s in (5, 6):
        await api.deploy("hello", spec={"timeout_s": timeout_s})
    page = (await api.http.get(f"{BASE}/hello/versions?limit=2")).json()
    assert [version["number"] for version in page["items"]] == [0, 1]
    rest = (await api.http.get(f"{BASE}/hello/versions", params={"limit": 2, "after": page["next"]})).json()
    assert ([version["number"] for version in rest["items"]], rest["next"]) == ([2, 3], None)
    for name, number in (("$LATEST", 0), ("2", 2)):
        assert (await api.http.get(f"{BASE}/hello/versions/{name}")).json()["number"] == number
    assert (await api.http.get(f"{BASE}/hello/versions/9")).status_code == 404


async def put_alias(api: Served, version: int, **headers: str) -> httpx.Response:
    """Point `live` at one version."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"weights": [{"version": version, "weight": 100}]}
    return await api.http.put(f"{BASE}/hello/aliases/live", json=body, headers=named)


async def test_an_alias_moves_by_compare_and_set(api: Served) -> None:
    await api.deploy("hello")
    await api.deploy("hello", spec={"timeout_s": 5})
    assert (await put_alias(api, 1, if_match='"1"')).status_code == 412
    made = await put_alias(api, 1, if_none_match="*")
    assert (made.status_code, made.headers["etag"]) == (200, '"1"')
    assert (await put_alias(api, 1, if_none_match="*")).status_code == 412
    moved = await put_alias(api, 2, if_match=made.headers["etag"])
    assert (moved.status_code, moved.headers["etag"]) == (200, '"2"')
    late = await put_alias(api, 1, if_match=made.headers["etag"])
    assert (late.status_code, late.json()["code"], late.json()["etag"]) == (412, "precondition_failed", '"2"')
    assert (await put_alias(api, 1, if_match='W/"2"')).status_code == 412
    assert (await put_alias(api, 1, if_match="2")).status_code == 400
    assert (await put_alias(api, 1, if_match='"9", "2"')).status_code == 200


async def test_racing_moves_let_one_through(api: Served) -> None:
    await api.deploy("hello")
    etag = (await put_alias(api, 1)).headers["etag"]
    answers = await asyncio.gather(*(put_alias(api, 0, if_match=etag) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 7


async def test_a_delete_races_with_moves(api: Served) -> None:
    """Whoever read the alias first and acts last is told so: an alias that was moved meanwhile is not deleted."""
    await api.deploy("hello")
    etag = (await put_alias(api, 1)).headers["etag"]
    url = f"{BASE}/hello/aliases/live"
    writes = [put_alias(api, 0, if_match=etag), *(api.http.delete(url, headers={"if-match": etag}) for _ in range(4))]
    answers = sorted(answer.status_code for answer in await asyncio.gather(*writes))
    assert answers[1:] == [412] * 4
    assert answers[0] in (200, 204)


async def test_an_alias_is_read_rolled_back_and_deleted(api: Served) -> None:
    await api.deploy("hello")
    await api.deploy("hello", spec={"timeout_s": 5})
    url = f"{BASE}/hello/aliases/live"
    await put_alias(api, 1)
    nothing = await api.http.post(f"{url}/rollback")
    assert (nothing.status_code, nothing.json()["code"]) == (409, "conflict")
    await put_alias(api, 2)
    read = await api.http.get(url)
    assert (read.json()["previous"], read.headers["etag"]) == ([{"version": 1, "weight": 100.0}], '"2"')
    assert (await api.http.get(url, headers={"if-none-match": '"2"'})).status_code == 304
    assert (await api.http.post(f"{url}/rollback", headers={"if-match": '"1"'})).status_code == 412
    back = await api.http.post(f"{url}/rollback", headers={"if-match": '"2"'})
    assert (back.json()["weights"], back.headers["etag"]) == ([{"version": 1, "weight": 100.0}], '"3"')
    assert (await api.http.get(f"{BASE}/hello/aliases")).json()["items"] == [back.json()]
    assert (await api.http.delete(url, headers={"if-match": '"2"'})).status_code == 412
    assert (await api.http.delete(url, headers={"if-match": '"3"'})).status_code == 204
    assert (await api.http.get(url)).status_code == 404
    assert (await api.http.delete(url)).status_code == 404
    assert (await api.http.delete(url, headers={"if-match": '"3"'})).status_code == 412


@pytest.mark.parametrize("weights", [[], [(1, 50)], [(10**30, 100)], [(7, 100)], [(-1, 100)], [(1, 50), (1, 50)]])
async def test_an_alias_needs_versions_that_exist_and_sum_up(api: Served, weights: list[tuple[int, int]]) -> None:
    await api.deploy("hello")
    body = {"weights": [{"version": version, "weight": weight} for version, weight in weights]}
    answer = await api.http.put(f"{BASE}/hello/aliases/live", json=body)
    assert answer.status_code in (400, 404), answer.text


async def test_nothing_of_one_namespace_is_seen_from_another(api: Served) -> None:
    """Each request of tenant b on tenant a gets the same answer, word for word, whether the thing exists or not."""
    for name in ("team-a", "team-b"):
        await api.http.post("/v1/namespaces", json={"name": name})
    await api.deploy("hello", "team-a", alias="live")
    await api.http.put("/v1/namespaces/team-a/secrets/s1", json={"value": "v"})
    key = (await api.http.post("/v1/namespaces/team-a/keys", json={"role": "admin"})).json()["key"]["id"]
    mine = bearer(await api.token("team-b"))
    requests = [
        ("GET", ""), ("DELETE", ""), ("PUT", "/quotas"), ("GET", "/keys"), ("POST", "/keys"), ("GET", "/secrets"),
        ("PUT", "/secrets/s1"), ("DELETE", "/secrets/s1"), ("POST", "/archives"), ("GET", "/functions"),
        ("GET", "/functions/hello"), ("PUT", "/functions/hello"), ("DELETE", "/functions/hello"),
        ("GET", "/functions/hello/versions"), ("POST", "/functions/hello/versions"),
        ("GET", "/functions/hello/versions/1"),
        ("GET", "/functions/hello/aliases"), ("GET", "/functions/hello/aliases/live"), ("GET", "/functions/hello/logs"),
        ("PUT", "/functions/hello/aliases/live"), ("DELETE", "/functions/hello/aliases/live"),
        ("POST", "/functions/hello/aliases/live/rollback"), ("POST", "/functions/hello/invoke"),
        ("GET", "/functions/hello/invocations"), ("GET", f"/functions/hello/invocations/{'0' * 32}"),
        ("DELETE", f"/keys/{key}"),
    ]  # fmt: skip
    for method, path in requests:
        told = []
        for namespace in ("team-a", "no-such"):
            answer = await api.http.request(method, f"/v1/namespaces/{namespace}{path}", headers=mine, json={})
            problem = answer.json()
            del problem["request_id"]
            told.append(json.dumps(problem).replace(namespace, "X"))
            assert answer.status_code == 403, (method, path, answer.text)
        assert told[0] == told[1], (method, path)
    assert [item["name"] for item in (await api.http.get("/v1/namespaces", headers=mine)).json()["items"]] == ["team-b"]
    assert (await api.http.get("/v1/audit?namespace=team-a", headers=mine)).status_code == 403
    assert (await api.http.get("/v1/audit?namespace=*", headers=mine)).status_code == 403
    assert "team-a" not in (await api.http.get("/v1/audit", headers=mine)).text
    assert (await api.http.post("/v1/namespaces", json={"name": "team-c"}, headers=mine)).status_code == 403


async def test_a_key_of_one_namespace_cannot_be_revoked_through_another(api: Served) -> None:
    for name in ("team-a", "team-b"):
        await api.http.post("/v1/namespaces", json={"name": name})
    key = (await api.http.post("/v1/namespaces/team-a/keys", json={"role": "admin"})).json()["key"]["id"]
    mine = bearer(await api.token("team-b"))
    for id_ in (key, "0" * 12):
        assert (await api.http.delete(f"/v1/namespaces/team-b/keys/{id_}", headers=mine)).status_code == 404
    assert (await api.http.delete("/v1/namespaces/*/keys/" + key, headers=mine)).status_code == 403


async def test_code_of_one_namespace_is_no_proof_in_another(api: Served) -> None:
    await api.http.post("/v1/namespaces", json={"name": "team-b"})
    await api.deploy("hello")
    listed = await api.http.get("/v1/namespaces/team-b/functions", headers=bearer(await api.token("team-b")))
    assert listed.json() == {"items": [], "next": None}
