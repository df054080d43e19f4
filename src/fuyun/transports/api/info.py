"""The platform itself: what it is, how its nodes are, and this document."""

from __future__ import annotations

import functools
import sys
from typing import Any

import fuyun
from fuyun.domain.functions import Wire
from fuyun.domain.names import LATEST
from fuyun.domain.runtimes import RUNTIMES
from fuyun.services.gauges import PoolGauge, merged
from fuyun.transports.api.calls import Answer, Call
from fuyun.transports.api.openapi import document
from fuyun.transports.api.table import ANY_KEY, OPEN, Endpoint, Success


class Info(Wire, frozen=True, kw_only=True):
    """What this platform is and what this key is."""

    version: str
    python: str
    runtimes: tuple[str, ...]
    gateway: str = ""  # base address of functions
    s3: str = ""  # address of S3
    namespace: str  # of the key; "*" is the platform's own
    role: str


class PoolStatus(Wire, frozen=True, kw_only=True):
    """The instances of one version on a node, and what waits for them."""

    namespace: str
    function: str
    version: str
    instances: dict[str, int]  # state -> number
    queue: int
    inflight: int


class NodeStatus(Wire, frozen=True, kw_only=True):
    """One node. `host` (zygotes, blanks, templates, spares, instances, with pids and memory) is shown to platform keys
    only."""

    name: str
    state: str  # "ready", or why it is not
    version: str
    pools: list[PoolStatus]
    host: dict[str, Any]


class Status(Wire, frozen=True, kw_only=True):
    """All nodes, as far as this key may see them."""

    nodes: list[NodeStatus]


async def _info(call: Call) -> Answer:
    return Answer(
        Info(
            version=fuyun.__version__,
            python=sys.version.split()[0],
            runtimes=RUNTIMES,
            gateway=call.services.gateway_url(),
            s3=call.services.s3_url(),
            namespace=call.principal.namespace,
            role=call.principal.role,
        )
    )


async def _status(call: Call) -> Answer:
    services = call.services
    whole = call.principal.may("read", "*")
    pools = [_pool(gauge) for gauge in merged(services.gauges().pools) if call.principal.may("read", gauge.namespace)]
    reason = "stopping" if call.life.closing else services.unready()
    node = NodeStatus(
        name=services.node,
        state=reason or "ready",
        version=fuyun.__version__,
        pools=pools,
        host=await services.inventory() if whole else {},
    )
    return Answer(Status(nodes=[node]))


def _pool(gauge: PoolGauge) -> PoolStatus:
    return PoolStatus(
        namespace=gauge.namespace,
        function=gauge.function,
        version=gauge.version or LATEST,
        instances=gauge.states,
        queue=gauge.queue,
        inflight=gauge.inflight,
    )


async def _openapi(call: Call) -> Answer:
    return Answer(_document())


@functools.cache
def _document() -> dict[str, Any]:
    from fuyun.transports.api.app import ENDPOINTS as SERVED

    return document(SERVED)


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/info",
        run=_info,
        summary="What this platform and this key are",
        permission=ANY_KEY,
        tag="platform",
        successes=(Success(body=Info),),
    ),
    Endpoint(
        method="GET",
        path="/v1/status",
        run=_status,
        summary="Nodes with their pools, and to platform keys their zygotes, blanks, templates, spares and instances",
        permission=ANY_KEY,
        tag="platform",
        successes=(Success(body=Status),),
    ),
    Endpoint(
        method="GET",
        path="/v1/openapi.json",
        run=_openapi,
        summary="This document",
        permission=OPEN,
        tag="platform",
        successes=(Success(body=dict[str, Any]),),
    ),
)
