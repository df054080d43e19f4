"""The gate's rules, loaded by nft into a network namespace of the test's own."""

from __future__ import annotations

import subprocess

import pytest

from fuyun.domain.functions import Allowed
from fuyun.domain.networks import MOST
from fuyun.drivers.instances import rules

#: Every form of entry; those that overlap are no mistake.
ENTRIES = (
    "10.0.0.0/8:5432", "10.1.0.0/16:5432", "10.1.0.0/16:*", "192.0.2.7:53/udp", "169.254.169.254:80", "0.0.0.0/0:1-9",
    "api.example.com:443", "*.example.com:443", "*.example.com:*/udp",
)  # fmt: skip


def load(*texts: str) -> subprocess.CompletedProcess[str]:
    """Each text a transaction, then a listing of all."""
    script = "set -e\n" + "".join(f"nft -f - <<'END'\n{text}\nEND\n" for text in texts) + "nft list ruleset\n"
    return subprocess.run(
        ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", script],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def listing(*texts: str) -> str:
    """What holds after these transactions."""
    done = load(*texts)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nft_takes_every_rule() -> None:
    openings = rules.openings_of(Allowed(allow=ENTRIES))
    found = listing(
        rules.base() + rules.host(["127.0.0.1", "192.0.2.2"], [8080, 8081]),
        rules.policy(3, openings, internet=False) + rules.policy(4, (), internet=True),
        rules.opened(3, [6, 7], ["203.0.113.1", "203.0.113.2"], 60), rules.opened(3, [6], ["203.0.113.1"], 600),
    )  # fmt: skip
    assert "elements = { 192.0.2.2 }" in found  # of the host; its loopback needs none
    assert "elements = { 8080-8081 }" in found.replace("8080, 8081", "8080-8081")
    assert "3 : jump policy3" in found
    assert "ip daddr 169.254.169.254 tcp dport 80 accept" in found
    assert "203.0.113.1 timeout 10m" in found


def test_the_exact_addresses_come_before_what_is_closed_and_the_rest_after() -> None:
    chain = rules.policy(3, rules.openings_of(Allowed(allow=ENTRIES)), internet=False).splitlines()
    places = {
        text: next(place for place, line in enumerate(chain) if text in line)
        for text in ("192.0.2.7", "169.254.169.254", "@host goto refuse", "169.254.0.0/16 goto", "10.0.0.0/8", "@names")
        if "set" not in text
    }
    closed = places["@host goto refuse"]
    assert max(places["192.0.2.7"], places["169.254.169.254"]) < closed < places["10.0.0.0/8"] < places["@names"]
    assert closed < places["169.254.0.0/16 goto"] < places["10.0.0.0/8"]


def test_a_dropped_policy_leaves_nothing() -> None:
    openings = rules.openings_of(Allowed(allow=ENTRIES))
    before = listing(rules.base())
    after = listing(rules.base(), rules.policy(3, openings, internet=False), rules.drop_policy(3, openings))
    assert after == before


def test_until_the_platforms_ports_are_known_all_are_closed() -> None:
    assert "0-65535" in listing(rules.base() + rules.host(["192.0.2.2"], []))


def test_a_transaction_is_loaded_whole_or_not_at_all() -> None:
    openings = rules.openings_of(Allowed(allow=ENTRIES))
    wrong = rules.policy(3, openings, internet=False) + "add rule inet fuyun nowhere accept\n"
    done = load(rules.base(), f"{wrong}")
    assert done.returncode != 0
    script = rules.policy(3, openings, internet=False)
    listing(rules.base(), script)  # what the failed one would have made stands in nobody's way


def test_the_longest_policy_fits_a_message() -> None:
    from fuyun.runtime import descriptors

    name = ".".join(["x" * 60] * 4)
    openings = rules.openings_of(Allowed(allow=tuple(f"*.{name}{i}:1000-2000/udp" for i in range(MOST))))
    descriptors.pack({"id": "", "rules": rules.policy(65535, openings, internet=False)})


@pytest.mark.parametrize(
    ("address", "openable"),
    [("203.0.113.1", True), ("10.0.0.1", True), ("127.0.0.1", False), ("169.254.169.254", False),
     ("198.18.0.1", False), ("224.0.0.1", False), ("0.0.0.0", False)],
)  # fmt: skip
def test_what_a_name_may_open(address: str, openable: bool) -> None:
    assert rules.openable(address) is openable
