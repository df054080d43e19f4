"""Events sent to HTTP endpoints: a real server of a test's own, and everything that it may answer."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from fuyun.base import clock
from fuyun.domain.endpoints import EndpointSpec, EndpointView, check_endpoint
from fuyun.domain.errors import BadRequest, EndpointFailed, Forbidden, NotFound, QuotaExceeded
from fuyun.domain.events import Event
from fuyun.domain.queues import Outgoing
from fuyun.domain.tenants import Namespace, Quotas
from fuyun.domain.topics import SubscriptionSpec
from fuyun.drivers.catalog.tenants import SqlTenants
from fuyun.drivers.endpoints.http import HttpSender
from fuyun.services.reaching import Reach
from fuyun.services.tenants import PLATFORM
from tests.services import events


@dataclass
class Got:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """Answers what it is told to: `answers` are used up, the last one stays."""

    allows: str = "fuyun"
    answers: list[str] = field(default_factory=lambda: ["204 No Content"])
    got: list[Got] = field(default_factory=list)
    port: int = 0
    silent: bool = False

    @property
    def posted(self) -> list[Got]:
        return [one for one in self.got if one.method == "POST"]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                method, path, _ = line.decode().split(" ")
                headers = {}
                while (line := await reader.readline()).strip():
                    name, _, value = line.decode().strip().partition(": ")
                    headers[name.lower()] = value
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.got.append(Got(method, path, headers, body))
                if self.silent:
                    await reader.read()
                    return
                told = f"200 OK\r\nWebHook-Allowed-Origin: {self.allows}" if method == "OPTIONS" else self.answers[0]
                if method == "POST" and len(self.answers) > 1:
                    self.answers.pop(0)
                writer.write(f"HTTP/1.1 {told}\r\nContent-Length: 0\r\n\r\n".encode())
                await writer.drain()
        finally:
            writer.close()


class Scene:
    """An event path in real time beside a receiver."""

    def __init__(self, e: events.Events, receiver: Receiver) -> None:
        self.events = e
        self.receiver = receiver

    @property
    def endpoints(self) -> Any:
        return self.events.path.outside.endpoints

    async def put(self, name: str = "shop", path: str = "/in", **spec: Any) -> EndpointView:
        url = spec.pop("url", f"http://127.0.0.1:{self.receiver.port}{path}")
        found: EndpointView = await self.endpoints.put(PLATFORM, "default", name, EndpointSpec(url=url, **spec))
        return found

    async def publish(self, *values: Any, **spec: Any) -> None:
        """A topic whose events go to the endpoint."""
        topics = self.events.path.messaging.topics
        await topics.put_topic(PLATFORM, "default", "news")
        spec = {"target": "endpoint:shop", "max_attempts": 2, **spec}
        await topics.subscribe(PLATFORM, "default", "news", "shop", SubscriptionSpec(**spec))
        await topics.publish("default", "news", [Outgoing(event=event(f"e-{value}", value)) for value in values])

    async def until(self, holds: Callable[[], Any]) -> None:
        async with asyncio.timeout(15):
            while not holds():
                await asyncio.sleep(0.02)

    async def states(self, *states: str) -> list[Any]:
        """Deliveries to the endpoint, once they are in such states."""
        async with asyncio.timeout(15):
            while True:
                found = [one for one in await self.events.list() if one.target == "endpoint:shop"]
                if sorted(one.state for one in found) == sorted(states):
                    return found
                await asyncio.sleep(0.02)


def event(id_: str, data: Any, **fields: Any) -> Event:
    return Event(id=id_, source="/x", type="news", time_s=1.5, data=json.dumps(data).encode(), **fields)


def play(scene: Callable[[Scene], Awaitable[None]]) -> None:
    async def inner(e: events.Events) -> None:
        receiver = Receiver()
        server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
        receiver.port = server.sockets[0].getsockname()[1]
        await SqlTenants(e.database).create_namespace(  # type: ignore[arg-type]
            Namespace(name="default", created_s=0.0),
            None,  # type: ignore[arg-type]
        )
        try:
            await scene(Scene(e, receiver))
        finally:
            await e.path.outside.endpoints.close()
            server.close()
            await server.wait_closed()

    events.play(inner, run=asyncio.run)


def verified(got: Got, secret: str) -> bool:
    """As a receiver would, by the words of Standard Webhooks."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    text = f"{got.headers['webhook-id']}.{got.headers['webhook-timestamp']}.".encode() + got.body
    expected = "v1," + base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()
    assert abs(int(got.headers["webhook-timestamp"]) - clock.wall_s()) < 60
    return expected in got.headers["webhook-signature"].split(" ")


