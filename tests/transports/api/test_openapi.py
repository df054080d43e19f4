"""The document and the API do not differ: Schemathesis sends what the document allows and what it forbids to every
operation, and refuses any 5xx, undocumented status, media type, header or body."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.from_thread
import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from fuyun.domain.errors import FunctionRaised, Throttled
from fuyun.transports.api.app import ENDPOINTS, Limits
from fuyun.transports.api.openapi import document
from fuyun.transports.api.table import Endpoint
from tests.transports.api.invoker import echo, fails
from tests.transports.api.serving import Served, served

CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.unsupported_method,
    checks.allow_header_conformance,
]
#: What exists before each operation is tried, so that examples reach past "not found".
PRESENT = {
    "namespace": "default",
    "scope": "default",
    "function": "hello",
    "alias": "live",
    "version": "1",
    "secret": "s1",
    "layer": "fonts",
    "number": "1",
    "bus": "orders",
    "rule": "paid",
    "stream": "orders",
    "group": "billing",
    "table": "orders",
    "trigger": "timer",
    "delivery": "0" * 32,  # `furnish` puts the one that it made here
    "queue": "orders",
    "topic": "prices",
    "endpoint": "billing",
    "subscription": "audit",
    "bucket": "photos",
}


@dataclass(frozen=True)
class Target:
    """The served API, and the document it serves."""

    api: Served
    portal: anyio.from_thread.BlockingPortal
    told: dict[str, Any]
    schema: Any
    session: requests.Session


@contextmanager
def serving(root: Path) -> Iterator[Target]:
    """Serve in a thread of its own, so that a client that blocks can talk to it."""
    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(served(root, Limits(json_bytes=100_000, upload_bytes=100_000))) as api,
        requests.Session() as session,
    ):
        session.trust_env = False
        told = httpx.get(f"{api.url}/v1/openapi.json", trust_env=False, verify=False).json()
        yield Target(api, portal, told, schemathesis.openapi.from_dict(keyless(told)), session)


def keyless(told: dict[str, Any]) -> dict[str, Any]:
    """The document without its keys: examples differ in everything else, and all are sent with a good one."""
    plain: dict[str, Any] = json.loads(json.dumps(told))
    for operations in plain["paths"].values():
        for operation in operations.values():
            operation["security"] = []
    return plain


@schemathesis.serializer("application/zip", "*/*")
def send_as_it_is(context: Any, value: Any) -> Any:
    """An archive is sent as the bytes it is; what is no bytes, as JSON."""
    return value if isinstance(value, bytes) else json.dumps(value, default=str).encode()


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    """An API for the test."""
    with serving(tmp_path) as found:
        yield found


async def furnish(api: Served) -> None:
    """Make what `PRESENT` names."""
    never = {"triggers": [{"timer": {"at": "2999-01-01T00:00:00Z"}}]}
    assert (await api.deploy("hello", alias="live", spec=never)).status_code == 200
    invoke = "/v1/namespaces/default/functions/hello/invoke"
    later = {"fuyun-invocation-type": "async", "fuyun-delay": "1h", "fuyun-idempotency-key": "furnished"}
    accepted = await api.http.post(invoke, json={}, headers=later)
    assert accepted.status_code == 202
    PRESENT["delivery"] = accepted.json()["id"]
    await api.http.put("/v1/namespaces/default/secrets/s1", json={"value": "v"})
    assert (await api.publish_layer("fonts", {"a.txt": "a"})).status_code == 200
    bus = "/v1/namespaces/default/buses/orders"
    assert (await api.http.put(bus, json={"archive_s": 60})).status_code == 200
    assert (await api.http.put(f"{bus}/rules/paid", json={"target": "queue:ship"})).status_code == 200
    stream = "/v1/namespaces/default/streams/orders"
    assert (await api.http.put(stream, json={"versioned": True})).status_code == 200
    appended = await api.http.post(f"{stream}/records", json={"records": [{"key": "a", "data": 1}]})
    assert appended.status_code == 200
    assert (await api.http.put(f"{stream}/snapshot", json={"key": "a", "version": 1, "data": 1})).status_code == 200
    table = "/v1/namespaces/default/tables/orders"
    assert (await api.http.put(table, json={})).status_code == 200
    assert (await api.http.post(f"{table}/write", json={"changes": [{"put": {"id": "a"}}]})).status_code == 200
    assert (await api.http.post(f"{stream}/groups/billing/claim", json={})).status_code == 200
    base = "/v1/namespaces/default"
    for path, body in (
        ("queues/orders", {}), ("topics/prices", {}), ("topics/prices/subscriptions/audit", {"target": "queue:orders"}),
        ("endpoints/billing", {"url": "http://127.0.0.1:9/"}),
    ):  # fmt: skip
        assert (await api.http.put(f"{base}/{path}", json=body)).status_code == 200
    assert (await api.http.post(f"{base}/queues/orders/messages", json={"messages": [{"data": 1}]})).status_code == 200
    assert (await api.http.put(f"{base}/buckets/photos")).status_code in (200, 201, 204, 409)


@pytest.mark.slow_lane
@pytest.mark.timeout(300)
@pytest.mark.parametrize("tag", sorted({endpoint.tag for endpoint in ENDPOINTS}))
def test_operations_keep_to_the_document(target: Target, tag: str, subtests: pytest.Subtests) -> None:
    for endpoint in ENDPOINTS:
        if endpoint.tag == tag:
            target.portal.call(furnish, target.api)  # the last operation may have removed what this one names
            with subtests.test(endpoint.operation_id, data="valid"):
                fuzz(target, endpoint, GenerationMode.POSITIVE)
            if endpoint.names or endpoint.query or endpoint.request:
                with subtests.test(endpoint.operation_id, data="invalid"):
                    fuzz(target, endpoint, GenerationMode.NEGATIVE)


def fuzz(target: Target, endpoint: Endpoint, mode: GenerationMode) -> None:
    """Try one operation with examples made from the document."""
    operation = target.schema[endpoint.path][endpoint.method]
    headers = {"Authorization": f"Bearer {target.api.key}"}
    present = {name: PRESENT[name] for name in endpoint.names if name in PRESENT}
    cases = operation.as_strategy(generation_mode=mode)
    if mode is GenerationMode.POSITIVE and present:
        cases |= operation.as_strategy(generation_mode=mode, path_parameters=present)

    @settings(max_examples=5, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(cases)
    def keeps(case: schemathesis.Case) -> None:
        case.query.pop("wait_s", None)
        case.query.pop("follow", None)  # it would go on for ever; tests/transports/api/test_records.py follows
        case.call_and_validate(target.api.url, session=target.session, headers=headers, checks=CHECKS, timeout=20)

    keeps()


def test_without_a_key_every_guarded_operation_is_refused(target: Target) -> None:
    for endpoint in ENDPOINTS:
        if endpoint.permission.where == "open":
            continue
        path = endpoint.path.format_map({**PRESENT, "key": "a", "invocation": "0" * 32, "replay": "0" * 32})
        keyless = [{}] if endpoint.permission.where != "offered" else []
        for headers in (*keyless, {"Authorization": "Bearer fk_no_no"}, {"Authorization": "Basic eDp5"}):
            answer = target.session.request(endpoint.method, f"{target.api.url}{path}", headers=headers, json={})
            assert answer.status_code == 401, (endpoint.operation_id, headers)


def test_invoking_keeps_to_the_document_when_functions_fail(target: Target) -> None:
    target.portal.call(furnish, target.api)
    operation = target.schema["/v1/namespaces/{namespace}/functions/{function}/invoke"]["POST"]
    for behaviour in (
        fails(FunctionRaised("ValueError: no", traceback=["a"])),
        fails(Throttled("busy", retry_after_s=2)),
    ):
        target.api.invoker.behaviours["hello"] = behaviour
        case = operation.Case(path_parameters={"namespace": "default", "function": "hello"}, body={"a": 1})
        headers = {"Authorization": f"Bearer {target.api.key}", "Content-Type": "application/json"}
        wanted = [check for check in CHECKS if check is not not_a_server_error]
        case.call_and_validate(target.api.url, session=target.session, headers=headers, checks=wanted)
    target.api.invoker.behaviours["hello"] = echo


def test_the_served_document_is_the_printed_one(target: Target) -> None:
    printed = subprocess.run([sys.executable, "-m", "fuyun.transports.api.openapi"], capture_output=True, check=True)
    assert json.loads(printed.stdout) == target.told == json.loads(json.dumps(document(ENDPOINTS)))


def test_every_reference_resolves_and_every_component_is_used() -> None:
    text = json.dumps(document(ENDPOINTS))
    found = document(ENDPOINTS)["components"]["schemas"]
    for name in found:
        assert f'"#/components/schemas/{name}"' in text, name
    for reference in set(_references(document(ENDPOINTS))):
        assert reference.removeprefix("#/components/schemas/") in found, reference


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _references(child)
