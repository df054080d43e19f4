"""Network policies: what may be written, what is told of what may not."""

from __future__ import annotations

from ipaddress import IPv4Network

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuyun.domain.errors import BadRequest
from fuyun.domain.functions import Allowed, FunctionSpec
from fuyun.domain.networks import MOST, Opening, parse_opening
from fuyun.domain.specs import check_spec


@pytest.mark.parametrize(
    ("text", "opening"),
    [
        ("10.0.0.0/8:5432", Opening(IPv4Network("10.0.0.0/8"), "", 5432, 5432, "tcp")),
        ("192.0.2.7:443/tcp", Opening(IPv4Network("192.0.2.7/32"), "", 443, 443, "tcp")),
        ("192.0.2.0/24:6000-6100/UDP", Opening(IPv4Network("192.0.2.0/24"), "", 6000, 6100, "udp")),
        ("0.0.0.0/0:*", Opening(IPv4Network("0.0.0.0/0"), "", 1, 65535, "tcp")),
        ("API.example.com:443", Opening(None, "api.example.com", 443, 443, "tcp")),
        ("*.example.com:*/udp", Opening(None, "*.example.com", 1, 65535, "udp")),
        ("nas:22", Opening(None, "nas", 22, 22, "tcp")),
        ("_sip._tcp.example.com:5060", Opening(None, "_sip._tcp.example.com", 5060, 5060, "tcp")),
    ],
)
def test_entries(text: str, opening: Opening) -> None:
    assert parse_opening(text) == opening


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("example.com", "it names no port"),
        ("10.0.0.0/8", "it names no port"),
        ("10.0.0.1/8:5432", "10.0.0.1/8 is not an address or a network"),
        ("10.0.0.256:1", "10.0.0.256 is not an address"),
        ("192.0.2.7:443/icmp", "'icmp' is not a protocol"),
        ("192.0.2.7:0", "ports 0 are out of range"),
        ("192.0.2.7:65536", "ports 65536 are out of range"),
        ("192.0.2.7:9-3", "ports 9-3 are out of range"),
        ("192.0.2.7:http", "'http' is not a port"),
        ("[2001:db8::1]:443", "IPv6 has no way out"),
        ("2001:db8::/32:443", "IPv6 has no way out"),
        ("127.0.0.1:80", "loopback's"),
        ("198.18.0.5:80", "platform's own links"),
        ("224.0.0.1:80", "multicast"),
        ("a b:1", "'a b' is not a host name"),
        ("a.*.com:1", "is not a host name"),
        ("-a.com:1", "is not a host name"),
        ("example.1:1", "is not a host name"),
        ("x" * 64 + ".com:1", "is not a host name"),
        ("", "it names no port"),
        (":80", "it names no port"),
    ],
)
def test_mistakes_are_told_with_what_was_found(text: str, told: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_opening(text, "network.allow[3]")
    assert caught.value.detail.startswith(f"network.allow[3]: {text!r}: ")
    assert told in caught.value.detail
    assert caught.value.hint


@given(st.text(max_size=40) | st.from_regex(r"[a-z0-9.*/:-]{0,30}", fullmatch=True))
def test_any_text_is_an_entry_or_a_bad_request(text: str) -> None:
    """Nothing that becomes part of a rule holds a character that means something to nft."""
    try:
        found = parse_opening(text)
    except BadRequest:
        return
    assert (found.network is None) == bool(found.name)
    assert 1 <= found.low <= found.high <= 65535
    assert found.protocol in ("tcp", "udp")


def test_a_star_stands_for_what_is_below_a_name() -> None:
    star, name = parse_opening("*.example.com:1"), parse_opening("example.com:1")
    assert [star.covers(one) for one in ("a.example.com", "b.a.example.com", "example.com", "badexample.com")] == [
        True, True, False, False,
    ]  # fmt: skip
    assert [name.covers(one) for one in ("example.com", "a.example.com", "")] == [True, False, False]
    assert not parse_opening("192.0.2.7:1").covers("")


def test_policies_of_a_spec() -> None:
    for network in ("none", "internet", {"allow": ["192.0.2.7:1"]}):
        spec = check_spec(msgspec.convert({"network": network}, FunctionSpec))
        assert msgspec.convert(msgspec.to_builtins(spec), FunctionSpec) == spec
    assert FunctionSpec().network == "none"
    for wrong in ("all", {"deny": []}, ["192.0.2.7:1"]):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"network": wrong}, FunctionSpec)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (FunctionSpec(network="internet", isolation="process"), "isolation 'process' has the host's network"),
        (FunctionSpec(network=Allowed(allow=())), "0 entries"),
        (FunctionSpec(network=Allowed(allow=("192.0.2.7:1",) * (MOST + 1))), f"{MOST + 1} entries"),
        (FunctionSpec(network=Allowed(allow=("192.0.2.7:1", "x"))), "network.allow[1]: 'x'"),
    ],
)
def test_policies_that_cannot_be(spec: FunctionSpec, told: str) -> None:
    with pytest.raises(BadRequest) as caught:
        check_spec(spec)
    assert told in caught.value.detail
