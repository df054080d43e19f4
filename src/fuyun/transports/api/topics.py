"""Topics and their subscriptions."""

from __future__ import annotations

from typing import Annotated

import msgspec

from fuyun.domain.errors import NotFound, PayloadTooLarge, QuotaExceeded, StorageFull
from fuyun.domain.functions import Wire
from fuyun.domain.messages import NewMessages
from fuyun.domain.topics import Published, Subscription, SubscriptionSpec, Topic
from fuyun.transports.api.calls import Answer, Call, Page, PageQuery, paged
from fuyun.transports.api.queues import outgoing
from fuyun.transports.api.table import Endpoint, Success, in_namespace

_TOPIC = "/v1/namespaces/{namespace}/topics/{topic}"


class TopicSpec(Wire, frozen=True, kw_only=True):
    """What a topic says about itself."""

    description: Annotated[str, msgspec.Meta(max_length=1000)] = ""


async def _list(call: Call) -> Answer:
    query = call.query_as(PageQuery)
    found = await call.services.messaging.topics.list_topics(call.namespace, query.after, query.limit + 1)
    items = found[: query.limit]
    return Answer(Page(items=items, next=items[-1].name if len(found) > len(items) else None))


async def _put(call: Call) -> Answer:
    made = await call.services.messaging.topics.put_topic(
        call.principal, call.namespace, call.params["topic"], call.body_as(TopicSpec).description, call.source
    )
    return Answer(made)


async def _get(call: Call) -> Answer:
    return Answer(await call.services.messaging.topics.get_topic(call.namespace, call.params["topic"]))


async def _delete(call: Call) -> Answer:
    await call.services.messaging.topics.delete_topic(call.principal, call.namespace, call.params["topic"], call.source)
    return Answer(status=204)


async def _publish(call: Call) -> Answer:
    name = call.params["topic"]
    messages = outgoing(call, "topic", name, call.body_as(NewMessages).messages)
    return Answer(await call.services.messaging.topics.publish(call.namespace, name, messages))


async def _list_subscriptions(call: Call) -> Answer:
    found = await call.services.messaging.topics.list_subscriptions(call.namespace, call.params["topic"])
    return Answer(paged(found, lambda subscription: subscription.name, call.query_as(PageQuery)))


async def _subscribe(call: Call) -> Answer:
    made = await call.services.messaging.topics.subscribe(
        call.principal, call.namespace, call.params["topic"], call.params["subscription"],
        call.body_as(SubscriptionSpec), call.source,
    )  # fmt: skip
    return Answer(made)


async def _unsubscribe(call: Call) -> Answer:
    await call.services.messaging.topics.unsubscribe(
        call.principal, call.namespace, call.params["topic"], call.params["subscription"], call.source
    )
    return Answer(status=204)


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/namespaces/{namespace}/topics",
        run=_list,
        summary="Topics, by name",
        permission=in_namespace("read"),
        tag="topics",
        query=PageQuery,
        successes=(Success(body=Page[Topic]),),
        errors=(NotFound,),
    ),
    Endpoint(
        method="PUT",
        path=_TOPIC,
        run=_put,
        summary="Create a topic, or change its description",
        permission=in_namespace("deploy"),
        tag="topics",
        request=TopicSpec,
        successes=(Success(body=Topic),),
        errors=(NotFound, QuotaExceeded, StorageFull),
    ),
    Endpoint(
        method="GET",
        path=_TOPIC,
        run=_get,
        summary="A topic",
        permission=in_namespace("read"),
        tag="topics",
        successes=(Success(body=Topic),),
        errors=(NotFound,),
    ),
    Endpoint(
        method="DELETE",
        path=_TOPIC,
        run=_delete,
        summary="Delete a topic with its subscriptions",
        permission=in_namespace("delete"),
        tag="topics",
        successes=(Success(status=204, description="deleted"),),
        errors=(NotFound, StorageFull),
    ),
    Endpoint(
        method="POST",
        path=_TOPIC + "/publish",
        run=_publish,
        summary="Hand messages on to every subscription; they are on disk when this is answered",
        permission=in_namespace("send"),
        tag="topics",
        request=NewMessages,
        successes=(Success(body=Published),),
        errors=(NotFound, PayloadTooLarge, QuotaExceeded, StorageFull),
    ),
    Endpoint(
        method="GET",
        path=_TOPIC + "/subscriptions",
        run=_list_subscriptions,
        summary="Subscriptions of a topic, by name",
        permission=in_namespace("read"),
        tag="topics",
        query=PageQuery,
        successes=(Success(body=Page[Subscription]),),
        errors=(NotFound,),
    ),
    Endpoint(
        method="PUT",
        path=_TOPIC + "/subscriptions/{subscription}",
        run=_subscribe,
        summary="Subscribe a queue, a function or another target, or replace the subscription",
        permission=in_namespace("deploy"),
        tag="topics",
        request=SubscriptionSpec,
        successes=(Success(body=Subscription),),
        errors=(NotFound, QuotaExceeded, StorageFull),
    ),
    Endpoint(
        method="DELETE",
        path=_TOPIC + "/subscriptions/{subscription}",
        run=_unsubscribe,
        summary="End a subscription",
        permission=in_namespace("deploy"),
        tag="topics",
        successes=(Success(status=204, description="ended"),),
        errors=(NotFound, StorageFull),
    ),
)
