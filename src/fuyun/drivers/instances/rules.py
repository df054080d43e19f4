"""The gate's rules, in nft's language (nft(8)). Text only; the gate loads each text as one transaction, all or none.

An instance's link is in the interface group of its policy, so a start loads no rules. What no rule lets pass is
answered with "administratively prohibited" and its beginning logged, at most a few times a second for each link.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address

from fuyun.domain.functions import Allowed, Network
from fuyun.domain.networks import LINK_LOCAL, NEVER, PRIVATE, Opening, parse_opening
from fuyun.runtime import gate

#: How long an address stays open for which a name was asked, at least and at most; in between its record's own time.
LEAST_S, MOST_S = 30, 3600

#: Connections an instance may have at once: each is a descriptor of the way out, which all share.
MOST_CONNECTIONS = 256

_BASE = """
add table inet fuyun
delete table inet fuyun
table inet fuyun {{
  set host {{ type ipv4_addr; }}
  set ports {{ type inet_service; flags interval; elements = {{ 0-65535 }}; }}
  set told {{ type iface_index; size 65535; flags dynamic,timeout; timeout 1m; }}
  set open {{ type iface_index; size 65535; flags dynamic; }}
  map policies {{ type devgroup : verdict; }}
  chain refuse {{
    update @told {{ iif limit rate 10/second burst 20 packets }} log group {group}
    reject with icmpx admin-prohibited
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    fib saddr . iif oif 0 drop
    meta nfproto != ipv4 goto refuse
    oifname != "up" goto refuse
    ip daddr {{ {never} }} goto refuse
    ct state new add @open {{ iif ct count over {most} }} goto refuse
    ip daddr @host tcp dport @ports goto refuse
    iifgroup vmap @policies
    goto refuse
  }}
  chain input {{
    type filter hook input priority filter; policy drop;
    iifname {{ "lo", "up" }} ct state established,related accept
    iifname {{ "lo", "up" }} drop
    fib saddr . iif oif 0 drop
    ip daddr {address} meta l4proto {{ tcp, udp }} th dport 53 accept
    ip daddr {address} icmp type echo-request accept
    goto refuse
  }}
  chain leave {{
    type nat hook postrouting priority srcnat;
    oifname "up" masquerade
  }}
}}
"""


def base() -> str:
    """What holds for every instance; nobody may reach anything yet."""
    never = ", ".join(str(network) for network in NEVER)
    return _BASE.format(most=MOST_CONNECTIONS, group=gate.LOG_GROUP, never=never, address=gate.ADDRESS)


def host(addresses: Iterable[str], ports: Iterable[int]) -> str:
    """The host's own addresses, and the platform's ports on them (none known: all ports)."""
    lines = ["flush set inet fuyun host", "flush set inet fuyun ports"]
    outward = [text for text in addresses if not IPv4Address(text).is_loopback]
    if outward:
        lines.append(f"add element inet fuyun host {{ {', '.join(outward)} }}")
    shown = ", ".join(str(port) for port in sorted(set(ports))) or "0-65535"
    lines.append(f"add element inet fuyun ports {{ {shown} }}")
    return "\n".join(lines) + "\n"


def openings_of(policy: Network | Allowed) -> tuple[Opening, ...]:
    """The entries of a policy, in its order."""
    return tuple(parse_opening(text) for text in policy.allow) if isinstance(policy, Allowed) else ()


def policy(group: int, openings: Sequence[Opening], *, internet: bool) -> str:
    """The chain of one policy, for links in interface group `group`, and its sets of addresses of names.

    The host's own addresses open to an entry that is that very address, link-local ones to an entry among them; nothing
    else reaches either, not even by a name."""
    exact, wide, sets, named = [], [], [], []
    for index, one in enumerate(openings):
        ports = f"{one.protocol} dport {one.low if one.low == one.high else f'{one.low}-{one.high}'} accept"
        if one.network is None:
            sets.append(f"add set inet fuyun {_set(group, index)} {{ type ipv4_addr; size 4096; flags timeout; }}")
            named.append(f"ip daddr @{_set(group, index)} {ports}")
        elif one.network.prefixlen == 32 or one.network.subnet_of(LINK_LOCAL):
            exact.append(f"ip daddr {one.network} {ports}")
        else:
            wide.append(f"ip daddr {one.network} {ports}")
    if internet:
        private = ", ".join(str(network) for network in PRIVATE)
        wide.append(f"ip daddr != {{ {private} }} accept")
    closed = ["ip daddr @host goto refuse", f"ip daddr {LINK_LOCAL} goto refuse"]
    chain = f"policy{group}"
    rules = [f"add rule inet fuyun {chain} {rule}" for rule in (*exact, *closed, *wide, *named)]
    known = f"add element inet fuyun policies {{ {group} : jump {chain} }}"
    return "\n".join([*sets, f"add chain inet fuyun {chain}", *rules, known]) + "\n"


def drop_policy(group: int, openings: Sequence[Opening]) -> str:
    """Undoes `policy`."""
    chain = f"policy{group}"
    lines = [f"delete element inet fuyun policies {{ {group} }}", f"delete chain inet fuyun {chain}"]
    named = [index for index, one in enumerate(openings) if one.network is None]
    return "\n".join([*lines, *(f"delete set inet fuyun {_set(group, index)}" for index in named)]) + "\n"


def opened(group: int, indexes: Iterable[int], addresses: Sequence[str], seconds: int) -> str:
    """The addresses of a name, for these entries of the policy, for so long from now. An element that is there keeps
    its old time unless it is deleted first, which needs it to be there."""
    lines = []
    for index in indexes:
        name = _set(group, index)
        listed = ", ".join(addresses)
        timed = ", ".join(f"{address} timeout {seconds}s" for address in addresses)
        lines += [f"add element inet fuyun {name} {{ {listed} }}", f"delete element inet fuyun {name} {{ {listed} }}"]
        lines.append(f"add element inet fuyun {name} {{ {timed} }}")
    return "\n".join(lines) + "\n"


def openable(address: str) -> bool:
    """Whether a name may open it: not the loopback's, not the platform's, no metadata service's."""
    found = IPv4Address(address)
    return not any(found in network for network in (*NEVER, LINK_LOCAL))


def _set(group: int, index: int) -> str:
    return f"names{group}_{index}"
