"""Metrics and status."""

from __future__ import annotations

from typing import Literal

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fuyun.domain.invocations import Invocation, Waterfall
from fuyun.services.gauges import Gauges, PoolGauge, S3Traffic, StartBudget
from fuyun.services.measures import BUCKETS_S
from tests.transports.api.serving import Served, bearer

pytestmark = pytest.mark.anyio


def ended(duration_ms: float, start: Literal["warm", "blank"], status: Literal["ok", "error"] = "ok") -> Invocation:
    """A record to count."""
    return Invocation(
        id="0", at_s=0.0, namespace="default", function="hello", version=1, status=status, start_kind=start,
        waterfall=Waterfall(), duration_ms=duration_ms, billed_gb_s=0.25,
    )  # fmt: skip


async def scrape(api: Served) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by name and labels; a name and its labels stand once."""
    answer = await api.http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families(answer.text):
        assert family.documentation, family.name
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, key
            found[key] = sample.value
    return found


def labels(**named: str) -> frozenset[tuple[str, str]]:
    """Labels of `hello`."""
    return frozenset({"namespace": "default", "function": "hello", **named}.items())


async def test_what_ran_is_counted(api: Served) -> None:
    for item in (ended(0.4, "warm"), ended(0.6, "warm"), ended(30.0, "blank"), ended(2.0, "warm", "error")):
        tally = api.measures.tally(item.namespace, item.function)
        tally.count(item.status, item.start_kind, item.duration_ms / 1000, item.billed_gb_s)
    found = await scrape(api)
    assert found["fuyun_invocations_total", labels(status="ok", start="warm")] == 2
    assert found["fuyun_invocations_total", labels(status="error", start="warm")] == 1
    assert found["fuyun_cold_starts_total", labels(start="blank")] == 1
    assert found["fuyun_billed_gb_seconds_total", labels()] == 1.0
    name = "fuyun_invocation_duration_seconds"
    assert found[f"{name}_count", labels()] == 4
    assert found[f"{name}_sum", labels()] == pytest.approx(0.033)
    counts = [found[f"{name}_bucket", labels(le=le)] for le in ("0.0005", "0.001", "0.025", "0.05", "+Inf")]
    assert counts == [1, 2, 3, 4, 4]
    assert len([key for key in found if key[0] == f"{name}_bucket"]) == len(BUCKETS_S) + 1
    await api.deploy("hello")
    await api.http.delete("/v1/namespaces/default/functions/hello")
    assert not [key for key in await scrape(api) if ("function", "hello") in key[1]]


async def test_what_is_now_is_gauged(api: Served) -> None:
    draft = {"namespace": "default", "function": "hello", "version": "$LATEST"}
    api.gauges = Gauges(
        pools=(
            PoolGauge(**draft, states={"ready": 1}, queue=2, inflight=1),
            PoolGauge(**draft, states={"ready": 2, "busy": 1}, queue=0, inflight=1),
        ),
        gateway_connections=7,
        records_dropped=3,
        network_refused={("default", "hello", "tcp"): 5},
        budget=StartBudget(limit_bytes=4096, held_bytes=1024, evicted={"template": 2, "zygote": 1}),
        s3=S3Traffic(operations={"put": 3}, received_bytes=20, sent_bytes=10),
    )
    found = await scrape(api)
    assert found["fuyun_instances", labels(version="$LATEST", state="ready")] == 3
    assert found["fuyun_instances", labels(version="$LATEST", state="busy")] == 1
    assert found["fuyun_instances", labels(version="$LATEST", state="starting")] == 0
    assert found["fuyun_queue_length", labels(version="$LATEST")] == 2
    assert found["fuyun_inflight", labels(version="$LATEST")] == 2
    assert found["fuyun_gateway_connections", frozenset()] == 7
    assert found["fuyun_records_dropped_total", frozenset()] == 3
    refused = frozenset({("namespace", "default"), ("function", "hello"), ("protocol", "tcp")})
    assert found["fuyun_network_refused_total", refused] == 5
    assert found["fuyun_evictions_total", frozenset({("kind", "template")})] == 2
    assert found["fuyun_evictions_total", frozenset({("kind", "zygote")})] == 1
    assert found["fuyun_start_memory_bytes", frozenset()] == 1024
    assert found["fuyun_start_memory_limit_bytes", frozenset()] == 4096
    assert found["fuyun_s3_operations_total", frozenset({("operation", "put")})] == 3
    assert found["fuyun_s3_received_bytes_total", frozenset()] == 20
    assert found["fuyun_s3_sent_bytes_total", frozenset()] == 10
    assert found["process_resident_memory_bytes", frozenset()] > 1e6


async def test_a_tenant_reads_its_own_and_a_stranger_none(api: Served) -> None:
    await api.http.post("/v1/namespaces", json={"name": "team-a"})
    for name in ("default", "team-a"):
        api.measures.tally(name, "hello").count("ok", "blank", 0.1, 0.1)
    pools = [PoolGauge(namespace=name, function="f", version="1", states={}, queue=0) for name in ("default", "team-a")]
    refusals = {(name, "hello", "tcp"): 1 for name in ("default", "team-a")}
    api.gauges = Gauges(pools=tuple(pools), network_refused=refusals)

    async def shown(headers: dict[str, str]) -> dict[str, set[str]]:
        """Namespaces by the families that have them, of a caller with only these headers."""
        async with httpx.AsyncClient(base_url=api.url, trust_env=False) as stranger:
            answer = await stranger.get("/metrics", headers=headers)
        assert answer.status_code == 200
        assert "fuyun_build_info" in answer.text
        families = text_string_to_metric_families(answer.text)
        found = {f.name: {s.labels["namespace"] for s in f.samples if "namespace" in s.labels} for f in families}
        return {name: namespaces for name, namespaces in found.items() if namespaces}

    assert await shown({}) == {}
    every = {
        *("fuyun_invocations", "fuyun_cold_starts", "fuyun_billed_gb_seconds", "fuyun_invocation_duration_seconds"),
        *("fuyun_instances", "fuyun_queue_length", "fuyun_inflight", "fuyun_network_refused"),
    }
    assert await shown(bearer(await api.token("team-a", "viewer"))) == {name: {"team-a"} for name in every}
    assert await shown(dict(api.http.headers)) == {name: {"default", "team-a"} for name in every}
    refused = await api.http.get("/metrics", headers=bearer(await api.token("team-a", "invoker")))
    unknown = await api.http.get("/metrics", headers=bearer("fk_none_1"))
    assert (refused.status_code, unknown.status_code) == (403, 401)


async def test_status_shows_a_tenant_its_own(api: Served) -> None:
    await api.http.post("/v1/namespaces", json={"name": "team-a"})
    pools = [PoolGauge(namespace=name, function="f", version="1", states={}, queue=0) for name in ("default", "team-a")]
    api.gauges = Gauges(pools=tuple(pools))
    (node,) = (await api.http.get("/v1/status")).json()["nodes"]
    assert (node["state"], node["host"]["zygotes"][0]["pid"]) == ("ready", 42)
    assert [pool["namespace"] for pool in node["pools"]] == ["default", "team-a"]
    mine = bearer(await api.token("team-a", "viewer"))
    (node,) = (await api.http.get("/v1/status", headers=mine)).json()["nodes"]
    assert (node["host"], [pool["namespace"] for pool in node["pools"]]) == ({}, ["team-a"])
