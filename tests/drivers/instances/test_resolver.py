"""The name server that instances are given, on real sockets, asking a name server of the test's own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from dnslib import CNAME, QTYPE, RR, TXT, A, DNSRecord
from hypothesis import given
from hypothesis import strategies as st

from fuyun.domain.errors import Unavailable
from fuyun.domain.functions import Allowed
from fuyun.drivers.instances import rules
from fuyun.drivers.instances.networks import Policy
from fuyun.drivers.instances.resolver import Resolver, host_name_servers

pytestmark = pytest.mark.anyio

RECORDS: dict[str, list[Any]] = {
    "api.example.com": [RR("api.example.com", QTYPE.CNAME, rdata=CNAME("edge.example.net"), ttl=7200),
                        RR("edge.example.net", QTYPE.A, rdata=A("203.0.113.1"), ttl=7200),
                        RR("edge.example.net", QTYPE.A, rdata=A("203.0.113.2"), ttl=5)],
    "text.example.com": [RR("text.example.com", QTYPE.TXT, rdata=TXT("words"), ttl=5)],
}  # fmt: skip


@dataclass
class Opened:
    """What `Networks` does for the resolver, noted."""

    policy: Policy | None
    opened: list[tuple[str, list[str], int]] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    broken: bool = False

    def policy_of(self, address: str) -> Any:
        """The only instance is at 127.0.0.1."""
        return (None, self.policy) if self.policy is not None and address == "127.0.0.1" else None

    def refused(self, address: str, what: str) -> None:
        """A line of the log."""
        self.refusals.append(what)

    async def open_name(self, policy: Policy, name: str, addresses: list[str], seconds: int) -> bool:
        """Rules that were loaded."""
        if self.broken:
            raise Unavailable("the gate is gone")
        self.opened.append((name, addresses, seconds))
        return True


class Server(asyncio.DatagramProtocol):
    """A name server; `habit` changes what it does."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.habit = ""
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        query: Any = DNSRecord.parse(data)
        name = str(query.q.qname).rstrip(".").lower()
        self.asked.append(name)
        reply = query.reply()
        if self.habit == "fail":
            reply.header.rcode = 2
        elif self.habit == "another id":
            reply.header.id ^= 1
        elif self.habit == "another name":
            reply = DNSRecord.question("other.example.com").reply()
            reply.header.id = query.header.id
        if self.habit == "garbage":
            self.transport.sendto(b"\xff" * 30, addr)
            return
        if name not in RECORDS:
            reply.header.rcode = 3
        for record in RECORDS.get(name, ()):
            if record.rtype in (query.q.qtype, QTYPE.CNAME):
                reply.add_answer(record)
        self.transport.sendto(reply.pack(), addr)


@asynccontextmanager
async def served(*entries: str, internet: bool = False, known: bool = True) -> AsyncIterator[Any]:
    """(ask, server, opened) for a policy."""
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(Server, local_addr=("127.0.0.1", 0))
    openings = rules.openings_of(Allowed(allow=entries)) if entries else ()
    opened = Opened(Policy(1, internet, openings) if known else None)
    resolver = Resolver(opened, [f"127.0.0.1@{transport.get_extra_info('sockname')[1]}"])  # type: ignore[arg-type]
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("127.0.0.1", 0))
    listener = socket.create_server(("127.0.0.1", 0))
    ports = datagrams.getsockname()[1], listener.getsockname()[1]
    await resolver.open(datagrams, listener)

    async def ask(name: str, kind: str = "A", *, raw: bytes = b"", stream: bool = False, wait_s: float = 10.0) -> Any:
        data = raw or bytes(DNSRecord.question(name, kind).pack())
        if stream:
            reader, writer = await asyncio.open_connection("127.0.0.1", ports[1])
            writer.write(len(data).to_bytes(2, "big") + data)
            try:
                said = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
            finally:
                writer.close()
            return DNSRecord.parse(said)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect(("127.0.0.1", ports[0]))
            await loop.sock_sendall(sock, data)
            return DNSRecord.parse(await asyncio.wait_for(loop.sock_recv(sock, 4096), wait_s))

    try:
        yield ask, server, opened
    finally:
        resolver.close()
        await resolver.wait_closed()
        transport.close()


