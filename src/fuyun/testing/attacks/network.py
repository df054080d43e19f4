"""Sockets: ways to the platform, to the host, to the network, to neighbours."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from contextlib import suppress

from fuyun.testing.attacks.attempt import NEVER, Nothing, attempt, family, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fuyun.testing.attacks.attempt import Facts

_NETWORK, _RAW, _UNIX, _IPC = "network", "raw and packet sockets", "Unix sockets", "System V and POSIX IPC"
_OWN = "a network namespace of its own"
_FAMILY = "seccomp: Unix, IPv4 and IPv6 sockets only"


def _connect(host: str, port: int) -> object:
    with socket.create_connection((host, port), timeout=2):
        return host


@attempt(_NETWORK, "gateway", "connect to the gateway on 127.0.0.1", "ECONNREFUSED", _OWN)
def gateway(facts: Facts) -> object:
    return _connect("127.0.0.1", facts["gateway_port"])


@attempt(_NETWORK, "control API", "connect to the control API on 127.0.0.1", "ECONNREFUSED", _OWN)
def control_api(facts: Facts) -> object:
    return _connect("127.0.0.1", facts["api_port"])


@attempt(
    _NETWORK, "host's address", "connect to a server on an address of the host's", "ENETUNREACH ECONNREFUSED", _OWN
)
def hosts_address(facts: Facts) -> object:
    return _connect(facts["address"], facts["listener_port"])


@attempt(_NETWORK, "metadata", "connect to the cloud's metadata service on 169.254.169.254", "ENETUNREACH", _OWN, NEVER)
def metadata(facts: Facts) -> object:
    return _connect("169.254.169.254", 80)


@attempt(_NETWORK, "datagram", "send a datagram beyond the host", "ENETUNREACH", _OWN, NEVER)
def datagram(facts: Facts) -> object:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        return s.sendto(b"x", ("192.0.2.1", 53))  # TEST-NET-1 (RFC 5737)


@attempt(_NETWORK, "neighbour's port", "connect to a port a neighbour's instance listens on", "ECONNREFUSED", _OWN)
def neighbours_port(facts: Facts) -> object:
    return _connect("127.0.0.1", facts["neighbour_port"])


@attempt(_NETWORK, "neighbour's Runtime API", "ask the Runtime API of a neighbour for its next event", "ECONNREFUSED",
         "every instance has its own, on its own loopback", NEVER)  # fmt: skip
def runtime_api(facts: Facts) -> object:
    own = os.environ.get("AWS_LAMBDA_RUNTIME_API")
    addresses = ["127.0.0.1", "127.0.0.2", "127.0.0.77", facts["address"]]
    refused: OSError = ConnectionRefusedError(111, "nobody but itself")
    for address in addresses:
        if f"{address}:9001" != own:
            try:
                return _connect(address, 9001)
            except OSError as error:
                refused = refused if address == facts["address"] else error
    raise refused


@attempt(_NETWORK, "interface", "change an interface's address (SIOCSIFADDR)", "EPERM", "needs CAP_NET_ADMIN", NEVER)
def interface(facts: Facts) -> object:
    request = struct.pack("16sHH4s8x", b"lo", 2, 0, socket.inet_aton("10.1.2.3")) + bytes(8)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        return fcntl.ioctl(s, 0x8916, request)


@attempt(_NETWORK, "mark", "mark its packets for the host's routing (SO_MARK)", "EPERM", "needs CAP_NET_ADMIN")
def mark(facts: Facts) -> object:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        return s.setsockopt(socket.SOL_SOCKET, 36, 1)


@attempt(_NETWORK, "transparent", "send from others' addresses (IP_TRANSPARENT)", "EPERM", "needs CAP_NET_ADMIN")
def transparent(facts: Facts) -> object:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
        return s.setsockopt(socket.IPPROTO_IP, 19, 1)


@attempt(_NETWORK, "buffers", "take socket buffers beyond the host's limit (SO_RCVBUFFORCE)", "EPERM",
         "needs CAP_NET_ADMIN")  # fmt: skip
def buffers(facts: Facts) -> object:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        return s.setsockopt(socket.SOL_SOCKET, 33, 1 << 20)


@attempt(_RAW, "raw socket", "open a raw IPv4 socket", "EPERM", "needs CAP_NET_RAW")
def raw(facts: Facts) -> None:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close()


@attempt(_RAW, "raw IPv6 socket", "open a raw IPv6 socket", "EPERM", "needs CAP_NET_RAW")
def raw6(facts: Facts) -> None:
    socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58).close()


def _family(name: str, tries: str, family: int, kind: int, protocol: int, outside: str = NEVER) -> None:
    @attempt(_RAW, name, f"open a socket that {tries}", "EAFNOSUPPORT", _FAMILY, outside)
    def run(facts: Facts) -> None:
        os.close(syscall("socket", family, kind, protocol))


_family("packet socket", "sees every packet of an interface", 17, 3, 0x0300, "open")
_family("netlink route", "changes routes and interfaces (netlink)", 16, 3, 0, "open")
_family("netlink uevent", "hears the kernel's device events (netlink)", 16, 2, 15, "open")
_family("netlink audit", "reads the host's audit trail (netlink)", 16, 3, 9)
_family("netlink connector", "hears of every process that starts (netlink)", 16, 2, 11)
_family("vsock", "reaches the hypervisor (vsock)", 40, 1, 0)
_family("crypto socket", "drives the kernel's ciphers (AF_ALG)", 38, 5, 0)
_family("key socket", "manages IPsec keys (AF_KEY)", 15, 3, 2)
_family("bluetooth", "drives Bluetooth", 31, 3, 1)
_family("XDP socket", "bypasses the network stack (AF_XDP)", 44, 3, 0)


@attempt(_RAW, "every family", "open a socket of any family but Unix and IP", "nothing", _FAMILY)
def every_family(facts: Facts) -> object:
    for domain in range(64):
        for kind in (1, 2, 3, 5):
            if domain in (1, 2, 10):
                continue
            try:
                os.close(syscall("socket", domain, kind, 0))
            except OSError:
                continue
            return domain
    raise Nothing


@attempt(_UNIX, "abstract socket", "connect to an abstract socket of the host", "ECONNREFUSED EPERM", _OWN)
def abstract(facts: Facts) -> None:
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(b"\0" + facts["abstract"].encode())


@attempt(_UNIX, "host's abstract names", "learn the names of the host's abstract sockets", "nothing", _OWN)
def abstract_names(facts: Facts) -> object:
    with open("/proc/net/unix") as table:
        if facts["abstract"] in table.read():
            return facts["abstract"]
    raise Nothing


@attempt(_UNIX, "socket file", "connect to a socket in the host's file system", "ENOENT", "the file is not in its root")
def socket_file(facts: Facts) -> None:
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(facts["socket"])


@attempt(_UNIX, "warden", "find the socket to the warden that it was started with", "nothing",
         "closed before the code loads: the channel is the only socket", NEVER)  # fmt: skip
def warden(facts: Facts) -> object:
    found = set()
    for folder in [f"/proc/{pid}/fd" for pid in family(facts)[1:]]:
        for fd in os.listdir(folder):
            with suppress(FileNotFoundError):  # closed since it was listed
                found.add(os.readlink(f"{folder}/{fd}"))
    strange = {one for one in found if one.startswith("socket:")} - _own_sockets()
    if len(strange) > 1:
        return strange
    raise Nothing


def _own_sockets() -> set[str]:
    """The sockets of its own network namespace, as descriptors name them: the warden's and its own end of the channel
    were made in another."""
    found = set()
    for table, column in (("tcp", 9), ("tcp6", 9), ("unix", 6)):
        with open(f"/proc/self/net/{table}") as lines:
            found |= {f"socket:[{line.split()[column]}]" for line in list(lines)[1:]}
    return found


@attempt(_IPC, "host's segment", "attach to a segment of the host's System V shared memory", "ENOENT EPERM",
         "an IPC namespace of its own; seccomp, without control groups")  # fmt: skip
def segment(facts: Facts) -> object:
    return syscall("shmget", facts["shm_key"], 0, 0)


@attempt(_IPC, "message queue", "open a POSIX message queue of the host's", "EPERM", "seccomp: counted for all "
         "instances together; and an IPC namespace of its own")  # fmt: skip
def queue(facts: Facts) -> object:
    return syscall("mq_open", facts["queue"].encode(), os.O_RDWR, 0, None)


@attempt(_IPC, "inherited segment", "find shared memory mapped into it that others can write", "nothing",
         "a zygote maps none", NEVER)  # fmt: skip
def inherited(facts: Facts) -> object:
    with open("/proc/self/maps") as maps:
        for line in maps:
            mode = line.split()[1]
            if mode[1] == "w" and mode[3] == "s":
                return line
    raise Nothing
