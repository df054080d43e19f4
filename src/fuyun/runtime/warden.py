"""The warden: the only privileged process. It starts zygotes, keeps control groups, tells how instances ended.

Single-threaded, standard library only, PID 1 of a namespace of its own: when it ends, the kernel ends all it started.
It reads messages from the platform (trusted) and zygotes (no user code), from instances only who is speaking, as the
kernel says. It never sees an event, a result or a line of user code.

Messages from the platform (JSON, `descriptors.py`), each with an `id`:
  zygote  {plan, options}                     start a zygote; answered by `zygote`
  gate    {} [socket]                         start a gate to the network (`gate.py`) that serves the socket
  spawn   {zygote, limits} [channel, output]  a blank; answered by `ready` [pidfd]
  fork    {template, limits, tmp_bytes, task, network?, code?} [channel, output]
                                              a copy of a template, or with a folder `code` of a zygote of layers;
                                              answered by `ready` [pidfd]
  limits  {limits, room, network?}            set a blank's limits (`room`: a template's), link it, let it go on
  run     {plan, argv, env, cwd, limits} [output]  a build in a sandbox, answered by `gone`
  freeze  {frozen} | kill {} | stats {}       `network` is as in `Links.link`
To the platform: hello, zygote, listening, ready, failed {message, again?}, gone {status, oom, peak, cpu_us}, stats.
"""

from __future__ import annotations

import errno
import os
import selectors
import signal
import socket
import struct
import time

from fuyun.runtime import cgroups, descriptors, freezing, launching, messages, reaping, syscalls, watchdog
from fuyun.runtime.children import Child, Numbers
from fuyun.runtime.links import Links
from fuyun.runtime.orders import Orders

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

_SO_PASSCRED, _SCM_CREDENTIALS = 16, 2
_BY_SIGKILL = (None, -signal.SIGKILL, 128 + signal.SIGKILL)  # not known, seen, told by the keeper of a program


