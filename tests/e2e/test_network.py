"""What instances reach over the network, as root and rootless, against servers in a namespace of their own
(docs/contracts/network.md)."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from tests import leaks
from tests.running import Account, Platform, own_account, running
from tests.waiting import wait_until
from tests.world import World, tunnels, world

pytestmark = pytest.mark.e2e

#: Tries what the test sends: [kind, host, port]; tells what came back, or the error's name.
PROBE = """
import errno, socket

def attempt(kind, host, port):
    if kind == "name":
        return sorted({found[4][0] for found in socket.getaddrinfo(host, port, socket.AF_INET)})
    if kind == "tcp6":
        with socket.create_connection((host, port), 5) as sock:
            return sock.recv(100).decode()
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.connect((host, port))
        if kind == "udp":
            sock.send(b"?")
        return sock.recv(100).decode()

def handler(event, context):
    found = []
    for one in event:
        try:
            found.append(attempt(*one))
        except socket.gaierror as error:
            found.append("no name")
        except OSError as error:
            found.append(errno.errorcode.get(error.errno, repr(error)))
    return found
"""
#: What a refusal looks like inside, for TCP and for UDP.
REFUSED = "EHOSTUNREACH"


@pytest.fixture(scope="module")
def servers() -> Iterator[World]:
    if os.geteuid() != 0:
        pytest.skip("makes network namespaces, which needs root: run the tests as root as well")
    with world() as found:
        yield found


@pytest.fixture(scope="module", params=["root", "rootless"])
def networked(request: pytest.FixtureRequest, servers: World, nobody: Account) -> Iterator[Platform]:
    """A platform that listens on every address and asks the world's name server."""
    account = own_account() if request.param == "root" else nobody
    settings = {"FUYUN_NAME_SERVERS": servers.name_servers, "FUYUN_HOST": "0.0.0.0"}
    with tunnels(True), running(account, settings) as platform:
        yield platform


@dataclass
class Attempts:
    """Deploys a function with a policy and has it try things; its instance was a blank, or forked from a template."""

    platform: Platform
    start: str

    @property
    def name(self) -> str:
        """The function's."""
        return f"net-{self.start}"

    def __call__(self, policy: Any, *tries: tuple[str, str, int]) -> list[Any]:
        """What came of each."""
        self.platform.deploy(self.name, PROBE, network=policy, start=self.start, timeout_s=60.0)
        answer = self.platform.invoke(self.name, tries)
        assert answer.status_code == 200, answer.text
        found_starts = {one["start"] for one in self.platform.instances_of(self.name)}
        assert ("template" in found_starts) is (self.start == "template"), found_starts
        found: list[Any] = answer.json()
        return found

    def wait_refusals(self, *expected: str) -> None:
        """Wait until the function's log tells these refusals."""

        def told() -> bool:
            lines = json.loads(self.platform.cli("logs", self.name, "--json").stdout)
            texts = {line["text"] for line in lines if line["stream"] == "platform"}
            return all(f"refused: {one} by policy" in texts for one in expected)

        wait_until(told, f"the log to tell of {expected}", 10)


@pytest.fixture(params=["blank", "template"])
def attempt(request: pytest.FixtureRequest, networked: Platform) -> Iterator[Attempts]:
    """Attempts from an instance that was a blank, and from one of a template."""
    attempts = Attempts(networked, request.param)
    yield attempts
    networked.remove(attempts.name)


def test_without_a_policy_there_is_no_way_out(attempt: Attempts, servers: World) -> None:
    tries = [("tcp", servers.server, 5432), ("udp", servers.public, 5432), ("name", "api.example.test", 443)]
    assert attempt("none", *tries) == ["ENETUNREACH", "ENETUNREACH", "no name"]


