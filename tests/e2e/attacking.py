"""What attacks are made against: things of the host to find, a neighbour to reach, and how an attempt is deployed."""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from fuyun.runtime import cgroups
from fuyun.testing import attacks
from fuyun.testing.attacks.attempt import syscall
from tests.running import Platform

#: Outcomes of this session by column and name; `make attacks` makes the table of them.
found: dict[str, dict[str, str]] = {}
#: Where `make attacks` wants the outcomes. Its run leaves nothing to be shown by another class.
FOR_THE_TABLE = os.environ.get("FUYUN_ATTACKS", "")

_NEIGHBOUR = """
import os, socket, tempfile

listener = None

def handler(event, context):
    global listener
    if event.get("show"):
        return context.credential
    if event.get("settle") and listener is None:
        listener = socket.create_server(("127.0.0.1", event["settle"]["port"]))
        with open(event["settle"]["tmp"], "w") as file:
            file.write("the neighbour's")
    if event.get("leave"):
        os.unlink(event["leave"])
    return sum(event.get("add", []))
"""


def code(handler: str) -> dict[str, str | bytes]:
    """The attacks as a function's code; `handler` is the module of theirs that holds it."""
    folder = Path(attacks.__file__).parent
    # Inside, `fuyun` is the runtime's: the package stands beside it, under its last name.
    texts = {path.name: path.read_text().replace("fuyun.testing.attacks", "attacks") for path in folder.glob("*.py")}
    files: dict[str, str | bytes] = {f"attacks/{name}": text for name, text in texts.items()}
    return {**files, "handler.py": f"from attacks.{handler} import handler\n"}


def note(column: str, name: str, outcome: str) -> None:
    """Keep an outcome, and put all in the file that `make attacks` asks for."""
    kept = found.setdefault(column, {})
    kept[name] = outcome if kept.get(name, outcome) == outcome else f"{kept[name]}, {outcome}"
    if FOR_THE_TABLE:
        Path(FOR_THE_TABLE).write_text(json.dumps(found))


