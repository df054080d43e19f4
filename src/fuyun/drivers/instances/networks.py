"""What instances may reach: the platform's side of the gate. Policies become rules, instances get addresses, refusals
become lines of the function's log. The gate is started with the first instance that needs it (docs/decisions/0018)."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

import structlog

from fuyun.base import clock, ids
from fuyun.domain.errors import FuyunError, HostUnable, Unavailable
from fuyun.domain.functions import Allowed, Version
from fuyun.domain.networks import Opening
from fuyun.drivers.instances import rules
from fuyun.drivers.instances.process import Process
from fuyun.runtime import descriptors, gate, netlink

if TYPE_CHECKING:
    from fuyun.drivers.instances.ground import Ground
    from fuyun.drivers.instances.resolver import Resolver

_log = structlog.get_logger("fuyun.network")
_FIRST = int(IPv4Address(gate.ADDRESS)) + 1
#: Addresses for instances; they are given round and round, so that one is long unused before it is another's.
_ADDRESSES = 65000
_ANSWER_S = 15.0
#: Policies kept without an instance, so that the next start loads no rules.
_IDLE_POLICIES = 256
#: The same refusal of an instance is told once in so long.
_AGAIN_S = 10.0
_MOST_TOLD = 1000
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp"}


@dataclass(eq=False)
class Policy:
    """What the instances of one function may reach, and who they are."""

    group: int
    internet: bool
    openings: tuple[Opening, ...]
    links: set[str] = field(default_factory=set)  # addresses of instances
    used_s: float = 0.0
    open_until: dict[tuple[int, str], float] = field(default_factory=dict)  # (entry, address) of names


class Networks:
    """One per host."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._ports: tuple[int, ...] = ()
        self._lock = asyncio.Lock()
        self._gate: socket.socket | None = None
        self._answer: asyncio.Future[str] | None = None  # to the question `_asked`
        self._asked = ""
        self._resolver: Resolver | None = None
        self._readers: list[socket.socket] = []
        self._policies: dict[str, Policy] = {}
        self._linked: dict[str, tuple[Process, Policy]] = {}
        self._groups = self._slots = 0
        self._told: dict[tuple[str, str], float] = {}
        self.count_refused = Counter[tuple[str, str, str]]()  # by namespace, function and protocol

    # --- instances

    async def link(self, version: Version, process: Process) -> None:
        """Give the process a link, which the warden is to be told; none with policy `none`. HostUnable says why the
        policy cannot be enforced here."""
        if version.spec.network == "none":
            return
        async with self._lock:
            if self._gate is None:
                await self._open(version)
            policy = await self._find_policy(version)
        self._slots += 1
        while True:
            address = str(IPv4Address(_FIRST + self._slots % _ADDRESSES))
            if address not in self._linked:
                break
            self._slots += 1
        self._linked[address] = process, policy
        policy.links.add(address)
        policy.used_s = clock.mono_s()
        process.link = {"slot": self._slots, "group": policy.group, "address": address}

    def release(self, process: Process) -> None:
        """It is gone."""
        address = process.link["address"] if process.link is not None else ""
        if address in self._linked and self._linked[address][0] is process:
            self._linked.pop(address)[1].links.discard(address)

    def policy_of(self, address: str) -> tuple[Process, Policy] | None:
        """Whose address it is."""
        return self._linked.get(address)

    def refused(self, address: str, what: str) -> None:
        """Count it, and tell the function of the instance with this address, unless it was told just now. `what` begins
        with a protocol, or "name"."""
        found = self._linked.get(address)
        now = clock.mono_s()
        version = found[0].version if found is not None else None
        if version is not None:
            self.count_refused[version.namespace, version.function, what.partition(" ")[0]] += 1
        if found is None or self._told.get((address, what), 0.0) > now:
            return
        if len(self._told) >= _MOST_TOLD:
            self._told = {key: until for key, until in self._told.items() if until > now}
        if len(self._told) < _MOST_TOLD:
            self._told[address, what] = now + _AGAIN_S
            self._ground.tell(found[0], f"refused: {what} by policy")

    # --- policies

    async def _find_policy(self, version: Version) -> Policy:
        """The function's policy, its rules loaded. Others are dropped when there are many that nobody uses."""
        network = version.spec.network
        entries = network.allow if isinstance(network, Allowed) else (network,)
        key = " ".join([version.namespace, version.function, *entries])
        policy = self._policies.get(key)
        if policy is None:
            self._groups += 1
            policy = Policy(self._groups, network == "internet", rules.openings_of(network))
            await self._load(rules.policy(policy.group, policy.openings, internet=policy.internet))
            self._policies[key] = policy
            idle = sorted((p.used_s, k) for k, p in self._policies.items() if not p.links and p is not policy)
            for _, other in idle[: max(0, len(idle) - _IDLE_POLICIES)]:
                old = self._policies.pop(other)
                await self._load(rules.drop_policy(old.group, old.openings))
        policy.used_s = clock.mono_s()
        return policy

    async def open_name(self, policy: Policy, name: str, addresses: list[str], seconds: int) -> bool:
        """Open the addresses of a name for so many seconds; whether the policy names it. `internet` opens nothing more.
        FuyunError when the rules cannot be loaded."""
        indexes = [index for index, one in enumerate(policy.openings) if one.covers(name)]
        allowed = policy.internet or bool(indexes)
        addresses = [address for address in addresses if rules.openable(address)]
        if not indexes or not addresses:
            return allowed
        until = clock.mono_s() + seconds
        keys = [(index, address) for index in indexes for address in addresses]
        if all(policy.open_until.get(key, 0.0) >= until - rules.LEAST_S / 3 for key in keys):
            return True
        async with self._lock:
            await self._load(rules.opened(policy.group, indexes, addresses, seconds + rules.LEAST_S))
        now = clock.mono_s()
        policy.open_until = {key: end for key, end in policy.open_until.items() if end > now}
        policy.open_until.update(dict.fromkeys(keys, until))
        return True

    def protect(self, ports: Iterable[int]) -> None:
        """The platform's own ports: nothing reaches them, whatever its policy. Until this is told, no port of the host
        can be reached."""
        self._ports = tuple(ports)
        self._on_addresses()

    # --- the gate

    async def _open(self, version: Version) -> None:
        reason = gate.unable()
        if reason:
            raise HostUnable(
                f"network: the policy of {version.function!r} cannot be enforced on this host: {reason}",
                hint="apt-get install nftables slirp4netns; `fuyun doctor` says what else is missing; "
                "without a policy (network: none) the function can be deployed",
                feature="network",
            )
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._ground.warden.send({"op": "gate", "id": ids.new_id()}, (theirs.fileno(),))
        ours.setblocking(False)
        try:
            first, passed = await self._first_word(ours)
            if first.get("error") or len(passed) != 3:
                raise HostUnable(f"network: the gate did not open: {first.get('error')}", hint="run `fuyun doctor`")
        except BaseException:
            ours.close()
            raise
        self._gate = ours
        loop = asyncio.get_running_loop()
        loop.add_reader(ours.fileno(), self._on_readable)
        try:
            await self._serve(*passed)
        except BaseException:
            self._on_gate_end()
            raise
        _log.info("gate opened")

    async def _first_word(self, ours: socket.socket) -> tuple[dict[str, Any], list[int]]:
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(ours.fileno(), readable.set)
        try:
            await asyncio.wait_for(readable.wait(), _ANSWER_S)
        except TimeoutError as error:
            raise Unavailable("the gate to the network did not open in time", retry_after_s=1) from error
        finally:
            loop.remove_reader(ours.fileno())
        first, passed = descriptors.receive(ours)
        return first or {"error": "it ended at once"}, passed

    async def _serve(self, names_udp: int, names_tcp: int, log: int) -> None:
        """Load what always holds; serve names; read what was refused; follow the host's addresses."""
        from fuyun.drivers.instances.resolver import Resolver  # brings a library that few platforms need

        loop = asyncio.get_running_loop()
        refusals = socket.socket(fileno=log)
        self._readers.append(refusals)
        self._resolver = Resolver(self, self._ground.options.name_servers)
        await self._resolver.open(socket.socket(fileno=names_udp), socket.socket(fileno=names_tcp))
        changes = netlink.address_changes()
        self._readers.append(changes)
        await self._load(rules.base() + rules.host(netlink.addresses(), self._ports))
        loop.add_reader(refusals.fileno(), self._on_refusals, refusals)
        loop.add_reader(changes.fileno(), self._on_change, changes)

    async def _load(self, text: str) -> None:
        """Have the gate load rules; the caller holds the lock. Unavailable when it is gone, HostUnable when nft
        objects."""
        if self._gate is None:
            raise Unavailable("the gate to the network is gone", hint="try again in a second", retry_after_s=1)
        self._answer, self._asked = asyncio.get_running_loop().create_future(), ids.new_id()
        descriptors.send(self._gate, {"id": self._asked, "rules": text})
        try:
            problem = await asyncio.wait_for(self._answer, _ANSWER_S)
        except TimeoutError as error:
            raise Unavailable("the gate to the network did not answer", retry_after_s=1) from error
        if problem:
            _log.error("rules were refused", problem=problem)
            raise HostUnable(f"network: nft refused the rules: {problem[:300]}", hint="run `fuyun doctor`")

    def _on_readable(self) -> None:
        assert self._gate is not None
        try:
            message, _ = descriptors.receive(self._gate)
        except BlockingIOError:
            return
        if message is None:
            _log.error("the gate ended")
            self._on_gate_end()
        elif self._answer is not None and not self._answer.done() and message["id"] == self._asked:
            self._answer.set_result(message["error"])

    def _on_gate_end(self) -> None:
        """Its links are gone with it: end the instances that had one. The next start opens another."""
        linked = [process for process, _ in self._linked.values()]
        self.close()
        for process in linked:
            process.kill("its link to the network ended")

    def _on_refusals(self, log: socket.socket) -> None:
        try:
            data = log.recv(65536)
        except OSError:  # nothing there, or more than the kernel kept
            return
        for packet in netlink.logged_packets(data):
            if packet[0] >> 4 == 4 and len(packet) >= 20:
                start = (packet[0] & 15) * 4
                protocol = _PROTOCOLS.get(packet[9], f"protocol {packet[9]}")
                port = int.from_bytes(packet[start + 2 : start + 4], "big")
                target = socket.inet_ntoa(packet[16:20]) + (f":{port}" if packet[9] in (6, 17) else "")
                self.refused(socket.inet_ntoa(packet[12:16]), f"{protocol} {target}")

    def _on_change(self, changes: socket.socket) -> None:
        try:
            changes.recv(65536)
        except OSError:
            pass
        self._on_addresses()

    def _on_addresses(self) -> None:
        if self._gate is not None:
            self._ground.scope.start(self._load_host(), "addresses")

    async def _load_host(self) -> None:
        try:
            async with self._lock:
                await self._load(rules.host(netlink.addresses(), self._ports))
        except FuyunError as error:
            _log.warning("the host's addresses are not up to date", error=error.detail)
            self._on_gate_end()

    async def wait_closed(self) -> None:
        """Let go of everything, and wait until nothing runs any more."""
        resolver = self._resolver
        self.close()
        if resolver is not None:
            await resolver.wait_closed()

    def close(self) -> None:
        """Let go of everything; the gate ends."""
        loop = asyncio.get_running_loop()
        for sock in self._readers:
            loop.remove_reader(sock.fileno())
            sock.close()
        self._readers.clear()
        if self._resolver is not None:
            self._resolver.close()
            self._ground.scope.start(self._resolver.wait_closed(), "names")
            self._resolver = None
        if self._gate is not None:
            loop.remove_reader(self._gate.fileno())
            self._gate.close()
            self._gate = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Unavailable("the gate to the network ended", retry_after_s=1))
        self._policies.clear()
        self._linked.clear()
        self._told.clear()