def test_a_list_lets_pass_what_it_names_and_nothing_else(
    attempt: Attempts, servers: World, networked: Platform
) -> None:
    policy = {"allow": [f"{servers.server}:5432", f"{servers.server}:6001-6002/udp", "203.0.113.0/24:5433"]}
    found = attempt(
        policy,
        ("tcp", servers.server, 5432), ("udp", servers.server, 6001), ("udp", servers.server, 6002),
        ("tcp", servers.public, 5433),
        ("udp", servers.server, 5432), ("tcp", servers.server, 6001), ("tcp", servers.server, 5433),
        ("tcp", servers.public, 5432), ("tcp", "192.0.2.77", 5432),
    )  # fmt: skip
    assert found == ["tcp 5432", "udp 6001", "udp 6002", "tcp 5433", *[REFUSED] * 5]
    attempt.wait_refusals(f"udp {servers.server}:5432", f"tcp {servers.server}:6001", "tcp 192.0.2.77:5432")


def test_a_name_opens_its_addresses_for_its_ports(attempt: Attempts, servers: World, networked: Platform) -> None:
    found = attempt(
        {"allow": ["api.example.test:5432", "*.in.example.test:*"]},
        ("tcp", servers.server, 5432),  # nobody has asked for the name yet
        ("tcp", "api.example.test", 5432), ("tcp", servers.server, 5432), ("tcp", "api.example.test", 5433),
        ("tcp", "deep.in.example.test", 6001), ("tcp", "evil.test", 5432), ("tcp", "in.example.test", 5432),
    )  # fmt: skip
    assert found == [REFUSED, "tcp 5432", "tcp 5432", REFUSED, "tcp 6001", "no name", "no name"]
    attempt.wait_refusals("name evil.test", "name in.example.test", f"tcp {servers.server}:5433")


def test_a_name_opens_neither_metadata_nor_the_host(attempt: Attempts, servers: World) -> None:
    found = attempt(
        {"allow": ["*.example.test:*"]}, ("name", "metadata.example.test", 80), ("tcp", "metadata.example.test", 80),
        ("tcp", "host.example.test", 22), ("name", "gone.example.test", 1), ("tcp", "169.254.169.254", 80),
    )  # fmt: skip
    assert found == [["169.254.169.254"], REFUSED, REFUSED, "no name", REFUSED]


def test_the_internet_is_public_addresses(attempt: Attempts, servers: World, networked: Platform) -> None:
    before = counted(networked, attempt.name, "tcp")
    found = attempt(
        "internet",
        ("tcp", servers.public, 5432), ("udp", servers.public, 6001), ("tcp", "deep.in.example.test", 5433),
        ("tcp", servers.server, 5432), ("tcp", "api.example.test", 5432), ("tcp", "169.254.169.254", 80),
        ("tcp", "100.64.0.1", 80), ("name", "nowhere.test", 80),
    )  # fmt: skip
    assert found == ["tcp 5432", "udp 6001", "tcp 5433", *[REFUSED] * 4, "no name"]
    attempt.wait_refusals(f"tcp {servers.server}:5432", "tcp 169.254.169.254:80")
    assert counted(networked, attempt.name, "tcp") >= before + 4
    assert counted(networked, attempt.name, "icmp") == 0


def counted(platform: Platform, name: str, protocol: str) -> float:
    """What `/metrics` says of refusals of a function."""
    labels = f'{{function="{name}",namespace="default",protocol="{protocol}"}}'
    for line in platform.http.get(f"{platform.api}/metrics").text.splitlines():
        if line.startswith("fuyun_network_refused_total") and line.split()[0].endswith(labels):
            return float(line.split()[1])
    return 0.0


def greet_one(listener: socket.socket) -> None:
    """Be a server of the host for one connection."""
    connection, _ = listener.accept()
    with connection:
        connection.sendall(b"the host's")


