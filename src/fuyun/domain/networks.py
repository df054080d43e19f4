"""What a function may reach over the network: `none`, `internet`, or a list of entries `HOST:PORT[/PROTOCOL]`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from fuyun.domain.errors import BadRequest

#: Entries one function may have.
MOST = 100
#: Addresses that no entry opens, and whose they are.
NEVER = {
    IPv4Network("0.0.0.0/8"): "no host's",
    IPv4Network("127.0.0.0/8"): "the loopback's; a function's own loopback is always there",
    IPv4Network("198.18.0.0/15"): "those of the platform's own links",
    IPv4Network("224.0.0.0/3"): "multicast, broadcast or reserved",
}
#: Addresses of cloud metadata services and the like: only an entry inside opens some.
LINK_LOCAL = IPv4Network("169.254.0.0/16")
#: What is no part of the internet (RFC 6890), besides those above.
PRIVATE = tuple(IPv4Network(text) for text in ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16"))

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.IGNORECASE)
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_SHAPES = "write 10.0.0.0/8:5432, 192.0.2.7:443/tcp, 192.0.2.0/24:6000-6100/udp, api.example.com:443 or *.example.com:*"


@dataclass(frozen=True)
class Opening:
    """One entry: a network or a name (`*.` at its start stands for one label or several), ports, a protocol."""

    network: IPv4Network | None
    name: str
    low: int
    high: int
    protocol: str  # tcp or udp

    def covers(self, name: str) -> bool:
        """Whether `name` (lower case, without the dot at the end) is one it opens."""
        if self.name.startswith("*."):
            return name.endswith(self.name[1:])
        return bool(self.name) and name == self.name


def parse_opening(text: str, path: str = "network.allow") -> Opening:
    """The entry that `text` writes. BadRequest says what was found and what to write."""
    rest, slash, protocol = text.rpartition("/")
    if not slash or protocol.lower() not in ("tcp", "udp"):
        if protocol.isalpha() and ":" in rest:
            raise _wrong(path, text, f"{protocol!r} is not a protocol", "end it with /tcp or /udp; tcp is the default")
        rest, protocol = text, "tcp"
    host, colon, ports = rest.rpartition(":")
    if not colon or not host:
        raise _wrong(path, text, "it names no port", _SHAPES + "; * is every port")
    if ":" in host:
        raise _wrong(path, text, "IPv6 has no way out of a function", "name the IPv4 address, or the name of the host")
    low, high = _parse_ports(path, text, ports)
    network = _parse_network(path, text, host)
    name = "" if network is not None else _parse_name(path, text, host)
    return Opening(network, name, low, high, protocol.lower())


def _wrong(path: str, text: str, detail: str, hint: str) -> BadRequest:
    return BadRequest(f"{path}: {text!r}: {detail}", hint=hint, path=path)


def _parse_ports(path: str, text: str, ports: str) -> tuple[int, int]:
    if ports == "*":
        return 1, 65535
    found = _PORTS.fullmatch(ports)
    if found is None:
        raise _wrong(path, text, f"{ports!r} is not a port", "use 1 to 65535, a range such as 6000-6100, or *")
    low = int(found[1])
    high = int(found[2] or low)
    if not 1 <= low <= high <= 65535:
        raise _wrong(path, text, f"ports {ports} are out of range", "use 1 to 65535, the smaller one first")
    return low, high


def _parse_network(path: str, text: str, host: str) -> IPv4Network | None:
    """The network that `host` writes; None when it is to be a name."""
    if not re.fullmatch(r"[0-9./]+", host):
        return None
    try:
        network = ip_network(host)
    except ValueError as error:
        hint = "write the first address of the network, such as 10.0.0.0/8" if "host bits" in str(error) else _SHAPES
        raise _wrong(path, text, f"{host} is not an address or a network", hint) from error
    assert not isinstance(network, IPv6Network)
    for never, whose in NEVER.items():
        if network.subnet_of(never):
            raise _wrong(path, text, f"addresses of {never} are {whose}", "leave the entry out; nothing can open it")
    return network


def _parse_name(path: str, text: str, host: str) -> str:
    labels = host.removeprefix("*.").split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels) or labels[-1].isdigit():
        raise _wrong(path, text, f"{host!r} is not a host name", _SHAPES)
    return host.lower()
