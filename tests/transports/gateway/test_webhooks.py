"""Webhooks at the gateway: real requests to a real socket, the routing table, and what is on the disk when they are
answered."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fuyun.base import clock
from fuyun.base.tasks import Scope
from fuyun.domain.deliveries import Delivery, Parcel
from fuyun.domain.errors import Conflict, NotFound, StorageFull
from fuyun.domain.events import structured
from fuyun.domain.functions import FunctionSpec
from fuyun.domain.triggers import Policy, Trigger
from fuyun.domain.webhooks import WebhookTrigger
from fuyun.drivers.deliveries.sql import SqlDeliveries
from fuyun.ports.deliveries import DeliveryQuery
from fuyun.services.accepting import Acceptor
from fuyun.services.routes import Route, RouteTable
from fuyun.services.triggers.bindings import Bindings
from fuyun.services.webhooks import Webhooks
from fuyun.testing.databases import InlineDatabase
from fuyun.transports.gateway.server import Gateway
from fuyun.transports.web.cloudevents import read_events
from tests.services.platforms import MemoryCatalog
from tests.transports.gateway.fakes import LAST, Answer, answers, authenticate, request, run, talk

KEY = {"old": "old-secret", "new": "new-secret", "std": "whsec_c2VjcmV0", "bad": "whsec_%"}
BODY = b'{"action": "opened",  "repository": {"full_name": "me/it"}, "n": 1}'


class Secrets:
    """What webhooks ask of `services.tenants.Tenants`."""

    async def reveal(self, namespace: str, names: Iterable[str]) -> dict[str, str]:
        assert namespace == "default"
        for name in names:
            if name not in KEY:
                raise NotFound(f"there is no secret {name!r}")
        return {name: KEY[name] for name in names}


class Table:
    """An invoker that only knows the routes: nothing here may begin a function."""

    def __init__(self, table: RouteTable) -> None:
        self.match = table.match
        self.resolve = table.resolve

    def begin(self, *_: Any) -> Any:
        raise AssertionError("a webhook's function is called by deliveries alone")


def hook(name: str, scheme: str = "github", policy: Policy | None = None, **fields: Any) -> Trigger:
    webhook = WebhookTrigger(**{"path": f"/{name}", "scheme": scheme, "secrets": ("old", "new"), **fields})
    return Trigger(name=name, webhook=webhook, policy=policy or Policy())


HOOKS = (
    hook("git"), hook("raw", raw=True), hook("token", "token", header="X-Token"), hook("bearer", "token"),
    hook("std", "standard", secrets=("std",)), hook("bad", "standard", secrets=("bad",)),
    hook("none", secrets=("absent",)), hook("live", alias="live"),
    hook("picky", policy=Policy(filter={"data.n": {"numeric": [">", 1]}}, max_attempts=7, dead_letter="queue:q")),
    hook("slack", "slack"),
)  # fmt: skip


class Hooked:
    """A gateway with a function that has webhooks."""

    def __init__(self, scope: Scope, table: RouteTable) -> None:
        self.database: Any = InlineDatabase()
        self.store = SqlDeliveries(self.database)
        self.acceptor = Acceptor(self.store, lambda namespace: 1000)
        self.bindings = Bindings(table)
        invoker: Any = Table(table)
        tenants: Any = Secrets()
        self.webhooks = Webhooks(invoker, self.acceptor, self.bindings, tenants, scope)
        self.webhooks.read_by(read_events)
        self.gateway = Gateway(invoker, authenticate, None, None, self.webhooks)
        self.port = 0

    async def ask(self, raw: bytes, method: str = "POST") -> Answer:
        (found,) = answers(await talk(self.port, raw), method)
        return found

    async def post(self, name: str, body: bytes = BODY, **fields: str) -> Answer:
        told = {"Content-Type": "application/json", **fields, **LAST}
        return await self.ask(request("POST", f"/{name}", body, **told))

    async def kept(self) -> list[tuple[Delivery, Parcel | None]]:
        found = await self.store.list_deliveries(DeliveryQuery(namespace="default"))
        return [await self.store.get("default", one.id) for one in found]


@asynccontextmanager
async def hooked(*triggers: Trigger) -> AsyncIterator[Hooked]:
    failed: list[BaseException] = []
    catalog = MemoryCatalog()
    catalog.put("f", 0, triggers=triggers or HOOKS)
    catalog.put("f", 1)
    catalog.alias("f", "live", {1: 100})
    table = RouteTable(catalog)  # type: ignore[arg-type]
    await table.open()
    async with Scope("test", failed.append) as scope:
        found = Hooked(scope, table)
        found.port = await found.gateway.start("127.0.0.1", 0)
        try:
            yield found
        finally:
            await found.gateway.drain(0.0)
            await found.acceptor.close()
            found.database.close()
    assert failed == []


def github(body: bytes = BODY, id_: str = "g-1", key: str = "new", event: str = "issues") -> dict[str, str]:
    digest = hmac.new(KEY[key].encode(), body, hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={digest}", "X-GitHub-Delivery": id_, "X-GitHub-Event": event}


def standard(body: bytes, at_s: float, id_: str = "msg_1") -> dict[str, str]:
    text = f"{id_}.{at_s:.0f}.".encode() + body
    digest = base64.b64encode(hmac.new(b"secret", text, hashlib.sha256).digest()).decode()
    return {"webhook-id": id_, "webhook-timestamp": f"{at_s:.0f}", "webhook-signature": f"v1,{digest}"}


def test_what_is_signed_is_on_the_disk_when_it_is_answered() -> None:
    async def main() -> None:
        async with hooked() as g:
            found = await g.post("git", **github())
            told = json.loads(found.body)
            assert (found.status, told["duplicate"]) == (202, False)
            ((delivery, parcel),) = await g.kept()
            assert (delivery.id, delivery.state, delivery.target) == (told["id"], "queued", "function:f")
            assert (delivery.origin, delivery.hops, delivery.trail) == ("trigger f/git", 1, "g-1")
            assert parcel is not None
            assert parcel.event is not None
            event = parcel.event
            assert (event.id, event.type, event.subject) == ("g-1", "com.github.issues.opened", "me/it")
            assert (event.source, event.data) == ("/default/webhook/f/git", BODY)
            assert json.loads(structured(event))["data"] == json.loads(BODY)
            assert g.webhooks.received == {("default", "f", "git", "accepted"): 1}
            (binding,) = [one for one in g.bindings.of("webhook") if one.name == "git"]
            last_s, next_s = g.webhooks.times(binding)
            assert last_s is not None
            assert next_s is None

    run(main)


def test_the_old_secret_and_the_new_one_both_sign() -> None:
    async def main() -> None:
        async with hooked() as g:
            for number, key in enumerate(("old", "new")):
                assert (await g.post("git", **github(id_=f"g-{number}", key=key))).status == 202
            assert len(await g.kept()) == 2

    run(main)


def test_what_is_posted_again_is_not_accepted_twice() -> None:
    async def main() -> None:
        async with hooked() as g:
            first = json.loads((await g.post("git", **github())).body)
            again = json.loads((await g.post("git", **github())).body)
            assert again == {"id": first["id"], "duplicate": True}
            assert json.loads((await g.post("live", **github())).body)["duplicate"] is False, "another trigger's"
            assert len(await g.kept()) == 2
            assert g.webhooks.received["default", "f", "git", "repeated"] == 1
            body = b'{"x": 1}'
            told = standard(body, clock.wall_s())
            assert [json.loads((await g.post("std", body, **told)).body)["duplicate"] for _ in range(2)] == [
                False,
                True,
            ]
            secret = {"X-Token": KEY["old"]}
            for _ in range(2):  # no id: nothing tells them apart
                assert json.loads((await g.post("token", b"1", **secret)).body)["duplicate"] is False

    run(main)


@pytest.mark.parametrize(
    ("name", "fields", "says"),
    [
        ("git", {}, "has no field x-hub-signature-256"),
        ("git", {"X-Hub-Signature-256": "sha1=00"}, "nothing that begins with 'sha256='"),
        ("git", {"X-Hub-Signature-256": "sha256=00"}, "not that of the body (67 bytes) under any of the webhook's 2"),
        ("std", standard(BODY, 1_700_000_000.0), "s old; 300 s are allowed"),
        ("std", {}, "has no field webhook-signature"),
        ("token", {"Authorization": "Bearer new-secret"}, "has no field x-token"),
        ("token", {"X-Token": "new"}, "the token in x-token is none of the webhook's"),
        ("bearer", {"Authorization": "Basic bmV3"}, "of kind 'Basic', not Bearer"),
        ("bearer", {"Authorization": "Bearer fk_a_1"}, "is none of the webhook's"),
    ],
)
def test_what_is_not_signed_is_refused_and_says_why(name: str, fields: dict[str, str], says: str) -> None:
    async def main() -> None:
        async with hooked() as g:
            found = await g.post(name, **fields)
            problem = json.loads(found.body)
            assert (found.status, problem["code"]) == (401, "unauthenticated")
            assert says in problem["detail"]
            assert not any(secret in found.body.decode() for secret in KEY.values())
            assert await g.kept() == []
            assert g.webhooks.received == {("default", "f", name, "refused"): 1}

    run(main)


def test_a_secret_that_cannot_be_used_sends_the_sender_away_for_a_while() -> None:
    async def main() -> None:
        async with hooked() as g:
            for name in ("none", "bad"):
                found = await g.post(name, **github())
                assert (found.status, found.get("retry-after")) == (503, "60")
                assert "not set up" in found.body.decode()
                assert "absent" not in found.body.decode()

    run(main)


def test_requests_that_only_ask_whether_somebody_listens() -> None:
    async def main() -> None:
        async with hooked() as g:
            found = await g.post("git", **github(event="ping"))
            assert (found.status, found.body) == (200, b'{"ping":true}')
            assert (await g.post("git", X_GitHub_Event="ping")).status == 401, "nobody listens to strangers"
            asked = {"WebHook-Request-Origin": "eventemitter.example.com", "WebHook-Request-Rate": "120"}
            found = await g.ask(request("OPTIONS", "/std", **asked, **LAST), "OPTIONS")
            assert (found.status, found.get("webhook-allowed-origin")) == (200, "eventemitter.example.com")
            assert (found.get("webhook-allowed-rate"), found.get("allow")) == ("120", "OPTIONS, POST")
            found = await g.ask(request("OPTIONS", "/std", **LAST), "OPTIONS")
            assert (found.status, found.all("webhook-allowed-origin")) == (200, [])
            found = await g.ask(request("GET", "/git", **LAST), "GET")
            assert (found.status, found.get("allow")) == (405, "OPTIONS, POST")
            assert await g.kept() == []

    run(main)


def test_bodies_that_are_no_json_are_handed_on_as_their_bytes() -> None:
    async def main() -> None:
        async with hooked() as g:
            broken = b'{"a": \xff'
            form = b"payload=%7B%22action%22%3A+%22closed%22%7D"
            assert (await g.post("git", broken, **github(broken, "1"))).status == 202
            assert (await g.post("raw", BODY, **github(BODY, "2"))).status == 202
            told = {**github(form, "3"), "Content-Type": "application/x-www-form-urlencoded"}
            assert (await g.post("git", form, **told)).status == 202
            plain = {"X-Token": KEY["old"], "Content-Type": "text/plain"}
            assert (await g.post("token", b"hi", **plain)).status == 202
            assert (await g.ask(request("POST", "/token", X_Token=KEY["old"], **LAST))).status == 202
            events = []
            for _, parcel in sorted(await g.kept(), key=lambda one: one[0].id):
                assert parcel is not None
                assert parcel.event is not None
                events.append(json.loads(structured(parcel.event)))
            assert base64.b64decode(events[0]["data_base64"]) == broken
            assert base64.b64decode(events[1]["data_base64"]) == BODY, "byte by byte, so that it can be verified again"
            assert (events[2]["type"], events[2]["data"]) == ("com.github.issues.closed", {"action": "closed"})
            assert (events[3]["datacontenttype"], base64.b64decode(events[3]["data_base64"])) == ("text/plain", b"hi")
            assert "data" not in events[4]
            assert events[4]["type"] == "webhook.received"

    run(main)


def test_cloudevents_are_the_events_they_are() -> None:
    async def main() -> None:
        async with hooked() as g:
            event = {
                "specversion": "1.0", "id": "e-1", "source": "/mill", "type": "mill.stopped", "data": {"a": 1},
                "fuyunhops": 31, "fuyuntrail": "forged",
            }  # fmt: skip
            told = {"Authorization": f"Bearer {KEY['old']}", "Content-Type": "application/cloudevents+json"}
            body = json.dumps(event).encode()
            found = [json.loads((await g.post("bearer", body, **told)).body)["duplicate"] for _ in range(2)]
            assert found == [False, True]
            ((delivery, parcel),) = await g.kept()
            assert parcel is not None
            assert parcel.event is not None
            assert (parcel.event.source, parcel.event.type, parcel.event.data) == ("/mill", "mill.stopped", b'{"a":1}')
            assert (delivery.hops, delivery.trail) == (1, "e-1"), "a stranger's word is no trail of ours"
            batch = {**told, "Content-Type": "application/cloudevents-batch+json"}
            assert (await g.post("bearer", b"[" + body + b"," + body + b"]", **batch)).status == 400
            assert (await g.post("bearer", b"{}", **told)).status == 400

    run(main)


def test_filter_policy_and_alias_are_the_trigger_s() -> None:
    async def main() -> None:
        async with hooked() as g:
            found = await g.post("picky", **github())
            assert (found.status, json.loads(found.body)) == (
                200, {"ignored": "the filter of the trigger does not take it"},
            )  # fmt: skip
            more = b'{"n": 2}'
            assert (await g.post("picky", more, **github(more))).status == 202
            assert (await g.post("live", **github())).status == 202
            kept = {one.origin: one for one, _ in await g.kept()}
            picky = kept["trigger f/picky"]
            assert (picky.max_attempts, picky.on_failure, picky.target) == (7, "queue:q", "function:f")
            assert kept["trigger f/live"].target == "function:f:live"

    run(main)


def test_a_paused_webhook_lets_the_sender_come_again() -> None:
    async def main() -> None:
        async with hooked() as g:
            g.bindings.start([("default", "f", "git")])
            found = await g.post("git", **github())
            assert (found.status, found.get("retry-after")) == (503, "60")
            g.bindings.pause(("default", "f", "git"), False)
            assert (await g.post("git", **github())).status == 202

    run(main)


def test_bodies_have_a_limit_and_a_full_disk_is_told() -> None:
    async def main() -> None:
        async with hooked() as g:
            limit = FunctionSpec().payload_bytes
            assert (await g.post("git", bytes(limit + 1), **github())).status == 413
            long = b'"' + b"x" * 200_000 + b'"'
            assert (await g.post("git", long, **github(long, "long"))).status == 202
            writes = g.database.write

            async def full(work: Any) -> Any:
                raise StorageFull("the disk is full")

            g.database.write = full
            assert (await g.post("git", **github(id_="2"))).status == 507
            g.database.write = writes
            assert (await g.post("git", **github(id_="2"))).status == 202
            assert len(await g.kept()) == 2

    run(main)


def test_a_gateway_without_them_says_so() -> None:
    async def main() -> None:
        async with hooked() as g:
            alone = Gateway(g.webhooks, authenticate)
            port = await alone.start("127.0.0.1", 0)
            (found,) = answers(await talk(port, request("POST", "/git", BODY, **github(), **LAST)), "POST")
            await alone.drain(0.0)
            assert found.status == 501

    run(main)


def test_two_functions_cannot_have_one_address() -> None:
    async def main() -> None:
        async with hooked() as g:
            table: RouteTable = g.bindings._table
            spec = FunctionSpec(triggers=(hook("git"),))
            with pytest.raises(Conflict, match="'/git' already belongs to function 'f'"):
                table.check_triggers("default", "g", spec)
            table.check_triggers("default", "f", spec)
            route: Route = table.match("/git")
            assert (route.webhook, route.methods) == ("git", frozenset({"POST", "OPTIONS"}))
            assert table.resolve("default", "f", "").webhook == ""

    run(main)