def test_the_platforms_ports_stay_closed_whatever_the_policy(
    attempt: Attempts, servers: World, networked: Platform
) -> None:
    """Another server on the host's address opens to an entry that is this address; the platform's ports do not."""
    ports = [int(url.rpartition(":")[2]) for url in (networked.gateway, networked.api)]
    for port in ports:
        socket.create_connection((servers.near, port), 5).close()  # they do listen there
    tries = [("tcp", address, port) for address in (servers.near, "198.19.0.2") for port in ports]
    assert set(attempt({"allow": [f"{servers.near}:*", "0.0.0.0/0:*"]}, *tries)) == {REFUSED}
    with socket.create_server((servers.near, 0)) as listener, ThreadPoolExecutor(1) as pool:
        pool.submit(greet_one, listener)
        other = listener.getsockname()[1]
        assert attempt({"allow": ["0.0.0.0/0:*", "10.0.0.0/8:*"]}, ("tcp", servers.near, other)) == [REFUSED]
        tries = [("udp", servers.near, other), ("tcp", servers.near, 1), ("tcp", servers.near, other)]
        assert attempt({"allow": [f"{servers.near}:{other}"]}, *tries) == [REFUSED, REFUSED, "the host's"]


def test_an_address_the_host_gets_later_is_closed_too(attempt: Attempts, servers: World, networked: Platform) -> None:
    port = int(networked.api.rpartition(":")[2])
    assert attempt({"allow": ["0.0.0.0/0:*"]}, ("tcp", servers.near, port)) == [REFUSED]
    late = servers.near.rpartition(".")[0] + ".77"
    subprocess.run(["ip", "addr", "add", f"{late}/32", "dev", servers.link], check=True)
    try:
        socket.create_connection((late, port), 5).close()
        wait_until(
            lambda: networked.invoke(attempt.name, [("tcp", late, port)]).json() == [REFUSED], "the address to close"
        )
    finally:
        subprocess.run(["ip", "addr", "del", f"{late}/32", "dev", servers.link], check=True)


def test_ipv6_has_no_way_out(attempt: Attempts) -> None:
    tries = [("tcp6", "2001:db8::1", 80), ("tcp6", "fe80::1%eth0", 80), ("tcp6", "ff02::1%eth0", 80)]
    for found in attempt({"allow": ["0.0.0.0/0:*"]}, *tries):
        assert found in ("ENETUNREACH", "EADDRNOTAVAIL", "EINVAL", "ENODEV", "no name"), found


LISTEN = """
import socket, threading

def serve(listener):
    while True:
        connection, peer = listener.accept()
        connection.sendall(b"neighbour")
        connection.close()

threads = []

def handler(event, context):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("192.0.2.1", 1))
        own = sock.getsockname()[0]
    if not threads:
        threads.append(threading.Thread(target=serve, args=(socket.create_server(("", 7000)),), daemon=True))
        threads[0].start()
    with socket.create_connection((own, 7000), 5) as sock:
        return [own, sock.recv(100).decode()]
"""


def test_neighbours_do_not_reach_each_other(attempt: Attempts, networked: Platform) -> None:
    networked.deploy("listener", LISTEN, network={"allow": ["0.0.0.0/0:*"]})
    try:
        address, said = networked.invoke("listener").json()
        assert said == "neighbour"
        assert attempt({"allow": ["0.0.0.0/0:*"]}, ("tcp", address, 7000), ("udp", address, 7000)) == [REFUSED] * 2
    finally:
        networked.remove("listener")


def interfaces() -> set[str]:
    """Of the host."""
    return {name for _, name in socket.if_nameindex()}


def tables() -> str:
    """nft's, of the host."""
    return subprocess.run(["nft", "list", "ruleset"], check=True, capture_output=True, text=True).stdout


def ways_out(pid: int) -> list[int]:
    """Processes below `pid` that are slirp4netns."""
    return [one for one in leaks.descendants(pid) if "slirp4netns" in leaks.command_of(one)]


def appeared_since(before: set[str]) -> set[str]:
    """Links of this host that were not there, but for those to other tests' servers."""
    return {name for name in interfaces() - before if not name.startswith("fyw")}


