"""A network for tests: servers in a network namespace of their own, a veth pair away, and who may open tunnels."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

#: Listens on the given address: TCP and UDP, each port tells what it is; port 53 answers names.
_SERVERS = """
import json, selectors, socket, sys, threading
from dnslib import A, QTYPE, RR, DNSRecord

address, public = sys.argv[1:3]
ports, names = json.loads(sys.argv[3]), json.loads(sys.argv[4])

def serve_tcp(listener, port):
    while True:
        connection, peer = listener.accept()
        with connection:
            connection.sendall(b"tcp %d" % port)

def serve_udp(sock, port):
    while True:
        data, peer = sock.recvfrom(4096)
        sock.sendto(b"udp %d" % port, peer)

def answer(data):
    query = DNSRecord.parse(data)
    reply = query.reply()
    name = str(query.q.qname).rstrip(".").lower()
    if name not in names:
        reply.header.rcode = 3
    elif query.q.qtype == QTYPE.A:
        for found in names[name]:
            reply.add_answer(RR(query.q.qname, QTYPE.A, rdata=A(found), ttl=5))
    return reply.pack()

def serve_names(sock):
    while True:
        data, peer = sock.recvfrom(4096)
        sock.sendto(answer(data), peer)

def serve_names_tcp(listener):
    while True:
        connection, peer = listener.accept()
        with connection:
            size = int.from_bytes(connection.recv(2), "big")
            said = answer(connection.recv(size))
            connection.sendall(len(said).to_bytes(2, "big") + said)

for port in ports:
    listener = socket.create_server(("", port))
    threading.Thread(target=serve_tcp, args=(listener, port), daemon=True).start()
    for own in (address, public):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((own, port))
        threading.Thread(target=serve_udp, args=(sock, port), daemon=True).start()
names_udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
names_udp.bind((address, 53))
threading.Thread(target=serve_names, args=(names_udp,), daemon=True).start()
threading.Thread(target=serve_names_tcp, args=(socket.create_server((address, 53)),), daemon=True).start()
print("up", flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class World:
    """Where the servers are, seen from the host."""

    near: str  # the host's own address on the link
    server: str  # a private address with servers on `ports`
    public: str  # the same servers under an address that is no private one
    ports: tuple[int, ...]
    namespace: str
    link: str

    @property
    def name_servers(self) -> str:
        """The setting that has the platform ask the world's name server."""
        return f"{self.server}@53"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@contextmanager
def world() -> Iterator[World]:
    """Servers for the time of the block. Needs root. Each process of tests has addresses of its own."""
    own = os.getpid()
    net = f"10.{200 + own % 50}.{own // 50 % 250}"
    found = World(
        near=f"{net}.1", server=f"{net}.2", public=f"203.0.113.{own % 250 + 1}", ports=(5432, 5433, 6001, 6002),
        namespace=f"fy-world-{own}", link=f"fyw{own}",
    )  # fmt: skip
    names = {
        "api.example.test": [found.server], "deep.in.example.test": [found.public], "evil.test": [found.server],
        "metadata.example.test": ["169.254.169.254"], "host.example.test": [found.near],
    }  # fmt: skip
    _ip("netns", "add", found.namespace)
    try:
        _ip("link", "add", found.link, "type", "veth", "peer", "name", "eth0", "netns", found.namespace)
        _ip("addr", "add", f"{found.near}/24", "dev", found.link)
        _ip("link", "set", found.link, "up")
        inside = ("-n", found.namespace)
        _ip(*inside, "addr", "add", f"{found.server}/24", "dev", "eth0")
        _ip(*inside, "addr", "add", f"{found.public}/32", "dev", "eth0")
        for name in ("lo", "eth0"):
            _ip(*inside, "link", "set", name, "up")
        _ip("route", "add", f"{found.public}/32", "via", found.server)
        argv = [sys.executable, "-c", _SERVERS, found.server, found.public, json.dumps(found.ports),
                json.dumps(names)]  # fmt: skip
        servers = subprocess.Popen(
            ["ip", "netns", "exec", found.namespace, *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        with servers:
            try:
                assert servers.stdout is not None
                assert servers.stdout.readline() == b"up\n"
                yield found
            finally:
                servers.kill()
    finally:
        _ip("netns", "delete", found.namespace)


@contextmanager
def tunnels(allowed: bool) -> Iterator[None]:
    """Whether accounts without rights may open tunnels, as most distributions let them (mode 0666); undone after."""
    device = "/dev/net/tun"
    before = stat.S_IMODE(os.stat(device).st_mode)
    os.chmod(device, 0o666 if allowed else 0o600)
    try:
        yield
    finally:
        os.chmod(device, before)
