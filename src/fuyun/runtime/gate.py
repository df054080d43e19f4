"""The gate: a process in a network namespace of its own, between instances and the world.

It makes a link to each instance whose function may reach something, and loads the rules of what may pass. The way out
is slirp4netns, a program that turns packets into the host's ordinary connections: nothing on the host is changed, and
everything here is gone with this process. It sees no packet and no name: packets are the kernel's, names and logged
refusals the platform's, which gets the sockets for them.

From the platform: `rules {id, rules}` as nft reads them; answered by {id, error}. From the warden: {id, slot, group,
address} [pidfd] makes the link of an instance; answered by {id, error}. First word to the platform: {error} with
[names over UDP, names over TCP, log]. A message that is neither, or comes from the other of the two, is answered with
what is wrong with it, and nothing else is done.
"""

from __future__ import annotations

import os
import resource
import select
import socket
import sys

from fuyun.runtime import descriptors, netlink, sandbox, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Instances have addresses of 198.18.0.0/16 (RFC 2544: no network in earnest has them); the gate is the first one.
ADDRESS, RANGE = "198.18.0.1", "198.18.0.0/15"
_OUTSIDE = "198.19.0.0/24"
#: Group of refused packets in the kernel's log, and how much of each is looked at: both headers.
LOG_GROUP, _COPIED_BYTES = 7, 128
_MTU = 65520
#: How long the way out may take to open, and nft to load rules.
_OPEN_S, _RULES_S = 10.0, 10.0
#: CAP_NET_ADMIN and CAP_SYS_ADMIN (to enter an instance's namespace).
_KEPT = (syscalls.CAP_NET_ADMIN, syscalls.CAP_SYS_ADMIN)
_FOLDERS = ("/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/bin", "/usr/local/sbin")


def find_program(name: str) -> str:
    """Its path, "" where it is not installed."""
    return next((f"{folder}/{name}" for folder in _FOLDERS if os.access(f"{folder}/{name}", os.X_OK)), "")


def unable() -> str:
    """Why there can be no gate on this host, "" when there can."""
    missing = [name for name in ("nft", "slirp4netns") if not find_program(name)]
    if missing:
        return "not installed: {}".format(", ".join(missing))
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as error:
        return f"/dev/net/tun: {error.strerror}"
    return ""


def start(platform: int) -> tuple[int, socket.socket]:
    """Start a gate that serves the platform on the socket `platform`: its pid, and our end of its other socket. Called
    by the warden."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = syscalls.clone(0)
    if pid:
        theirs.close()
        return pid, ours
    status = 70
    try:
        low, high = descriptors.aside((platform, theirs.fileno()))
        for first, end in ((3, low), (low + 1, high), (high + 1, 65536)):
            os.closerange(first, end)
        status = _Gate(socket.socket(fileno=low), socket.socket(fileno=high)).run()
    except BaseException as error:
        print(f"the gate: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def malformed(message: dict[str, Any], passed: int, from_platform: bool) -> str:
    """What is wrong with a message that came with so many descriptors, "" when it is one of the sender's."""
    wanted = {"id", "rules"} if from_platform else {"id", "slot", "group", "address"}
    if set(message) != wanted:
        return "a message with {}, where {} are due".format(", ".join(sorted(message)) or "nothing",
                                                            ", ".join(sorted(wanted)))  # fmt: skip
    if passed != (0 if from_platform else 1):
        return f"a message with {passed} descriptors"
    if not (type(message["id"]) is str and 0 < len(message["id"]) <= 64):
        return "id: it is no name"
    if from_platform:
        return "" if type(message["rules"]) is str and "\0" not in message["rules"] else "rules: it is no text"
    for name in ("slot", "group"):
        if not (type(message[name]) is int and 0 < message[name] < 2**31):
            return f"{name}: it is no number above 0"
    return "" if _is_instances(message["address"]) else f"address: it is not one of {RANGE}"


def _is_instances(address: object) -> bool:
    """Whether an instance may have it: the first half of RANGE, as inet_ntoa(3) writes it, without the gate's own."""
    if type(address) is not str or not address.startswith("198.18.") or address == ADDRESS:
        return False
    try:
        return socket.inet_ntoa(socket.inet_aton(address)) == address
    except (OSError, UnicodeError):
        return False