@pytest.mark.parametrize("end", ["stop", "kill the platform", "kill the warden"])
def test_nothing_is_left_behind(
    end: str, networked: Platform, servers: World, start_platform: Callable[..., Platform]
) -> None:
    before, loaded = interfaces(), tables()
    policy = {"allow": [f"{servers.server}:5432"]}
    own = start_platform(networked.account, FUYUN_NAME_SERVERS=servers.name_servers)
    own.deploy("net", PROBE, network=policy)
    assert own.invoke("net", [("tcp", servers.server, 5432)]).json() == ["tcp 5432"]
    started = leaks.descendants(own.process.pid)
    assert ways_out(own.process.pid)
    assert (appeared_since(before), tables()) == (set(), loaded)  # not even while it runs
    if end == "kill the warden":
        os.kill(own.host()["warden"]["pid"], signal.SIGKILL)
        wait_until(lambda: not any(leaks.state_of(pid) not in ("", "Z") for pid in started), "its processes to end")
        wait_until(lambda: own.invoke("net", [("tcp", servers.server, 5432)]).text == '["tcp 5432"]', "a new gate")
        return
    if end == "kill the platform":
        own.kill()
    else:
        own.stop()
    wait_until(lambda: not any(leaks.state_of(pid) not in ("", "Z") for pid in started), "its processes to end")
    assert (appeared_since(before), tables()) == (set(), loaded)


def test_instances_are_replaced_when_the_gate_ends(networked: Platform, servers: World) -> None:
    networked.deploy("net", PROBE, network={"allow": [f"{servers.server}:5432"]})
    tries = [("tcp", servers.server, 5432)]
    try:
        assert networked.invoke("net", tries).json() == ["tcp 5432"]
        for pid in ways_out(networked.process.pid):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: networked.invoke("net", tries).text == '["tcp 5432"]', "another gate")
    finally:
        networked.remove("net")


CROWD = """
import socket, time

def handler(event, context):
    with socket.create_connection((event, 5432), 20) as sock:
        time.sleep(1)
        return [context.instance, sock.getsockname()[0], sock.recv(100).decode()]
"""


@pytest.mark.parametrize("start", ["blank", "template"])
def test_many_instances_at_once(start: str, networked: Platform, servers: World) -> None:
    """Each has an address of its own; links are made while others are. Those of a template are forks and spares."""
    policy = {"allow": [f"{servers.server}:5432"]}
    networked.deploy("crowd", CROWD, network=policy, timeout_s=60.0, start=start)
    try:
        with ThreadPoolExecutor(24) as pool:
            asked = [pool.submit(networked.invoke, "crowd", servers.server) for _ in range(24)]
            answers = [one.result().json() for one in asked]
    finally:
        networked.remove("crowd")
    assert {said for _, _, said in answers} == {"tcp 5432"}
    instances, addresses = {one for one, _, _ in answers}, {address for _, address, _ in answers}
    assert len(addresses) == len(instances) == len({(one, address) for one, address, _ in answers}) > 1


HOARD = """
import errno, socket

def handler(event, context):
    held = []
    try:
        while len(held) < 400:
            held.append(socket.create_connection((event, 5432), 10))
    except OSError as error:
        return [len(held), errno.errorcode[error.errno]]
    finally:
        for one in held:
            one.close()
"""


def test_an_instance_cannot_use_up_the_way_out(networked: Platform, servers: World) -> None:
    networked.deploy("hoard", HOARD, network={"allow": [f"{servers.server}:5432"]}, timeout_s=60.0)
    try:
        assert networked.invoke("hoard", servers.server).json() == [256, REFUSED]
    finally:
        networked.remove("hoard")


def test_a_policy_that_cannot_be_enforced_is_refused_at_deploy(
    nobody: Account, start_platform: Callable[..., Platform], servers: World
) -> None:
    with tunnels(False):
        own = start_platform(nobody)
        answer = own.try_deploy("net", PROBE, network="internet")
        assert answer.status_code >= 400
        problem = answer.json()
        assert problem["code"] == "host_unable"
        assert "/dev/net/tun" in problem["detail"]
        assert "fuyun doctor" in problem["hint"]
        own.deploy("net", PROBE)
        assert own.invoke("net", [("tcp", servers.server, 5432)]).json() == ["ENETUNREACH"]