async def test_an_allowed_name_is_answered_and_opened() -> None:
    async with served("api.example.com:443") as (ask, server, opened):
        answer = await ask("API.Example.com")
        assert [str(record.rdata) for record in answer.rr] == ["edge.example.net.", "203.0.113.1", "203.0.113.2"]
        assert opened.opened == [("api.example.com", ["203.0.113.1", "203.0.113.2"], rules.LEAST_S)]
        assert max(record.ttl for record in answer.rr) <= rules.LEAST_S  # nobody remembers it longer than it is open
        assert server.asked == ["api.example.com"]


@pytest.mark.parametrize("stream", [False, True])
async def test_another_name_is_refused_and_nobody_is_asked(stream: bool) -> None:
    async with served("api.example.com:443") as (ask, server, opened):
        answer = await ask("secret.example.org", "TXT", stream=stream)
        assert answer.header.rcode == 5
        assert (server.asked, opened.opened) == ([], [])
        assert opened.refusals == ["name secret.example.org"]


async def test_there_are_no_ipv6_addresses() -> None:
    async with served("api.example.com:443") as (ask, server, _):
        answer = await ask("api.example.com", "AAAA")
        assert (answer.header.rcode, answer.rr, server.asked) == (0, [], [])


async def test_other_records_of_allowed_names_are_answered_and_open_nothing() -> None:
    async with served("*.example.com:443") as (ask, _, opened):
        answer = await ask("text.example.com", "TXT")
        assert [str(record.rdata) for record in answer.rr] == ['"words"']
        assert opened.opened == []


async def test_the_internet_has_every_name() -> None:
    async with served(internet=True) as (ask, server, _):
        assert (await ask("nowhere.example.org")).header.rcode == 3
        assert server.asked == ["nowhere.example.org"]


@pytest.mark.parametrize("habit", ["fail", "another id", "another name", "garbage"])
async def test_an_answer_to_something_else_is_none(habit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served("api.example.com:443") as (ask, server, opened):
        server.habit = habit
        assert (await ask("api.example.com")).header.rcode == 2
        assert opened.opened == []


async def test_a_name_that_cannot_be_opened_is_not_answered() -> None:
    async with served("api.example.com:443") as (ask, _, opened):
        opened.broken = True
        answer = await ask("api.example.com")
        assert (answer.header.rcode, answer.rr) == (2, [])


async def test_who_has_no_policy_gets_no_answer() -> None:
    async with served("api.example.com:443", known=False) as (ask, server, _):
        with pytest.raises(EOFError):
            await ask("api.example.com", stream=True)
        assert server.asked == []


async def test_garbage_is_not_answered_and_harms_nothing() -> None:
    async with served("api.example.com:443") as (ask, _, _opened):
        for raw in (b"", b"\0", b"\xff" * 12, b"\xc0" * 400, bytes(DNSRecord.question("a.b").reply().pack())):
            with pytest.raises(EOFError):
                await ask("", raw=raw or b"\0", stream=True)
        assert (await ask("api.example.com")).rr


@given(st.binary(max_size=80))
def test_any_bytes_get_an_answer_or_none(data: bytes) -> None:
    opened = Opened(Policy(1, False, ()))
    resolver = Resolver(opened, ["127.0.0.1@9"])  # type: ignore[arg-type]
    answer = asyncio.run(resolver.answer(data, "127.0.0.1", stream=False))
    assert answer == b"" or DNSRecord.parse(answer).header.rcode in (0, 5)


def test_the_hosts_name_servers() -> None:
    text = "# nameserver 1.1.1.1\nsearch a b\nnameserver 192.0.2.1\nnameserver\t2001:db8::1 \nnameserver\n"
    assert host_name_servers(text) == ("192.0.2.1", "2001:db8::1")
    assert isinstance(host_name_servers(), tuple)