def test_a_subscription_s_events_arrive_signed_once_it_said_that_it_wants_them() -> None:
    async def scene(s: Scene) -> None:
        made = await s.put()
        assert (made.state, made.problem, s.receiver.got[0].method) == ("confirmed", "", "OPTIONS")
        assert s.receiver.got[0].headers["webhook-request-origin"] == "fuyun"
        await s.publish({"a": 1})
        (delivery,) = await s.states("succeeded")
        (got,) = s.receiver.posted
        told = json.loads(got.body)
        assert (told["id"], told["type"], told["data"], told["fuyunhops"]) == ("e-{'a': 1}", "news", {"a": 1}, 1)
        assert (got.path, got.headers["content-type"]) == ("/in", "application/cloudevents+json")
        assert verified(got, made.secret)
        assert (delivery.origin, delivery.target) == ("subscription news/shop", "endpoint:shop")
        assert s.endpoints.get("default", "shop").secret == "", "it is told once"
        assert (await s.put()).secret == ""
        assert s.endpoints.sent == {("default", "shop", "delivered"): 1}

    play(scene)


def test_binary_mode_has_the_event_in_header_fields() -> None:
    async def scene(s: Scene) -> None:
        made = await s.put(mode="binary")
        target = "default", "shop", ""
        await s.endpoints.send(*target, [event("ü 1", {"b": 2}, subject="naïve", hops=2, trail="t")])
        (got,) = s.receiver.posted
        assert (got.body, got.headers["content-type"]) == (b'{"b": 2}', "application/json")
        assert got.headers["ce-subject"] == "na%C3%AFve"
        assert (got.headers["ce-type"], got.headers["ce-fuyunhops"]) == ("news", "2")
        assert verified(got, made.secret)
        assert got.headers["webhook-id"] == hashlib.sha256("ü 1".encode()).hexdigest()

    play(scene)


def test_nothing_is_sent_before_it_is_confirmed() -> None:
    async def scene(s: Scene) -> None:
        s.receiver.allows = "somebody.else"
        made = await s.put()
        assert (made.state, made.problem) == (
            "pending", "it answered OPTIONS with WebHook-Allowed-Origin: somebody.else",
        )  # fmt: skip
        await s.publish(1)
        (waiting,) = await s.states("retrying")
        assert (waiting.error, waiting.failures) == ("unavailable", 0)
        assert s.receiver.posted == []
        s.receiver.allows = "*"
        assert (await s.endpoints.confirm(PLATFORM, "default", "shop")).state == "confirmed"
        s.receiver.allows = "nobody"
        assert (await s.put(path="/moved")).state == "pending", "another address is asked anew"

    play(scene)


def test_what_fails_is_tried_again_and_given_up() -> None:
    async def scene(s: Scene) -> None:
        await s.put()
        s.receiver.answers = ["500 No", "200 OK"]
        await s.publish(1)
        (done,) = await s.states("succeeded")
        assert (done.attempts, done.failures) == (2, 1)
        assert len({got.headers["webhook-id"] for got in s.receiver.posted}) == 1
        s.receiver.answers = ["302 Found\r\nLocation: http://127.0.0.1:1/", "404 Gone fishing"]
        await s.publish(2, dead_letter="queue:dead")
        found = {one.state: one for one in await s.states("succeeded", "failed")}
        assert (found["failed"].error, found["failed"].attempts) == ("endpoint_failed", 2)
        assert "answered 404" in found["failed"].detail
        assert len(s.receiver.posted) == 4, "no redirect is followed"
        await s.until(lambda: s.events.sent)
        assert (s.events.sent[0][1], json.loads(s.events.sent[0][2].data)["target"]) == ("dead", "endpoint:shop")

    play(scene)


@pytest.mark.parametrize(("answer", "counts"), [("429 Slow", 0), ("503 Later", 0), ("500 No", 1)])
def test_retry_after_is_obeyed(answer: str, counts: int) -> None:
    async def scene(s: Scene) -> None:
        await s.put()
        s.receiver.answers = [f"{answer}\r\nRetry-After: 1000"]
        await s.publish(1, max_age_s=7200.0)
        before_s = clock.wall_s()
        (waiting,) = await s.states("retrying")
        assert (waiting.failures, waiting.at_s > before_s + 990) == (counts, True)
        s.receiver.answers = [f"{answer}\r\nRetry-After: Thu, 01 Jan 2015 00:00:00 GMT", f"{answer}\r\nRetry-After: x"]
        for _ in range(2):
            with pytest.raises(Exception, match="answered") as raised:
                await s.endpoints.send("default", "shop", "", [event("a", 1)])
            assert raised.value.fields["retry_after_s"] == 0.0  # type: ignore[attr-defined]

    play(scene)