class Warden:
    """State and the loop."""

    def __init__(self, platform: socket.socket, options: dict[str, Any]) -> None:
        self._platform = platform
        self._options = options
        self._children: dict[str, Child] = {}
        self._zygotes: dict[str, tuple[Child, Orders]] = {}
        self._selector = selectors.DefaultSelector()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._listen(platform.fileno(), self._on_platform)
        self._links = Links(self._listen, self._ignore, self._tell)
        self._watched_s = 0.0
        self._dead_groups: list[cgroups.Group] = []
        self._numbers = Numbers(options["uid_base"] if options["root"] else 0)
        self._going = True
        name = f"{options['name']}.{os.urandom(4).hex()}"
        tree = cgroups.Tree(name) if options["limits"] in ("auto", "cgroup1", "cgroup2") else None
        self._reason = tree.reason if tree else "limits are set to {}".format(options["limits"])
        self._tree = tree if tree and tree.version else None
        self._strays = False  # an instance without namespace and group has ended, and may have left processes
        if self._tree:
            self._tree.sweep_others()

    # --- the loop

    def run(self) -> int:
        """Serve until the platform closes its end; then end and remove everything."""
        version = self._tree.version if self._tree else 0
        bases = self._tree.bases if self._tree else []
        self._tell({"ev": "hello", "cgroup": version, "reason": self._reason, "root": self._options["root"],
                    "groups": bases})  # fmt: skip
        while self._going:
            for key, _ in self._selector.select(self._patience()):
                handler = self._handlers.get(key.fd)
                if handler is not None and handler is key.data:  # an earlier one of this round may have ended it
                    handler()
            self._press_zygotes()
            self._sweep()
            self._watch_memory()
        for child in list(self._children.values()):
            self._kill(child, "shutdown")
        if self._tree:
            for _ in range(200):
                if self._tree.sweep(launching.kill_pid):
                    break
                reaping.reap_all()
                selectors.select.select([], [], [], 0.01)  # type: ignore[attr-defined]
            self._tree.close()
        return 0

    def _patience(self) -> float | None:
        """Seconds until there is something to do without being told."""
        due = [given for _, given in self._zygotes.values() if given.due]
        if self._dead_groups or any(given.waiting for given in due):
            return 0.05
        if due:
            return 0.5
        return None if self._tree or not self._children else watchdog.PERIOD_S

    def _press_zygotes(self) -> None:
        """Send what waited for room; end a zygote that is stopped or stuck. The platform starts another."""
        for zygote, given in self._zygotes.values():
            given.flush()
            why = given.why_stalled(time.monotonic()) if not zygote.killed else ""
            if why:
                self._kill(zygote, why)
                for id_ in given.close():
                    self._fail(self._children[id_], why, again=True)

    def _watch_memory(self) -> None:
        now_s = time.monotonic()
        if not self._tree and now_s - self._watched_s >= watchdog.PERIOD_S:
            self._watched_s = now_s
            watchdog.check(self._children.values(), self._kill)

    def _listen(self, descriptor: int, handler: Callable[[], None]) -> None:
        self._handlers[descriptor] = handler
        self._selector.register(descriptor, selectors.EVENT_READ, handler)

    def _ignore(self, descriptor: int) -> None:
        if self._handlers.pop(descriptor, None) is not None:
            self._selector.unregister(descriptor)

    def _tell(self, message: dict[str, Any], passed: tuple[int, ...] = ()) -> None:
        try:
            descriptors.send(self._platform, message, passed)
        except OSError:
            self._going = False

    def _on_platform(self) -> None:
        try:
            message, passed = descriptors.receive(self._platform)
        except ValueError as error:
            self._tell({"ev": "failed", "id": "", "message": str(error)})
            return
        if message is None:
            self._going = False
            return
        try:
            messages.check(message, len(passed), self._children.__contains__)
            getattr(self, "_do_" + message["op"])(message, passed)
        except messages.Malformed as error:  # nothing was done
            self._tell({"ev": "failed", "id": str(message.get("id"))[:64], "message": str(error)})
        except (OSError, KeyError) as error:
            self._tell({"ev": "failed", "id": message["id"], "message": "{}: {}".format(message["op"], error)})
            self._forget(message["id"])
        finally:
            for descriptor in passed:
                os.close(descriptor)

    # --- what the platform asks for

    def _do_zygote(self, message: dict[str, Any], passed: list[int]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        child = Child(message["id"], "zygote", ours, options=message["options"])
        options = dict(message["options"], wide=self._options["root"])
        argv = [*message["argv"], launching.ZYGOTE % (message["path"], options)]
        with theirs:
            child.pid = launching.launch(
                message, argv, {3: theirs.fileno()}, self._numbers.of_zygote(options["isolation"])
            )
        self._watch(child)
        child.orders = Orders(ours, time.monotonic())
        self._zygotes[child.id] = child, child.orders
        self._listen(ours.fileno(), lambda: self._on_zygote(child))

    def _do_run(self, message: dict[str, Any], passed: list[int]) -> None:
        child = Child(message["id"], "run")
        if self._tree:
            child.group = self._tree.create(child.id)
            self._limit(child, message["limits"])
        try:
            kept = {1: passed[0], 2: passed[0]}
            child.pid = launching.launch(message, message["argv"], kept, self._numbers.all, child.group)
        except OSError:
            if child.group is not None:
                self._dead_groups.append(child.group)
            raise
        self._watch(child)

    def _do_gate(self, message: dict[str, Any], passed: list[int]) -> None:
        self._links.open(passed[0])

    def _do_spawn(self, message: dict[str, Any], passed: list[int]) -> None:
        zygote, given = self._zygotes[message["zygote"]]
        if zygote.control is None or zygote.killed:
            raise ProcessLookupError(errno.ESRCH, "the zygote is ending")
        child, theirs = self._expect(message, zygote.options["isolation"])
        child.zygote = zygote
        order = {"id": child.id, "outside": self._numbers.take()}
        with theirs:
            given.give(child.id, order, [*passed, theirs.fileno()], time.monotonic())

    def _do_fork(self, message: dict[str, Any], passed: list[int]) -> None:
        template = self._children[message["template"]]
        if template.control is None:
            raise ProcessLookupError(errno.ESRCH, "it does not listen any more")
        child, theirs = self._expect(message, "sandbox")
        child.network = message.get("network")
        mounts = [syscalls.tmpfs_descriptor(max(4096, message["tmp_bytes"]))]
        try:
            if "code" in message:
                mounts.append(syscalls.tree_descriptor(message["code"]))
            with theirs:
                given = [*passed, theirs.fileno(), *mounts]
                descriptors.send(template.control, {"task": message["task"]}, given, wait=False)
        finally:
            for mount in mounts:
                os.close(mount)

    def _do_limits(self, message: dict[str, Any], passed: list[int]) -> None:
        child = self._children.get(message["id"])
        if child is None or child.control is None:
            return
        self._limit(child, message["limits"])
        if not message.get("room"):
            self._links.link(child, message.get("network"), lambda problem: self._let_go(child, message, problem))

    def _let_go(self, child: Child, message: dict[str, Any], problem: str) -> None:
        """It is limited, and linked to the network unless there was a problem."""
        if self._children.get(child.id) is not child or child.control is None:
            return  # it has ended meanwhile
        if problem:
            self._fail(child, problem)
            return
        try:
            child.control.send(b"l")
        except OSError:
            return  # it has ended, and `_on_end` is about to tell how
        if not message.get("template"):
            child.control.close()
            child.control = None

    def _do_kill(self, message: dict[str, Any], passed: list[int]) -> None:
        child = self._children.get(message["id"])
        if child is not None:
            self._kill(child, "killed")

    def _do_freeze(self, message: dict[str, Any], passed: list[int]) -> None:
        child = self._children.get(message["id"])
        if child is not None and child.pidfd >= 0:
            freezing.freeze(child, message["frozen"])

    def _do_stats(self, message: dict[str, Any], passed: list[int]) -> None:
        for part in cgroups.stats_in_parts((c.id, c.group) for c in self._children.values()):
            self._tell({"ev": "stats", "id": message["id"], **part})

    # --- children

    def _expect(self, message: dict[str, Any], isolation: str) -> tuple[Child, socket.socket]:
        """A child that will say hello on a socket of its own; returns it and its end of that socket."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setsockopt(socket.SOL_SOCKET, _SO_PASSCRED, 1)
        child = Child(message["id"], "instance", ours, options={"isolation": isolation})
        self._children[child.id] = child
        if self._tree:
            child.group = self._tree.create(child.id)
        self._limit(child, message["limits"])
        self._listen(ours.fileno(), lambda: self._on_hello(child))
        return child, theirs

    def _limit(self, child: Child, limits: dict[str, Any]) -> None:
        child.memory_bytes = limits["memory"]
        if child.group is not None:
            child.group.limits(limits["memory"], limits["cpu"], limits["pids"])

    def _on_hello(self, child: Child) -> None:
        control = child.control
        assert control is not None
        self._ignore(control.fileno())
        self._settle(child)
        try:
            data, ancillary, _, _ = control.recvmsg(64, socket.CMSG_SPACE(12))
            pid = next((struct.unpack("iII", p)[0] for _, kind, p in ancillary if kind == _SCM_CREDENTIALS), 0)
            if data != b"hello" or pid <= 1:
                raise ProcessLookupError(errno.ESRCH, "it ended before it was ready")
            child.pid = pid
            self._watch(child)
            if child.group is not None:
                child.group.attach(pid)
        except OSError as error:
            self._fail(child, error.strerror or str(error))
            return
        self._links.link(child, child.network, lambda problem: self._let_begin(child, problem))

    def _let_begin(self, child: Child, problem: str) -> None:
        """It is in its control group, and linked to the network unless there was a problem."""
        if self._children.get(child.id) is not child or child.control is None:
            return  # it has ended meanwhile
        try:
            if problem:
                raise OSError(0, problem)
            child.control.send(b"g")
        except OSError as error:
            self._fail(child, error.strerror or str(error))
            return
        self._tell({"ev": "ready", "id": child.id}, (child.pidfd,))

    def _settle(self, child: Child) -> None:
        """Its zygote has made it, or will not."""
        zygote, child.zygote = child.zygote, None
        if zygote is not None and zygote.orders is not None:
            zygote.orders.settle(child.id, time.monotonic())

    def _fail(self, child: Child, why: str, again: bool = False) -> None:
        """It did not come to be. `again`: the next try may well do."""
        if child.pidfd >= 0:
            syscalls.pidfd_kill(child.pidfd)
        self._tell({"ev": "failed", "id": child.id, "message": why, "again": again})
        self._forget(child.id)

    def _on_zygote(self, child: Child) -> None:
        """It may say that it is ready, and of what it was told to make that it failed. One that says anything else is
        not what was started."""
        assert child.control is not None
        assert child.orders is not None
        try:
            message, passed = descriptors.receive(child.control)
        except ValueError:
            message, passed = {}, []
        for descriptor in passed:
            os.close(descriptor)
        if message is None:
            self._ignore(child.control.fileno())
            child.control.close()
            child.control = None
        elif message.get("ev") == "zygote" and not child.orders.up:
            child.orders.first_word(time.monotonic())
            self._tell({"ev": "zygote", "id": child.id}, (child.pidfd,))
        elif message.get("ev") == "failed" and child.orders.gave(message.get("id")):
            self._fail(self._children[message["id"]], str(message.get("message"))[:1000])
        elif not child.killed:
            self._kill(child, "the zygote broke its protocol")

    def _watch(self, child: Child) -> None:
        child.pidfd = syscalls.pidfd_open(child.pid)
        self._children[child.id] = child
        self._listen(child.pidfd, lambda: self._on_end(child))

    def _on_end(self, child: Child) -> None:
        status = reaping.status_of(child.pidfd)
        if child.options.get("isolation") == "process" and child.group is None:
            self._strays = True
        if child.orders is not None and not child.orders.up:
            self._fail(child, child.killed or f"the zygote ended before it was ready, with status {status}")
            return
        stats = child.group.stats() if child.group is not None else {}
        oom = (stats.get("oom_kills", 0) > 0 and status in _BY_SIGKILL) or child.killed == "memory"
        self._tell({"ev": "gone", "id": child.id, "status": status, "oom": oom, "killed": child.killed,
                    "peak": stats.get("peak", 0), "cpu_us": stats.get("cpu_us", 0)})  # fmt: skip
        self._forget(child.id)

    def _kill(self, child: Child, why: str) -> None:
        child.killed = child.killed or why
        if child.pidfd < 0:
            self._fail(child, "it was ended before it was ready")
            return
        below = watchdog.tree(child.pid)[1:] if child.options.get("isolation") == "process" else []
        syscalls.pidfd_kill(child.pidfd)
        for pid in below:  # where a namespace ends with its first process, the kernel does this
            launching.kill_pid(pid)
        if child.frozen:  # the freezer of version 1 holds even this signal back
            freezing.freeze(child, False)

    def _forget(self, id_: str) -> None:
        child = self._children.pop(id_, None)
        if child is None:
            return
        self._settle(child)
        if child.orders is not None:
            del self._zygotes[id_]
            child.orders.close()  # those who wait see their sockets close
        if child.pidfd >= 0:
            self._ignore(child.pidfd)
            os.close(child.pidfd)
        if child.control is not None:
            self._ignore(child.control.fileno())
            child.control.close()
        if child.group is not None:
            self._dead_groups.append(child.group)

    def _sweep(self) -> None:
        self._dead_groups = [group for group in self._dead_groups if not reaping.clear(group)]
        watched = {child.pid for child in self._children.values()} | self._links.pids
        if self._strays and 0 not in watched:  # one that is still to say hello is ours, and not known yet
            self._strays = False
            reaping.end_strays(watched)
        reaping.reap_orphans(watched)
