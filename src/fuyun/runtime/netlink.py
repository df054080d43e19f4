"""Network interfaces, addresses, routes and logged packets over netlink sockets.

Sources: rtnetlink(7), `linux/rtnetlink.h`, `linux/if_link.h`, `linux/veth.h`, `linux/netfilter/nfnetlink_log.h`.
A socket belongs to the network namespace it was made in. Functions raise OSError with what the kernel said.
"""

from __future__ import annotations

import os
import socket
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

_ROUTE, _NETFILTER = 0, 12
_NEW_LINK, _NEW_ADDRESS, _GET_ADDRESS, _NEW_ROUTE = 16, 20, 22, 24
_REQUEST, _ACK, _DUMP, _REPLACE, _EXCLUSIVE, _CREATE = 1, 4, 0x300, 0x100, 0x200, 0x400
_ERROR, _DONE = 2, 3
_NESTED = 0x8000
_UP = 1
_INET = int(socket.AF_INET)
#: Changes of IPv4 addresses (RTMGRP_IPV4_IFADDR).
_ADDRESS_CHANGES = 0x10
#: nfnetlink_log: subsystem 4, message 1 configures, 0 is a packet.
_LOG_CONFIG, _LOG_PACKET = 4 << 8 | 1, 4 << 8
_HEADER = struct.Struct("=IHHII")


def _attribute(kind: int, payload: bytes) -> bytes:
    size = 4 + len(payload)
    return struct.pack("=HH", size, kind) + payload + bytes(-size % 4)


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    place = 0
    while place + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, place)
        if size < 4:
            break
        found[kind & 0x3FFF] = data[place + 4 : place + size]
        place += size + (-size % 4)
    return found


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, payload) of each message in what was received."""
    place = 0
    while place + 16 <= len(data):
        size, kind = struct.unpack_from("=IH", data, place)
        if size < 16:
            return
        yield kind, data[place + 16 : place + size]
        place += size + (-size % 4)


def _complain(payload: bytes, what: str) -> None:
    number = -struct.unpack_from("=i", payload)[0]
    if number:
        raise OSError(number, f"{what}: {os.strerror(number)}")


class Routes:
    """Changes links, addresses and routes of the namespace it is made in."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _ROUTE)

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()

    def _ask(self, kind: int, flags: int, payload: bytes, what: str) -> None:
        self._socket.send(_HEADER.pack(16 + len(payload), kind, _REQUEST | _ACK | flags, 1, 0) + payload)
        for said, body in _messages(self._socket.recv(65536)):
            if said == _ERROR:
                _complain(body, what)

    def make_pair(self, name: str, group: int, peer: str, namespace: int, mtu: int) -> None:
        """A veth pair: `name`, up and in interface group `group`, here; `peer`, down, in the network namespace that
        the descriptor `namespace` is open on."""
        empty = struct.pack("=BxHiII", 0, 0, 0, 0, 0)
        size = _attribute(4, struct.pack("=I", mtu))
        other = empty + _attribute(3, peer.encode() + b"\0") + size + _attribute(28, struct.pack("=i", namespace))
        pair = _attribute(1, b"veth") + _attribute(2 | _NESTED, _attribute(1 | _NESTED, other))
        own = struct.pack("=BxHiII", 0, 0, 0, _UP, _UP) + _attribute(3, name.encode() + b"\0")
        own += size + _attribute(27, struct.pack("=I", group)) + _attribute(18 | _NESTED, pair)
        self._ask(_NEW_LINK, _CREATE | _EXCLUSIVE, own, f"making {name}")

    def bring_up(self, name: str) -> None:
        """The interface `name` of the current namespace."""
        index = socket.if_nametoindex(name)
        self._ask(_NEW_LINK, 0, struct.pack("=BxHiII", 0, 0, index, _UP, _UP), f"bringing {name} up")

    def add_address(self, name: str, address: str) -> None:
        """`address` alone, of no network, on the interface `name`."""
        packed = socket.inet_aton(address)
        payload = struct.pack("=BBBBI", _INET, 32, 0, 0, socket.if_nametoindex(name))
        payload += _attribute(1, packed) + _attribute(2, packed)
        self._ask(_NEW_ADDRESS, _CREATE | _REPLACE, payload, f"giving {name} {address}")

    def add_route(self, name: str, address: str, gateway: str = "") -> None:
        """To `address` ("" is everywhere) over the interface `name`."""
        scope = 0 if gateway else 253
        payload = struct.pack("=BBBBBBBBI", _INET, 32 if address else 0, 0, 0, 254, 4, scope, 1, 0)
        if address:
            payload += _attribute(1, socket.inet_aton(address))
        if gateway:
            payload += _attribute(5, socket.inet_aton(gateway))
        payload += _attribute(4, struct.pack("=I", socket.if_nametoindex(name)))
        self._ask(_NEW_ROUTE, _CREATE | _REPLACE, payload, f"routing {address or 'everything'} over {name}")


def addresses() -> list[str]:
    """The IPv4 addresses of this namespace, in order."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _ROUTE) as sock:
        payload = struct.pack("=BBBBI", _INET, 0, 0, 0, 0)
        sock.send(_HEADER.pack(16 + len(payload), _GET_ADDRESS, _REQUEST | _DUMP, 1, 0) + payload)
        found: set[str] = set()
        while True:
            for kind, body in _messages(sock.recv(65536)):
                if kind == _DONE:
                    return sorted(found)
                if kind == _ERROR:
                    _complain(body, "listing addresses")
                attributes = _attributes(body[8:])
                packed = attributes.get(2) or attributes.get(1)
                if kind == _NEW_ADDRESS and packed is not None:
                    found.add(socket.inet_ntoa(packed))


def address_changes() -> socket.socket:
    """A socket that becomes readable when an IPv4 address of this namespace comes or goes."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, _ROUTE)
    sock.bind((0, _ADDRESS_CHANGES))
    return sock


def open_log(group: int, copied_bytes: int) -> socket.socket:
    """A socket that gets the beginnings of the packets that rules of this namespace log to `group`, at once."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETFILTER)
    sock.bind((0, 0))
    bind = _attribute(1, b"\1")
    mode = _attribute(2, struct.pack(">IBx", copied_bytes, 2)) + _attribute(5, struct.pack(">I", 1))
    for attributes in (bind, mode):
        payload = struct.pack(">BBH", 0, 0, group) + attributes
        sock.send(_HEADER.pack(16 + len(payload), _LOG_CONFIG, _REQUEST | _ACK, 1, 0) + payload)
        for kind, body in _messages(sock.recv(65536)):
            if kind == _ERROR:
                _complain(body, "asking for logged packets")
    sock.setblocking(False)
    return sock


def logged_packets(data: bytes) -> Iterator[bytes]:
    """The beginnings of the packets in what a socket of `open_log` gave, from their IP header on."""
    for kind, body in _messages(data):
        packet = _attributes(body[4:]).get(9) if kind == _LOG_PACKET else None
        if packet:
            yield packet
