"""The node over HTTP."""

from __future__ import annotations

import pytest

from tests.transports.api.serving import Served, bearer

pytestmark = pytest.mark.anyio


async def test_platform_keys_see_every_process(api: Served) -> None:
    found = (await api.http.get("/v1/node")).json()
    assert [(row["kind"], row["pid"]) for row in found["processes"]] == [("platform", 1), ("zygote", 42)]
    zygote = found["processes"][1]
    assert (zygote["version"], zygote["pss_bytes"], zygote["took_ms"], zygote["saved_ms"]) == (
        "python3.11", 2**20, 1.5, 20.0,
    )  # fmt: skip
    refused = await api.http.get("/v1/node", headers=bearer(await api.token("default")))
    assert refused.status_code == 403


async def test_how_a_version_starts_is_told_to_its_namespace(api: Served) -> None:
    await api.deploy("hello", spec={"start": "template"}, alias="live")
    base = "/v1/namespaces/default/functions/hello/versions"
    for version in ("1", "$LATEST"):
        found = await api.http.get(f"{base}/{version}/start", headers=bearer(await api.token("default", "viewer")))
        assert found.json() == {"policy": "template", "rung": "blank", "reason": "a socket is open"}
    assert (await api.http.get(f"{base}/7/start")).status_code == 404
    await api.http.post("/v1/namespaces", json={"name": "acme"})
    other = bearer(await api.token("acme"))
    assert (await api.http.get(f"{base}/1/start", headers=other)).status_code == 403
