"""Which addresses the platform itself may be sent to by what tenants write: an address is looked up once, checked, and
that very address is connected to. Otherwise a tenant could have the platform ask what only its host can reach: metadata
services, databases that trust the loopback, routers.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable

from fuyun.domain.errors import BadRequest, Forbidden, Unavailable

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
#: `(host, port)`: its addresses. OSError.
Resolve = Callable[[str, int], Awaitable[list[str]]]


async def resolve(host: str, port: int) -> list[str]:
    """As the host's own resolver says."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for _, _, _, _, address in found]


def networks_of(text: str) -> tuple[Network, ...]:
    """Networks apart by commas or spaces. BadRequest."""
    found = []
    for one in text.replace(",", " ").split():
        try:
            found.append(ipaddress.ip_network(one, strict=False))
        except ValueError as exc:
            raise BadRequest(f"setting 'reach': {one!r} is no network", hint="write 10.0.0.0/8, 127.0.0.1") from exc
    return tuple(found)


class Reach:
    """`allowed`: networks besides what is public, as `networks_of` reads them."""

    def __init__(self, allowed: str = "", resolve: Resolve = resolve) -> None:
        self._allowed = networks_of(allowed)
        self._resolve = resolve

    async def address(self, host: str, port: int) -> str:
        """The address to connect to for a host, by name or by number. Forbidden when one of its addresses may not be
        reached (a name with several would be a lottery), Unavailable when it is not found."""
        try:
            found = await self._resolve(host, port)
        except (OSError, UnicodeError) as exc:
            raise Unavailable(f"the address of {host} is not found: {exc}", hint="check its name") from exc
        if not found:
            raise Unavailable(f"{host} has no address", hint="check its name")
        for text in found:
            if not self._may(text):
                raise Forbidden(
                    f"{host} is at {text}, which is not public", address=text,
                    hint="the platform's operator can allow its network by the setting `reach`",
                )  # fmt: skip
        return found[0]

    def _may(self, text: str) -> bool:
        try:
            address = ipaddress.ip_address(text.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
        if mapped is not None:
            address = mapped
        if any(address.version == network.version and address in network for network in self._allowed):
            return True
        return address.is_global and not address.is_multicast and not address.is_reserved