class _Gate:
    def __init__(self, platform: socket.socket, warden: socket.socket) -> None:
        self._platform = platform
        self._warden = warden
        self._doing = ""  # while it opens: what cannot be done, if it fails now

    def run(self) -> int:
        """Open, then serve until the platform, the warden or the way out ends."""
        try:
            outside = self._open()
        except OSError as error:
            descriptors.send(self._platform, {"error": f"{self._doing}: {error}"})
            return 1
        sockets = {sock.fileno(): sock for sock in (self._platform, self._warden)}
        while True:
            for ready in select.select([*sockets, outside], [], [])[0]:
                if ready == outside:
                    return 1
                answer = self._answer(sockets[ready])
                if answer is None:
                    return 0
                descriptors.send(sockets[ready], answer)

    def _answer(self, sock: socket.socket) -> dict[str, str] | None:
        """Do what the next message on `sock` says; {id, error} for who sent it, None at the end of the connection."""
        try:
            message, passed = descriptors.receive(sock)
        except ValueError as error:
            return {"id": "", "error": str(error)}
        if message is None:
            return None
        try:
            problem = malformed(message, len(passed), sock is self._platform)
            if not problem:
                problem = self._load(message["rules"]) if "rules" in message else self._link(message, passed[0])
        except OSError as error:
            problem = error.strerror or str(error)
        finally:
            for descriptor in passed:
                os.close(descriptor)
        return {"id": message["id"] if type(message.get("id")) is str else "", "error": problem}

    def _open(self) -> int:
        """Namespace, way out, sockets; a descriptor that becomes readable when the way out ends."""
        self._doing = "starting slirp4netns"
        outside, ready, go = _start_outside()
        self._doing = "setting up a network namespace"
        syscalls.call("unshare", syscalls.NEWNET)
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        sandbox.loopback_up()
        self._routes = netlink.Routes()
        self._routes.add_address("lo", ADDRESS)
        # The last: ports from 1 need no right in this namespace, of which the resolver's is one.
        ipv6 = "ipv6/conf/all/disable_ipv6", "ipv6/conf/default/disable_ipv6"
        for name in (*ipv6, "ipv4/ip_forward", "ipv4/ip_unprivileged_port_start"):
            _set(name)
        self._doing = "waiting for slirp4netns"
        os.write(go, b"n")
        os.close(go)
        if not select.select([ready], [], [], _OPEN_S)[0] or not os.read(ready, 1):
            raise OSError(0, "slirp4netns did not open a way out")
        os.close(ready)
        self._doing = "listening for names on port 53 of the namespace"
        names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        for sock in names:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((ADDRESS, 53))
        names[1].listen(16)
        self._doing = "opening the log of refused packets"
        log = netlink.open_log(LOG_GROUP, _COPIED_BYTES)
        self._doing = "giving up rights"
        syscalls.empty_bounding_set(_KEPT)
        syscalls.keep_capabilities(_KEPT)
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        with names[0], names[1], log:
            descriptors.send(self._platform, {"error": ""}, [names[0].fileno(), names[1].fileno(), log.fileno()])
        return outside

    def _load(self, rules: str) -> str:
        """Have nft load `rules`, all or none; what it objects to, or ""."""
        import subprocess

        try:
            done = subprocess.run([find_program("nft"), "-f", "-"], input=rules.encode(), capture_output=True,
                                  timeout=_RULES_S, env={}, check=False)  # fmt: skip
        except subprocess.SubprocessError as error:
            return str(error)
        return done.stderr.decode(errors="replace")[:2000] if done.returncode else ""

    def _link(self, message: dict[str, Any], pidfd: int) -> str:
        """The link of one instance; "". The kernel removes it with the instance's namespace."""
        name = "fy{}".format(message["slot"])
        syscalls.call("setns", pidfd, syscalls.NEWNET)
        try:
            there, inside = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC), netlink.Routes()
        finally:
            syscalls.call("setns", self._home, syscalls.NEWNET)
        try:
            self._routes.make_pair(name, message["group"], "eth0", there, _MTU)
            self._routes.add_route(name, message["address"])
            syscalls.call("setns", there, syscalls.NEWNET)
            try:
                _set("ipv6/conf/eth0/disable_ipv6")
                inside.add_address("eth0", message["address"])
                inside.bring_up("eth0")
                inside.add_route("eth0", ADDRESS)
                inside.add_route("eth0", "", ADDRESS)
            finally:
                syscalls.call("setns", self._home, syscalls.NEWNET)
        finally:
            inside.close()
            os.close(there)
        return ""


def _set(name: str) -> None:
    """Set a switch of the current network namespace; one that is not there (no IPv6) needs no setting."""
    try:
        with open("/proc/sys/net/" + name, "w") as file:
            file.write("1")
    except FileNotFoundError:
        pass


def _start_outside() -> tuple[int, int, int]:
    """A slirp4netns that waits for our namespace: a descriptor for its end, one that it says on that it is ready, and
    one to let it go on by. Its connections are made in the host's network namespace, where this process still is."""
    gate = os.getpid()
    waiting, go = os.pipe()
    ready, told = os.pipe()
    leaving, _held = os.pipe()  # while the other end is open, slirp4netns goes on
    pid = syscalls.clone(0)
    if pid == 0:
        try:
            os.close(go)
            if os.read(waiting, 1):
                _become_outside(gate, told, leaving)
        finally:
            os._exit(70)
    for descriptor in (waiting, told, leaving):
        os.close(descriptor)
    return syscalls.pidfd_open(pid), ready, go


def _become_outside(gate: int, ready: int, leaving: int) -> None:
    empty = os.open("/dev/null", os.O_RDWR)
    for target, source in enumerate(descriptors.aside((empty, empty, empty, ready, leaving))):
        os.dup2(source, target)
    os.closerange(5, 4096)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # one for each connection
    argv = [
        find_program("slirp4netns"), "--configure", f"--mtu={_MTU}", "--disable-host-loopback", "--disable-dns",
        f"--cidr={_OUTSIDE}", "--enable-sandbox", "--enable-seccomp", "--ready-fd=3", "--exit-fd=4",
        "--netns-type=path", f"/proc/{gate}/ns/net", "up",
    ]  # fmt: skip
    os.execve(argv[0], argv, {"PATH": ":".join(_FOLDERS)})
