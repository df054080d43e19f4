"""Links, addresses and logged packets in network namespaces of the test's own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap

from hypothesis import given
from hypothesis import strategies as st

from fuyun.runtime import netlink


def inside(code: str) -> str:
    """What the code prints, run as root of a new user and network namespace."""
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": "src"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_pair_with_addresses_and_routes_carries_packets() -> None:
    found = inside(
        """
        import os, socket, subprocess
        from fuyun.runtime import netlink, sandbox, syscalls
        sandbox.loopback_up()
        routes = netlink.Routes()
        routes.add_address("lo", "198.18.0.1")
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        syscalls.call("unshare", syscalls.NEWNET)
        there, peer = os.open("/proc/self/ns/net", os.O_RDONLY), netlink.Routes()
        syscalls.call("setns", home, syscalls.NEWNET)
        routes.make_pair("fy1", 7, "eth0", there, 1400)
        routes.add_route("fy1", "198.18.0.9")
        listener = socket.create_server(("198.18.0.1", 80))
        print(open("/sys/class/net/fy1/mtu").read().strip() if os.path.exists("/sys/class/net/fy1") else 1400)
        syscalls.call("setns", there, syscalls.NEWNET)
        peer.add_address("eth0", "198.18.0.9")
        peer.bring_up("eth0")
        peer.add_route("eth0", "198.18.0.1")
        peer.add_route("eth0", "", "198.18.0.1")
        print(netlink.addresses())
        with socket.create_connection(("198.18.0.1", 80), 5) as sock:
            print(listener.accept()[1][0])
        """
    )
    assert found.splitlines() == ["1400", "['198.18.0.9']", "198.18.0.9"]


def test_what_the_kernel_refuses_is_an_error_that_says_what() -> None:
    found = inside(
        """
        from fuyun.runtime import netlink
        here = open("/proc/self/ns/net")
        routes = netlink.Routes()
        routes.make_pair("a", 0, "b", here.fileno(), 1500)
        for again in (lambda: routes.make_pair("a", 0, "c", here.fileno(), 1500), lambda: routes.bring_up("none")):
            try:
                again()
            except OSError as error:
                print(error.strerror)
        """
    )
    first, second = found.splitlines()
    assert first == "making a: File exists"
    assert second


def test_a_logged_packet_is_read() -> None:
    found = inside(
        """
        import select, socket, subprocess
        from fuyun.runtime import netlink, sandbox
        sandbox.loopback_up()
        rules = '''table inet t { chain out { type filter hook output priority 0;
          udp dport 99 log group 7 drop
          }
        }'''
        subprocess.run(["/usr/sbin/nft", "-f", "-"], input=rules.encode() + bytes([10]), check=True)
        log = netlink.open_log(7, 64)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            try:
                sock.sendto(b"x" * 500, ("127.0.0.5", 99))
            except PermissionError:
                pass
        assert select.select([log], [], [], 5)[0]
        for packet in netlink.logged_packets(log.recv(65536)):
            print(len(packet), socket.inet_ntoa(packet[16:20]), int.from_bytes(packet[22:24], "big"))
        """
    )
    assert found == "64 127.0.0.5 99"


def test_the_hosts_addresses_are_listed() -> None:
    assert "127.0.0.1" in netlink.addresses()
    for address in netlink.addresses():
        socket.inet_aton(address)


@given(st.binary(max_size=200))
def test_any_bytes_are_packets_or_none(data: bytes) -> None:
    """The length fields of a message may claim anything."""
    assert all(isinstance(packet, bytes) for packet in netlink.logged_packets(data))
