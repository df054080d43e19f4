"""Objects put and got over S3, one after another, beside a file that is written and synced, and beside nginx."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from bench.measure import Row, Sample
from bench.stage import STATE, Stage
from tests.waiting import wait_until

KIB, MIB = 1024, 2**20
#: Size -> how many are measured in one repetition.
SIZES = {KIB: 300, MIB: 100, 100 * MIB: 5}
_BUCKET = "bench-objects"
_counter = itertools.count()


def _label(size: int) -> str:
    return f"{size // MIB}m" if size >= MIB else f"{size // KIB}k"


def _body(size: int) -> bytes:
    """No two alike: what is there already is not written again."""
    return next(_counter).to_bytes(8, "big") + os.urandom(min(size - 8, MIB)) * (size // MIB or 1) + bytes(size % 8)


class Client:
    """One kept connection that asks and reads; nothing is parsed but the head."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._room = bytearray(MIB)

    def ask_ms(self, method: str, target: str, port: int, body: bytes = b"") -> float:
        """Milliseconds from the first byte sent to the last one received. ValueError for another status than 200."""
        head = f"{method} {target} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-length: {len(body)}\r\n\r\n"
        began = time.perf_counter_ns()
        self._socket.sendall(head.encode())
        if body:
            self._socket.sendall(body)
        answer = b""
        while b"\r\n\r\n" not in answer:
            piece = self._socket.recv(65536)
            if not piece:
                raise ValueError(f"the server left in the middle of {answer[:200]!r}")
            answer += piece
        lines, _, rest = answer.partition(b"\r\n\r\n")
        if b" 200 " not in lines[:14]:
            raise ValueError(f"{method} {target[:80]}: {answer[:400]!r}")
        size = int(lines.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        left = size - len(rest)
        while left:
            left -= self._socket.recv_into(self._room, min(left, MIB))
        return (time.perf_counter_ns() - began) / 1e6

    def close(self) -> None:
        """Leave."""
        self._socket.close()


@contextmanager
def _bucket(stage: Stage) -> Iterator[tuple[Client, int, Callable[[str, str], str]]]:
    """A client of S3, its port, and what gives the target of a method and a key: presigned ahead, as signing is the
    client's work."""
    platform = stage.platform
    base = f"{platform.api}/v1/namespaces/default/buckets"
    port = int(platform.s3.rpartition(":")[2])
    platform.http.put(f"{base}/{_BUCKET}").raise_for_status()

    def target(method: str, key: str) -> str:
        told = platform.http.post(f"{base}/{_BUCKET}/presign", json={"method": method, "key": key, "lasts_s": 3600})
        parts = urlsplit(str(told.raise_for_status().json()["url"]))
        return f"{parts.path}?{parts.query}"

    client = Client(port)
    try:
        yield client, port, target
    finally:
        client.close()
        found = platform.http.get(f"{base}/{_BUCKET}/objects").json()["items"]
        for one in found:
            platform.http.delete(f"{base}/{_BUCKET}/objects", params={"key": one["key"]})
        platform.http.delete(f"{base}/{_BUCKET}")


def _written_ms(size: int, times: int) -> float:
    """A file written and synced on the platform's disk: the median of `times`."""
    folder = STATE / "files"
    folder.mkdir(parents=True, exist_ok=True)
    spent: list[float] = []
    try:
        for number in range(times):
            body = _body(size)
            began = time.perf_counter_ns()
            with (folder / str(number)).open("wb", buffering=0) as file:
                file.write(body)
                os.fsync(file.fileno())
            spent.append((time.perf_counter_ns() - began) / 1e6)
            (folder / str(number)).unlink()
    finally:
        shutil.rmtree(folder)
    return statistics.median(spent)


def _puts(size: int) -> Callable[[Stage], Sample]:
    def measure(stage: Stage) -> Sample:
        times = stage.times(SIZES[size])
        reference = _written_ms(size, times)
        with _bucket(stage) as (client, port, target):
            where = target("PUT", "k")
            client.ask_ms("PUT", where, port, _body(size))
            ours = statistics.median(client.ask_ms("PUT", where, port, _body(size)) for _ in range(times))
        return Sample(ours, reference)

    return measure


def _nginx() -> Path:
    """The program: the machine's, or Debian's package unpacked below .state, which needs no right."""
    found = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if found:
        return Path(found)
    place = (STATE / "nginx").resolve()
    if not (place / "usr/sbin/nginx").exists():
        place.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "-qq", "nginx"], cwd=place, check=True, capture_output=True)
        subprocess.run(["dpkg-deb", "-x", next(place.glob("nginx_*.deb")), "."], cwd=place, check=True)
    return place / "usr/sbin/nginx"


@contextmanager
def _served_by_nginx(size: int) -> Iterator[int]:
    """nginx, which serves one file of that size with sendfile; its port."""
    folder = (STATE / "served").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "k").write_bytes(_body(size))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    (folder / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {folder}/pid; error_log stderr crit; user root;\n"
        "events {}\n"
        f"http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;\n"
        f"  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;\n"
        f"  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;\n"
        f"  server {{ listen 127.0.0.1:{port}; root {folder}; }} }}\n"
    )
    process = subprocess.Popen([_nginx(), "-c", folder / "nginx.conf", "-p", folder], stderr=subprocess.DEVNULL)

    def listens() -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(listens, "nginx to listen", 10)
        yield port
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder)


def _gets(size: int) -> Callable[[Stage], Sample]:
    def measure(stage: Stage) -> Sample:
        times = stage.times(SIZES[size])
        with _served_by_nginx(size) as port:
            client = Client(port)
            client.ask_ms("GET", "/k", port)
            reference = statistics.median(client.ask_ms("GET", "/k", port) for _ in range(times))
            client.close()
        with _bucket(stage) as (client, port, target):
            client.ask_ms("PUT", target("PUT", "k"), port, _body(size))
            where = target("GET", "k")
            client.ask_ms("GET", where, port)
            ours = statistics.median(client.ask_ms("GET", where, port) for _ in range(times))
        return Sample(ours, reference)

    return measure


def _row(verb: str, size: int, budget: float, goal: float) -> Row:
    what, reference = {
        "put": (f"S3 PUT of {_label(size)}B, durable, one client", "a file of that size written and synced"),
        "get": (f"S3 GET of {_label(size)}B, one client", "nginx with sendfile, the same size"),
    }[verb]
    measure = _puts(size) if verb == "put" else _gets(size)
    return Row(
        name=f"s3-{verb}-{_label(size)}", what=what, reference=reference, unit="ms", budget=budget, goal=goal,
        better="lower", measure=measure,
    )  # fmt: skip


ROWS = (
    _row("put", KIB, 25.0, 10.0),
    _row("put", MIB, 10.0, 4.0),
    _row("put", 100 * MIB, 4.0, 2.0),
    _row("get", KIB, 40.0, 15.0),
    _row("get", MIB, 10.0, 3.0),
    _row("get", 100 * MIB, 2.0, 1.2),
)
