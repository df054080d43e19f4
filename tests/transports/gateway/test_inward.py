"""The gateway at an instance's own address: what it lets through, and how much of it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuyun.domain.functions import Artifact, FunctionSpec, Permissions, Version
from fuyun.services.credentials import Credentials
from fuyun.services.routes import Route
from fuyun.transports.gateway.inward import CONNECTIONS, Desk, Inward
from fuyun.transports.gateway.limits import GatewayLimits
from tests.transports.gateway.fakes import FakeInvoker, answers, hello, run, talk

VERSION = Version(
    namespace="default", function="caller", number=1, spec=FunctionSpec(permissions=Permissions(invoke=("f",))),
    code=Artifact(digest="0" * 64, size_bytes=0), created_s=0.0,
)  # fmt: skip
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


class Named(FakeInvoker):
    """Functions `f` and `caller`."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("f", "caller"):
            self.add(f"/fn/default/{name}", hello)
            self.routes[f"/fn/default/{name}"][0].function = name

    def resolve(self, namespace: str, function: str, qualifier: str) -> Route:
        return self.match(f"/fn/{namespace}/{function}")


@asynccontextmanager
async def attended(limits: GatewayLimits | None = None) -> AsyncIterator[tuple[Named, Desk, int]]:
    """A desk at a free port."""
    invoker = Named()
    credentials = Credentials(bytes(32), 300.0)
    inward = Inward(invoker, credentials, limits) if limits else Inward(invoker, credentials)
    desk = inward.attend(VERSION, "i1", lambda invocation: invocation == "running")
    assert desk is not None
    listener = socket.create_server(("127.0.0.1", 0))
    port = int(listener.getsockname()[1])
    desk.listen(listener)
    try:
        yield invoker, desk, port
    finally:
        desk.close()
        await inward.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it, at most 20 s."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


def ask(desk: Desk, path: str = "/fn/default/f/a", invocation: str = "running", extra: str = "") -> bytes:
    token = desk.credential(invocation, 3, 0, "")
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{extra}\r\n".encode()


CLOSE = "Connection: close\r\n"


def test_the_function_gets_neither_the_credential_nor_a_depth_of_the_callers_own() -> None:
    async def main() -> None:
        async with attended() as (invoker, desk, port):
            extra = CLOSE + "Fuyun-Depth: 0\r\nFuyun-Credential: x\r\nX-Own: y\r\n"
            found = answers(await talk(port, ask(desk, extra=extra)), "POST")
            assert [one.status for one in found] == [200]
            (flight,) = invoker.flights
            assert dict(flight.headers) == {"host": "x", "x-own": "y", "fuyun-depth": "4"}
            assert (flight.path, flight.route.base) == ("/a", "/fn/default/f")

    run(main)


def test_another_credential_is_given_while_the_invocation_runs() -> None:
    async def main() -> None:
        async with attended() as (_, desk, port):
            for invocation, status in (("running", 200), ("over", 401)):
                raw = await talk(port, ask(desk, "/credential", invocation, CLOSE))
                (answer,) = answers(raw, "POST")
                assert answer.status == status
                assert (b'"credential":"fc_' in answer.body) is (status == 200)

    run(main)


@QUICK
@given(st.lists(st.one_of(st.binary(max_size=400), st.sampled_from([b"GET / HTTP/1.1\r\n", b"\r\n", b"Host: x\r\n"]))))
def test_whatever_comes_without_a_credential_reaches_nothing(parts: list[bytes]) -> None:
    async def main() -> None:
        async with attended(GatewayLimits(body_idle_s=0.2, linger_s=0.1, keepalive_s=0.2)) as (invoker, _, port):
            try:
                raw = await talk(port, *parts, shut=True)
            except ConnectionError:
                raw = b""
            assert not raw or raw.startswith(b"HTTP/1.")
            assert b"HTTP/1.1 2" not in raw.replace(b"HTTP/1.1 204 No Content\r\nAllow:", b"")
            assert invoker.flights == []

    run(main)


def test_so_many_connections_and_the_next_one_when_one_is_gone() -> None:
    async def main() -> None:
        async with attended() as (_, desk, port):
            held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS)]
            await until(lambda: len(desk._visits) == CONNECTIONS)
            last = asyncio.get_running_loop().create_task(talk(port, ask(desk, extra=CLOSE)))
            held[0][1].write(ask(desk))
            assert (await held[0][0].readline()).startswith(b"HTTP/1.1 200")
            assert not last.done()
            assert len(desk._visits) == CONNECTIONS
            held[0][1].close()
            assert (await last).startswith(b"HTTP/1.1 200")
            for _, writer in held:
                writer.close()
            await until(lambda: not desk._visits)

    run(main)


def test_who_asks_too_much_waits_and_is_answered_in_the_end() -> None:
    async def main() -> None:
        async with attended() as (_, desk, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            count = 2000
            writer.write(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n" * count)
            await until(lambda: desk.owing)
            assert desk._shared is not None
            assert desk._shared.stats.requests < count
            seen = 0
            while seen < count:
                seen += (await reader.readuntil(b"\r\n\r\n")).count(b"HTTP/1.1 204")
            writer.close()
            await until(lambda: not desk._visits)

    run(main)


def test_closing_ends_what_is_open() -> None:
    async def main() -> None:
        async with attended() as (_, desk, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(ask(desk))
            await reader.readline()
            desk.close()
            try:
                await reader.read()
            except ConnectionError:
                pass
            await until(lambda: not desk._visits)
            writer.close()
            refused = False
            try:
                await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                refused = True
            assert refused

    run(main)


def test_without_permissions_there_is_nothing() -> None:
    async def main() -> None:
        inward = Inward(Named(), Credentials(bytes(32), 300.0))
        version = Version(
            namespace="default", function="g", number=1, spec=FunctionSpec(),
            code=Artifact(digest="0" * 64, size_bytes=0), created_s=0.0,
        )  # fmt: skip
        assert inward.attend(version, "i1", lambda _: True) is None
        await inward.close()

    run(main)
