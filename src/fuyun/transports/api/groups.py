"""Groups: how far each has read a stream, partition by partition."""

from __future__ import annotations

import msgspec

from fuyun.domain.errors import Conflict, NotFound, StorageFull
from fuyun.domain.flows import Claim, Commit, From
from fuyun.domain.streams import Cursor, position_of
from fuyun.domain.wire import Wire
from fuyun.transports.api.calls import Answer, Call
from fuyun.transports.api.streams import STREAM
from fuyun.transports.api.table import Endpoint, Success, in_namespace

_GROUP = STREAM + "/groups/{group}"


class GroupView(Wire, frozen=True, kw_only=True):
    """A group's cursors. `lag` is how many records are before it, `age_s` how old the next of them is (0: none)."""

    group: str
    cursors: list[Cursor]
    lag: int
    age_s: float


class Reset(Wire, frozen=True, kw_only=True):
    """Where the group goes to, in every partition."""

    to: From = msgspec.field(default="start", name="from")


async def _list(call: Call) -> Answer:
    found = await call.services.flows.streams.list_groups(call.namespace, call.params["stream"])
    return Answer([GroupView(group=one.group, cursors=one.cursors, lag=one.lag, age_s=one.age_s) for one in found])


async def _claim(call: Call) -> Answer:
    wanted = call.body_as(Claim)
    return Answer(
        await call.services.flows.streams.claim(
            call.namespace, call.params["stream"], call.params["group"], wanted.partition, wanted.owner,
            position_of(wanted.start),
        )
    )  # fmt: skip


async def _commit(call: Call) -> Answer:
    wanted = call.body_as(Commit)
    await call.services.flows.streams.commit(
        call.namespace, call.params["stream"], call.params["group"], wanted.partition, wanted.epoch, wanted.offset
    )
    return Answer(status=204)


async def _reset(call: Call) -> Answer:
    to = position_of(call.body_as(Reset).to)
    return Answer(
        await call.services.flows.streams.reset(
            call.principal, call.namespace, call.params["stream"], call.params["group"], to, call.source
        )
    )


async def _delete(call: Call) -> Answer:
    await call.services.flows.streams.delete_group(
        call.principal, call.namespace, call.params["stream"], call.params["group"], call.source
    )
    return Answer(status=204)


ENDPOINTS = (
    Endpoint(
        method="GET", path=STREAM + "/groups", run=_list, tag="streams",
        summary="Groups that read the stream, and how far they are", permission=in_namespace("read"),
        successes=(Success(body=list[GroupView]),), errors=(NotFound,),
    ),
    Endpoint(
        method="POST", path=_GROUP + "/claim", run=_claim, tag="streams",
        summary="Take over a partition for a group; who had it cannot commit any more",
        permission=in_namespace("receive"), request=Claim, successes=(Success(body=Cursor),),
        errors=(NotFound, StorageFull),
    ),
    Endpoint(
        method="POST", path=_GROUP + "/commit", run=_commit, tag="streams",
        summary="Move a claimed cursor", permission=in_namespace("receive"), request=Commit,
        successes=(Success(status=204, description="committed"),), errors=(NotFound, Conflict, StorageFull),
    ),
    Endpoint(
        method="POST", path=_GROUP + "/reset", run=_reset, tag="streams",
        summary="Put a group to a place in every partition, to read again from there",
        permission=in_namespace("deploy"), request=Reset, successes=(Success(body=list[Cursor]),),
        errors=(NotFound, StorageFull),
    ),
    Endpoint(
        method="DELETE", path=_GROUP, run=_delete, tag="streams", summary="Forget how far a group has read",
        permission=in_namespace("delete"), successes=(Success(status=204, description="deleted"),),
        errors=(NotFound, StorageFull),
    ),
)  # fmt: skip