def test_410_ends_it() -> None:
    async def scene(s: Scene) -> None:
        await s.put()
        s.receiver.answers = ["410 Gone"]
        await s.publish(1)
        (dead,) = await s.states("failed")
        assert (dead.attempts, dead.error) == (1, "bad_request")
        assert s.endpoints.get("default", "shop").state == "gone"
        await s.publish(2)
        await s.until(lambda: s.events.relay.relayed == 2)
        assert len(await s.states("failed")) == 1, "the subscription has ended: it makes no more deliveries"
        await s.events.restart()
        assert s.endpoints.get("default", "shop").state == "gone"
        s.receiver.answers = ["200 OK"]
        await s.endpoints.confirm(PLATFORM, "default", "shop")
        await s.publish(3)
        await s.states("failed", "succeeded")

    play(scene)


def test_a_secret_is_replaced_while_the_old_one_is_good() -> None:
    async def scene(s: Scene) -> None:
        first = await s.put()
        second = await s.endpoints.rotate(PLATFORM, "default", "shop")
        assert second.secret not in ("", first.secret)
        await s.endpoints.send("default", "shop", "", [event("a", 1)])
        assert verified(s.receiver.posted[0], first.secret)
        assert verified(s.receiver.posted[0], second.secret)
        await s.events.restart()
        await s.endpoints.send("default", "shop", "", [event("a", 1)])
        assert verified(s.receiver.posted[1], second.secret), "the same after a restart"
        kept, later_s = clock.wall_s, clock.wall_s() + 86401
        clock.wall_s = lambda: later_s
        try:
            await s.endpoints.send("default", "shop", "", [event("a", 1)])
        finally:
            clock.wall_s = kept
        assert len(s.receiver.posted[2].headers["webhook-signature"].split(" ")) == 1
        await s.endpoints.delete(PLATFORM, "default", "shop")
        assert (await s.put()).secret not in (first.secret, second.secret)

    play(scene)


def test_silence_and_closed_doors_are_failures() -> None:
    async def scene(s: Scene) -> None:
        await s.put(timeout_s=1.0)
        s.receiver.silent = True
        with pytest.raises(EndpointFailed, match="no answer within 1 s"):
            await s.endpoints.send("default", "shop", "", [event("a", 1)])
        made = await s.put("closed", url="http://127.0.0.1:1/")
        assert (made.state, "ConnectError" in made.problem) == ("pending", True)
        with pytest.raises(NotFound, match="there is no endpoint 'shopp'"):
            await s.endpoints.send("default", "shopp", "", [event("a", 1)])

    play(scene)


def test_addresses_that_are_not_public_are_not_sent_to() -> None:
    async def scene(s: Scene) -> None:
        for url in (
            "http://10.0.0.1/",
            "http://169.254.169.254/latest/meta-data",
            "http://[::1]/",
            "http://0x7f000002/",
        ):
            made = await s.put(url=url)
            assert made.state == "pending"
            assert "which is not public" in made.problem or "is not found" in made.problem

    play(scene)


def test_what_a_name_says_a_moment_later_does_not_matter() -> None:
    """One look-up, and a connection to what it said; the name goes along as Host."""

    async def scene(s: Scene) -> None:
        asked: list[str] = []

        async def resolve(host: str, port: int) -> list[str]:
            asked.append(host)
            return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.1"]

        sender = HttpSender(Reach("127.0.0.1", resolve).address)
        try:
            url = f"http://shop.example:{s.receiver.port}/in"
            said = await sender.ask("POST", url, {"host": "shop.example"}, b"x", 5.0)
            assert (said.status, asked, s.receiver.got[0].headers["host"]) == (204, ["shop.example"], "shop.example")
        finally:
            await sender.close()
        sender = HttpSender(Reach("127.0.0.1", resolve).address)
        with pytest.raises(Forbidden):
            await sender.ask("POST", url, {"host": "shop.example"}, b"x", 5.0)
        await sender.close()

    play(scene)


@pytest.mark.parametrize(
    ("url", "says"),
    [("ftp://a/b", "no address to send to"), ("https://", "no address"), ("https://a:b@c/", "holds credentials"),
     ("https://a/#x", "no address"), ("https://a:99999/", "no address"), ("https://a:0/", "no address"),
     ("http://a/ b", "no address"),
     ("http://ä/", "no address")],
)  # fmt: skip
def test_addresses_that_cannot_be(url: str, says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        check_endpoint("shop", EndpointSpec(url=url))


def test_there_is_a_quota_and_changes_are_noted() -> None:
    async def scene(s: Scene) -> None:
        s.events.platform.quotas["default"] = Quotas(endpoints=1)
        await s.put()
        with pytest.raises(QuotaExceeded, match="has 1 endpoints"):
            await s.put("second")
        await s.put(timeout_s=3.0)
        entries = await SqlTenants(s.events.database).audit(None, "default", "", 100)  # type: ignore[arg-type]
        assert [one.action for one in entries or () if one.action.startswith("endpoint")] == ["endpoint.put"] * 2
        assert [one.name for one in await s.endpoints.list_endpoints("default")] == ["shop"]

    play(scene)
