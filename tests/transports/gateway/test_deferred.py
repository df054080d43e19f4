"""Asynchronous invocation at the gateway: an id instead of the answer, once it is on the disk."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fuyun.base.tasks import Scope
from fuyun.domain.deliveries import Delivery, Parcel
from fuyun.domain.errors import FuyunError, StorageFull
from fuyun.domain.events import MOST_HOPS
from fuyun.domain.functions import Artifact, FunctionSpec, Permissions, Version
from fuyun.drivers.deliveries.sql import SqlDeliveries
from fuyun.ports.deliveries import DeliveryQuery
from fuyun.services.accepting import Acceptor
from fuyun.services.credentials import Credentials
from fuyun.services.deferring import Deferring
from fuyun.testing.databases import InlineDatabase
from fuyun.transports.gateway.inward import Inward
from fuyun.transports.gateway.server import Gateway
from tests.transports.gateway.fakes import (
    LAST,
    Answer,
    FakeInvoker,
    answers,
    authenticate,
    hello,
    request,
    run,
    talk,
)
from tests.transports.gateway.test_inward import Named

ASYNC = {"Fuyun_Invocation_Type": "async"}


class Accepting:
    """A gateway that accepts, over a store in memory."""

    def __init__(self, invoker: FakeInvoker, scope: Scope) -> None:
        self.invoker = invoker
        self.database: Any = InlineDatabase()
        self.store = SqlDeliveries(self.database)
        self.most = 1000
        self.acceptor = Acceptor(self.store, lambda namespace: self.most)
        self.deferring = Deferring(invoker, self.acceptor, scope, "gateway")
        self.port = 0

    async def ask(self, raw: bytes) -> Answer:
        """The answer to one request, the last of its connection."""
        (found,) = answers(await talk(self.port, raw), "POST")
        return found

    async def kept(self) -> list[tuple[Delivery, Parcel | None]]:
        """What was accepted."""
        found = await self.store.list_deliveries(DeliveryQuery(namespace="default"))
        return [await self.store.get("default", one.id) for one in found]


@asynccontextmanager
async def accepting() -> AsyncIterator[Accepting]:
    failed: list[BaseException] = []
    async with Scope("test", failed.append) as scope:
        invoker = FakeInvoker()
        invoker.add("/f", hello, auth="key")
        found = Accepting(invoker, scope)
        gateway = Gateway(invoker, authenticate, None, found.deferring)
        found.port = await gateway.start("127.0.0.1", 0)
        try:
            yield found
        finally:
            await gateway.drain(0.0)
            await found.acceptor.close()
            found.database.close()
    assert failed == []


def test_it_is_accepted_as_it_came() -> None:
    async def main() -> None:
        async with accepting() as g:
            raw = request("POST", "/f/a%20b?x=1", b"payload", Fuyun_Key="fk_a_1", X_Own="y", **ASYNC, **LAST)
            found = await g.ask(raw)
            told = json.loads(found.body)
            assert (found.status, told["duplicate"]) == (202, False)
            assert found.get("fuyun-request-id") == told["id"]
            ((delivery, parcel),) = await g.kept()
            assert (delivery.id, delivery.state, delivery.target) == (told["id"], "queued", "function:f:live")
            assert (delivery.origin, delivery.max_attempts, delivery.trail) == ("gateway", 3, "")
            assert parcel is not None
            call = parcel.call
            assert (parcel.body, call.kind, call.method, call.path) == (b"payload", "http", "POST", "/a%20b")
            assert (call.query, call.base, call.source) == ("x=1", "/f", "127.0.0.1")
            assert dict(call.headers) == {"host": "a", "x-own": "y", "content-length": "7"}, "no key, nothing of ours"
            assert g.invoker.flights == []

    run(main)


def test_requests_that_do_not_ask_for_it_are_answered() -> None:
    async def main() -> None:
        async with accepting() as g:
            keep = request("POST", "/f", b"1", Fuyun_Key="fk_a_1", Fuyun_Invocation_Type="sync")
            later = request("POST", "/f", b"2", Fuyun_Key="fk_a_1", **ASYNC)
            raw = await talk(g.port, keep + later + request("POST", "/f", b"3", Fuyun_Key="fk_a_1", **LAST))
            assert [one.status for one in answers(raw, "POST", "POST", "POST")] == [200, 202, 200]
            assert [flight.body for flight in g.invoker.flights] == [b"1", b"3"]

    run(main)


def test_a_long_body_is_collected_up_to_the_functions_limit() -> None:
    async def main() -> None:
        async with accepting() as g:
            body = bytes(range(256)) * 3000
            assert (await g.ask(request("POST", "/f", body, Fuyun_Key="fk_a_1", **ASYNC, **LAST))).status == 202
            ((_, parcel),) = await g.kept()
            assert parcel is not None
            assert parcel.body == body
            chunks = b"".join(b"10000\r\n" + bytes(65536) + b"\r\n" for _ in range(20)) + b"0\r\n\r\n"
            head = b"POST /f HTTP/1.1\r\nHost: x\r\nFuyun-Key: fk_a_1\r\nFuyun-Invocation-Type: async\r\n"
            found = await g.ask(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
            assert found.status == 413
            assert len(await g.kept()) == 1

    run(main)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"Fuyun_Invocation_Type": "later"}, "'later' is no invocation type"),
        ({**ASYNC, "Fuyun_Delay": "soon"}, "fuyun-delay: 'soon' cannot be read"),
        ({**ASYNC, "Fuyun_Delay": "500d"}, "days away"),
        ({**ASYNC, "Fuyun_Schedule_At": "2026-12-24T18:00:00"}, "cannot be read"),
        ({**ASYNC, "Fuyun_Schedule_At": "nan"}, "cannot be read"),
        ({**ASYNC, "Fuyun_Delay": "1s", "Fuyun_Schedule_At": "1800000000"}, "a delay and a time"),
        ({**ASYNC, "Fuyun_Idempotency_Key": "k" * 201}, "201 characters"),
    ],
)
def test_what_cannot_be_meant_is_refused(fields: dict[str, str], text: str) -> None:
    async def main() -> None:
        async with accepting() as g:
            found = await g.ask(request("POST", "/f", b"", Fuyun_Key="fk_a_1", **fields, **LAST))
            problem = json.loads(found.body)
            assert (found.status, problem["code"]) == (400, "bad_request")
            assert text in problem["detail"]
            assert problem["hint"]
            assert await g.kept() == []

    run(main)


def test_keys_and_times() -> None:
    async def main() -> None:
        async with accepting() as g:
            keyed = request("POST", "/f", b"", Fuyun_Key="fk_a_1", Fuyun_Idempotency_Key="k", **ASYNC, **LAST)
            first, second = json.loads((await g.ask(keyed)).body), json.loads((await g.ask(keyed)).body)
            assert (first["id"], second["duplicate"]) == (second["id"], True)
            for fields in ({"Fuyun_Delay": "90s"}, {"Fuyun_Schedule_At": "4102444800"}):
                sent = request("POST", "/f", b"", Fuyun_Key="fk_a_1", **fields, **ASYNC, **LAST)
                found = await g.ask(sent)
                assert found.status == (202 if "Fuyun_Delay" in fields else 400), "2100 is too far away"
            kept = await g.kept()
            assert [round(one.at_s - one.accepted_s) for one, _ in kept] == [0, 90]

    run(main)


@pytest.mark.parametrize(
    ("error", "most", "status"), [(StorageFull("the disk is full", hint="free space"), 9, 507), (None, 0, 403)]
)
def test_what_cannot_be_kept_is_refused_with_a_hint(error: FuyunError | None, most: int, status: int) -> None:
    async def main() -> None:
        async with accepting() as g:
            g.database.failing, g.most = error, most
            found = await g.ask(request("POST", "/f", b"", Fuyun_Key="fk_a_1", **ASYNC, **LAST))
            assert found.status == status
            assert json.loads(found.body)["hint"]
            assert await g.kept() == []

    run(main)


def test_a_websocket_is_not_asynchronous() -> None:
    async def main() -> None:
        async with accepting() as g:
            g.invoker.add("/ws", hello, runtime="web")
            raw = request(
                "GET", "/ws", b"", Connection="Upgrade", Upgrade="websocket", Sec_WebSocket_Version="13",
                Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==", **ASYNC,
            )  # fmt: skip
            (found,) = answers(await talk(g.port, raw), "GET")
            assert found.status == 400

    run(main)


def test_functions_ask_at_their_address_and_go_on_from_where_they_stand() -> None:
    async def main() -> None:
        async with accepting() as g:
            named = Named()
            deferring = Deferring(named, g.acceptor, g.deferring._scope, "api")
            inward = Inward(named, Credentials(bytes(32), 300.0), deferring=deferring)
            version = Version(
                namespace="default", function="caller", number=1, created_s=0.0,
                spec=FunctionSpec(permissions=Permissions(invoke=("f",))), code=Artifact(digest="0" * 64, size_bytes=0),
            )  # fmt: skip
            desk = inward.attend(version, "i1", lambda invocation: True)
            assert desk is not None
            listener = socket.create_server(("127.0.0.1", 0))
            port = listener.getsockname()[1]
            desk.listen(listener)

            async def ask(path: str, hops: int, trail: str) -> Answer:
                token = desk.credential("running", 3, hops, trail)
                spoof = {"Fuyun_Hops": "0", "Fuyun_Trail": "mine", "Authorization": f"Bearer {token}"}
                (found,) = answers(await talk(port, request("POST", path, b"{}", **spoof, **ASYNC, **LAST)), "POST")
                return found

            try:
                assert (await ask("/fn/default/f/x", 4, "e1")).status == 202
                assert (await ask("/fn/default/f", 0, "")).status == 202
                assert (await ask("/fn/default/caller", 0, "")).status == 403, "it is not named in the permissions"
                refused = await ask("/fn/default/f", MOST_HOPS, "e2")
                assert (refused.status, json.loads(refused.body)["code"]) == (508, "loop_detected")
            finally:
                desk.close()
                await inward.close()
            kept = [(one.hops, one.trail, one.state, one.origin) for one, _ in await g.kept()]
            assert kept == [
                (5, "e1", "queued", "function caller"), (0, "", "queued", "function caller"),
                (MOST_HOPS + 1, "e2", "failed", "function caller"),
            ]  # fmt: skip
            (_, parcel), *_ = await g.kept()
            assert parcel is not None
            assert "fuyun-depth" not in dict(parcel.call.headers)

    run(main)


def test_accepts_that_come_together_are_one_write() -> None:
    async def main() -> None:
        async with accepting() as g:
            one = request("POST", "/f", b"1", Fuyun_Key="fk_a_1", **ASYNC, **LAST)
            found = await asyncio.gather(*(g.ask(one) for _ in range(40)))
            assert [answer.status for answer in found] == [202] * 40
            assert g.database.writes < 20
            assert len(await g.kept()) == 40

    run(main)
