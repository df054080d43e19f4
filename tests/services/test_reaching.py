"""Which addresses the platform may be sent to."""

from __future__ import annotations

import asyncio

import pytest

from fuyun.domain.errors import BadRequest, Forbidden, Unavailable
from fuyun.services.reaching import Reach, networks_of


def reach(allowed: str = "", *found: str) -> str:
    async def resolve(host: str, port: int) -> list[str]:
        if not found:
            raise OSError("no such host")
        return list(found)

    return asyncio.run(Reach(allowed, resolve).address("x.example", 443))


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1"])
def test_public_addresses_are_reached(address: str) -> None:
    assert reach("", address) == address


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
     "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1",
     "::ffff:169.254.169.254", "2002:7f00:1::", "64:ff9b::7f00:1", "fd00:ec2::254", "198.18.0.1", "240.0.0.1",
     "nonsense"],
)  # fmt: skip
def test_others_are_not_unless_they_are_allowed(address: str) -> None:
    with pytest.raises(Forbidden, match="which is not public"):
        reach("", address)
    with pytest.raises(Forbidden):
        reach("192.0.2.0/24", address)


def test_the_operator_allows_networks() -> None:
    assert reach("10.0.0.0/8, ::1", "10.1.2.3") == "10.1.2.3"
    assert reach("10.0.0.0/8 ::1", "::1") == "::1"
    assert reach("127.0.0.1", "::ffff:127.0.0.1") == "::ffff:127.0.0.1"
    with pytest.raises(Forbidden):
        reach("10.0.0.0/8", "10.1.2.3", "127.0.0.1")
    assert len(networks_of("10.0.0.1/8")) == 1
    with pytest.raises(BadRequest, match="'everything' is no network"):
        networks_of("everything")


def test_what_has_no_address() -> None:
    with pytest.raises(Unavailable, match=r"the address of x\.example is not found"):
        reach()