def column(platform: Platform, isolation: str, runtime: str = "python3") -> str:
    """Where outcomes of a class, or of a runtime in it, at a platform belong."""
    where = isolation if runtime == "python3" else runtime
    return f"{where}, {'rootless' if platform.account.uid else 'root'}"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _own_address() -> str:
    """An address of this host that is not loopback; loopback where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 53))  # nothing is sent
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


@contextmanager
def _belongings(platform: Platform) -> Iterator[dict[str, Any]]:
    """Files, sockets, shared memory and a queue of the host, open to everyone."""
    token = secrets.token_hex(8)
    with ExitStack() as stack:
        marker, shm = platform.root / f"marker-{token}", Path(f"/dev/shm/fuyun-{token}")
        for path in (marker, shm):
            path.write_text("the host's")
            path.chmod(0o644)
        stack.callback(shm.unlink)
        platform.root.chmod(0o755)
        listener = stack.enter_context(socket.create_server(("0.0.0.0", 0)))
        abstract, filed = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        for unix, name in ((abstract, f"\0fuyun-{token}"), (filed, str(platform.root / "socket"))):
            stack.enter_context(unix)
            unix.bind(name)
            unix.listen()
        (platform.root / "socket").chmod(0o666)
        stack.callback((platform.root / "socket").unlink)
        key = secrets.randbits(30)
        segment = syscall("shmget", key, 4096, 0o1666)
        stack.callback(syscall, "shmctl", segment, 0, None)
        queue = f"fuyun-{token}"
        before = os.umask(0)
        os.close(syscall("mq_open", queue.encode(), os.O_CREAT | os.O_RDWR, 0o666, None))
        os.umask(before)
        stack.callback(syscall, "mq_unlink", queue.encode())
        yield {
            "marker": str(marker), "shm": shm.name, "abstract": f"fuyun-{token}", "address": _own_address(),
            "socket": str(platform.root / "socket"), "shm_key": key, "queue": queue, "hostname": os.uname().nodename,
            "listener_port": listener.getsockname()[1],
        }  # fmt: skip


@contextmanager
def scene(platform: Platform, isolation: str) -> Iterator[dict[str, Any]]:
    """The facts that attempts are told, while all they speak of is there: the host's things and a neighbour of the same
    class in another tenant's namespace."""
    token = secrets.token_hex(8)
    port, tmp = _free_port(), f"/tmp/neighbour-{token}"
    made = platform.http.post(f"{platform.api}/v1/namespaces", json={"name": "tenant-b"})
    assert made.is_success, made.text
    files = {"handler.py": _NEIGHBOUR, f"{token}.txt": "the neighbour's"}
    try:
        platform.deploy("neighbour", files, namespace="tenant-b", isolation=isolation, start="blank", max_instances=1,
                        permissions={"invoke": ["neighbour"]})  # fmt: skip
        settled = platform.invoke("neighbour", {"settle": {"port": port, "tmp": tmp}}, namespace="tenant-b")
        assert settled.is_success, settled.text
        shown = platform.invoke("neighbour", {"show": True}, namespace="tenant-b")
        host = platform.host()
        kinds = ("mnt", "pid", "net", "ipc", "uts", "user", "cgroup")
        with _belongings(platform) as things:
            yield {
                **things, "data": str(platform.data), "config": str(platform.root / "home/config/fuyun/config.yaml"),
                "gateway_port": int(platform.gateway.rpartition(":")[2]), "neighbour_port": port,
                "api_port": int(platform.api.rpartition(":")[2]), "neighbour_tmp": tmp,
                "neighbour_file": f"{token}.txt", "credential": shown.json(),
                "namespaces": {k: os.readlink(f"/proc/self/ns/{k}") for k in kinds},
                "pids": {
                    "platform": platform.process.pid, "warden": host["warden"]["pid"],
                    "zygote": host["zygotes"][0]["pid"], "operator": os.getpid(),
                    "neighbour": platform.instances_of("neighbour", "tenant-b")[0]["pid"],
                },
            }  # fmt: skip
        platform.invoke("neighbour", {"leave": tmp}, namespace="tenant-b")
    finally:
        platform.remove("neighbour", namespace="tenant-b")
        platform.http.delete(f"{platform.api}/v1/namespaces/tenant-b")


def greet(platform: Platform) -> None:
    """The neighbour of `scene` still adds up."""
    answer = platform.invoke("neighbour", {"add": [20, 22]}, namespace="tenant-b")
    assert answer.status_code == 200, answer.text
    assert answer.json() == 42


@contextmanager
def delegated_group(uid: int) -> Iterator[None]:
    """For the time of the block what this process starts is in control groups that belong to `uid`, one in every
    hierarchy, as a service manager would delegate them."""
    name, mine = f"fuyun-rig-{os.getpid()}-delegated", os.getpid()
    points: dict[str, str] = {}
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, kind, options = line.split()[:4]
        if kind.startswith("cgroup"):
            points |= dict.fromkeys(options.split(",") if kind == "cgroup" else [""], point)
    moved: list[tuple[Path, Path]] = []
    try:
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            home = Path(f"{points.get(controllers.split(',')[0])}{path}")
            if controllers not in ("", *cgroups.V1_CONTROLLERS) or not (home / "cgroup.procs").exists():
                continue
            group = home / name
            group.mkdir()
            moved.append((home, group))
            for each in (group, *(group / file for file in ("cgroup.procs", "cgroup.subtree_control"))):
                if each.exists():
                    os.chown(each, uid, uid)
            (group / "cgroup.procs").write_text(str(mine))
        yield
    finally:
        for home, group in moved:
            (home / "cgroup.procs").write_text(str(mine))
            for folder in [*sorted(group.rglob("*/"), reverse=True), group]:
                folder.rmdir()
