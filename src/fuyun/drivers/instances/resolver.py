"""The name server that instances are given: it answers what their policy allows, and opens what it answers.

A name that the policy does not allow is answered REFUSED (RFC 1035, 4.1.1) and nobody is asked about it. AAAA records
are not given: IPv6 has no way out of an instance. Who asks is known by the address, which the gate checks.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import structlog
from dnslib import QTYPE, RCODE, DNSError, DNSRecord

from fuyun.base.tasks import Scope
from fuyun.domain.errors import FuyunError
from fuyun.drivers.instances import rules
from fuyun.drivers.instances.networks import Networks, Policy

#: The library has no types.
_Record: Any = DNSRecord
_KINDS: Any = QTYPE
_log = structlog.get_logger("fuyun.names")
#: How long one name server may take, and how often all of them are tried.
_TRY_S, _ROUNDS = 2.0, 2
#: Questions of one instance that may be open at once; more are not answered, as if they had been lost.
_OPEN = 32
#: How long a connection may pause.
_IDLE_S = 10.0


def host_name_servers(text: str | None = None) -> tuple[str, ...]:
    """The addresses in the host's resolv.conf (or its `text`)."""
    if text is None:
        try:
            text = Path("/etc/resolv.conf").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ()
    lines = (line.split() for line in text.splitlines())
    return tuple(words[1] for words in lines if len(words) > 1 and words[0] == "nameserver")


class Resolver:
    """Serves on the gate's two sockets until it is closed."""

    def __init__(self, networks: Networks, servers: Iterable[str]) -> None:
        """`servers`: `ADDRESS` or `ADDRESS@PORT`; none are the host's own, looked up again for each question."""
        self._networks = networks
        self._servers = tuple(servers)
        self._scope = Scope("names", lambda error: _log.error("a name was not answered", exc_info=error))
        self._transport: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None
        self._busy: dict[str, int] = {}
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self, datagrams: socket.socket, listener: socket.socket) -> None:
        """Serve on these sockets, which are its own from now on."""
        loop = asyncio.get_running_loop()
        datagrams.setblocking(False)
        listener.setblocking(False)
        self._transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=datagrams)
        self._server = await asyncio.start_server(self._serve_connection, sock=listener)

    def close(self) -> None:
        """Stop serving."""
        if self._transport is not None:
            self._transport.close()
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def wait_closed(self) -> None:
        """Wait until nothing of it runs any more."""
        await self._scope.close()
        if self._server is not None:
            await self._server.wait_closed()

    def on_question(self, data: bytes, sender: tuple[str, int]) -> None:
        """A datagram has come."""
        if self._busy.get(sender[0], 0) < _OPEN:
            self._scope.start(self._answer_datagram(data, sender), "question")

    async def _answer_datagram(self, data: bytes, sender: tuple[str, int]) -> None:
        answer = await self.answer(data, sender[0], stream=False)
        if answer and self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(answer, sender)

    async def _serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            address = writer.get_extra_info("peername")[0]
            while True:
                size = await asyncio.wait_for(reader.readexactly(2), _IDLE_S)
                data = await asyncio.wait_for(reader.readexactly(int.from_bytes(size, "big")), _IDLE_S)
                answer = await self.answer(data, address, stream=True)
                if not answer:
                    return
                writer.write(len(answer).to_bytes(2, "big") + answer)
                await asyncio.wait_for(writer.drain(), _IDLE_S)
        except (OSError, EOFError, TimeoutError):
            return
        finally:
            self._writers.discard(writer)
            writer.close()

    async def answer(self, data: bytes, address: str, *, stream: bool) -> bytes:
        """The answer to a message from the instance with this address; b"" when it deserves none."""
        try:
            query = _Record.parse(data)
        except (DNSError, ValueError, IndexError, UnicodeError):
            return b""
        found = self._networks.policy_of(address)
        if found is None or query.header.qr or len(query.questions) != 1 or query.header.opcode:
            return b""
        _, policy = found
        name = str(query.q.qname).rstrip(".").lower()
        self._busy[address] = self._busy.get(address, 0) + 1
        try:
            return bytes(await self._resolve(query, policy, name, address, stream))
        except FuyunError as error:
            _log.warning("a name could not be opened", name=name, error=error.detail)
            return _reply(query, RCODE.SERVFAIL)
        finally:
            self._busy[address] -= 1
            if not self._busy[address]:
                del self._busy[address]

    async def _resolve(self, query: Any, policy: Policy, name: str, address: str, stream: bool) -> bytes:
        if not policy.internet and not any(one.covers(name) for one in policy.openings):
            self._networks.refused(address, f"name {name}")
            return _reply(query, RCODE.REFUSED)
        if query.q.qtype == QTYPE.AAAA:
            return _reply(query, RCODE.NOERROR)
        answer = await self._ask(query, stream)
        if answer is None:
            return _reply(query, RCODE.SERVFAIL)
        records = [record for record in answer.rr if record.rtype == QTYPE.A]
        if records and query.q.qtype == QTYPE.A:
            shortest = min(record.ttl for record in records)
            seconds = min(max(shortest, rules.LEAST_S), rules.MOST_S)
            await self._networks.open_name(policy, name, sorted({str(r.rdata) for r in records}), seconds)
            for record in answer.rr:
                record.ttl = min(record.ttl, seconds)
        answer.header.id = query.header.id
        return bytes(answer.pack())

    async def _ask(self, query: Any, stream: bool) -> Any:
        """What the first name server says that says something; None when none does."""
        asked = _Record.question(str(query.q.qname), _KINDS.get(query.q.qtype))
        asked.q.qclass = query.q.qclass
        for _ in range(_ROUNDS):
            for server in self._servers or host_name_servers():
                host, _, port = server.partition("@")
                asked.header.id = secrets.randbelow(65536)
                exchange = _ask_stream if stream else _ask_datagram
                try:
                    data = await asyncio.wait_for(exchange(bytes(asked.pack()), host, int(port or 53)), _TRY_S)
                    answer = _Record.parse(data)
                except (OSError, EOFError, TimeoutError, DNSError, ValueError, IndexError, UnicodeError):
                    continue
                same = answer.header.id == asked.header.id and len(answer.questions) == 1 and answer.q == asked.q
                if same and answer.header.qr and answer.header.rcode in (RCODE.NOERROR, RCODE.NXDOMAIN):
                    return answer
        return None


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self._resolver.on_question(data, (addr[0], addr[1]))


class _One(asyncio.DatagramProtocol):
    """Waits for one datagram; the socket is connected, so that only the server's come."""

    def __init__(self) -> None:
        self.came: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        if not self.came.done():
            self.came.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.came.done():
            self.came.set_exception(exc)


async def _ask_datagram(data: bytes, host: str, port: int) -> bytes:
    transport, one = await asyncio.get_running_loop().create_datagram_endpoint(_One, remote_addr=(host, port))
    try:
        transport.sendto(data)
        return await one.came
    finally:
        transport.close()


async def _ask_stream(data: bytes, host: str, port: int) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(len(data).to_bytes(2, "big") + data)
        return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
    finally:
        writer.close()


def _reply(query: Any, code: int) -> bytes:
    """An answer without records."""
    answer = query.reply(ra=1, aa=0)
    answer.header.rcode = code
    answer.rr, answer.auth = [], []
    return bytes(answer.pack())
