"""What this node holds ready, what it costs in memory and what it saves in time; and how a version would start."""

from __future__ import annotations

from typing import Any

import msgspec

import fuyun
from fuyun.domain.errors import NotFound
from fuyun.domain.functions import Wire
from fuyun.ports.instances import StartPlan
from fuyun.transports.api.calls import Answer, Call
from fuyun.transports.api.table import Endpoint, Success, in_namespace, on_platform
from fuyun.transports.api.versions import number_of

_KINDS = ("zygote", "blank", "template", "spare", "instance")


class NodeProcess(Wire, frozen=True, kw_only=True):
    """One process. Memory in bytes, from smaps_rollup (proc(5)); 0 where it could not be read."""

    kind: str  # platform, warden, zygote, blank, template, spare or instance
    pid: int
    id: str = ""
    version: str = ""  # namespace/function@number; of a zygote its interpreter, and whose layers it has
    serves: list[str] = []  # of a zygote of layers: the versions that start from it, and those of what it has forked
    start: str = ""  # rung that an instance came from
    inflight: int = 0
    rss_bytes: int = 0
    pss_bytes: int = 0
    private_bytes: int = 0
    took_ms: float | None = None  # what a start from it takes; of an instance what its own took
    saved_ms: float | None = None  # against the rung below; null where that was not measured
    reason: str = ""  # why its version has no template


class Budget(Wire, frozen=True, kw_only=True):
    """The memory in bytes that templates and zygotes of layers may hold and do, and how many were evicted since the
    platform started, by kind."""

    limit_bytes: int = 0
    held_bytes: int = 0
    evicted: dict[str, int] = {}


class Node(Wire, frozen=True, kw_only=True):
    """One node and all its processes, those that instances come from before the instances."""

    name: str
    version: str
    budget: Budget
    processes: list[NodeProcess]


async def _node(call: Call) -> Answer:
    found = await call.services.inventory()
    rows = [{**found[kind], "kind": kind} for kind in ("platform", "warden") if kind in found]
    rows += [row for kind in _KINDS for row in found.get(f"{kind}s", ())]
    processes = [_process(row) for row in rows]
    budget = msgspec.convert(found.get("budget", {}), Budget)
    return Answer(Node(name=call.services.node, version=fuyun.__version__, budget=budget, processes=processes))


def _process(row: dict[str, Any]) -> NodeProcess:
    known = {name: value for name, value in row.items() if name in NodeProcess.__struct_fields__}
    return msgspec.convert(known, NodeProcess)


async def _start(call: Call) -> Answer:
    version = await call.services.functions.get_version(
        call.namespace, call.function, number_of(call.params["version"])
    )
    return Answer(call.services.plan_of(version))


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/node",
        run=_node,
        summary="Zygotes, blanks, templates, spares and instances, their memory and what each saves",
        permission=on_platform("read"),
        tag="platform",
        successes=(Success(body=Node),),
    ),
    Endpoint(
        method="GET",
        path="/v1/namespaces/{namespace}/functions/{function}/versions/{version}/start",
        run=_start,
        summary="How the next instance of a version would start on this node, and why",
        permission=in_namespace("read"),
        tag="versions",
        successes=(Success(body=StartPlan),),
        errors=(NotFound,),
    ),
)
