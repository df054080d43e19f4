"""Servers: a program that listens on $PORT, cold and warm, and the same program asked without a platform before it."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.measure import Row, Sample
from bench.rows.cold import first_calls
from bench.rows.warm import latency
from bench.stage import BARE_PYTHON, Stage
from tests.waiting import wait_until

#: As little as answers requests on kept connections: what is measured is the way there.
_SERVER = f"""#!{BARE_PYTHON} -IS
import os, socket, threading

ANSWER = b'HTTP/1.1 200 OK\\r\\ncontent-type: application/json\\r\\ncontent-length: 17\\r\\n\\r\\n{{"hello":"world"}}'

def serve(connection):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    data = b""
    while piece := connection.recv(65536):
        data += piece
        if data.endswith(b"\\r\\n\\r\\n"):
            connection.sendall(ANSWER)
            data = b""
    connection.close()

listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],)).start()
"""
_FILES = {"bootstrap": _SERVER}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def _bare_server() -> Iterator[tuple[str, int]]:
    """The same program as a process like any other; its address."""
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "bootstrap")
        program.write_text(_SERVER)
        program.chmod(0o755)
        process = subprocess.Popen([program], env={"PATH": os.environ["PATH"], "PORT": str(port)})
        try:
            wait_until(lambda: _answers(port), "the server to listen")
            yield "127.0.0.1", port
        finally:
            process.kill()
            process.wait(10)


def cold(stage: Stage) -> Sample:
    """To the moment the server listens, and through it."""
    reference = [BARE_PYTHON, "-I", "-S", "-c", "import socket, threading"]
    return first_calls(stage, "bench-web", _FILES, 20, reference, runtime="web")


def warm(stage: Stage) -> Sample:
    """Through the platform, and straight to the same program."""
    return latency(stage, "bench-web", _FILES, 1000, _bare_server, runtime="web")


ROWS = (
    Row(
        name="cold-web", what="cold start p50, HTTP to HTTP, an HTTP server in Python",
        reference='python3 -I -S -c "import socket, threading"', unit="ms", budget=3.0, goal=1.5, better="lower",
        measure=cold,
    ),
    Row(
        name="latency-web", what="warm latency p50, one client, an HTTP server in Python",
        reference="the same server, asked directly", unit="µs", budget=5.0, goal=2.0, better="lower",
        measure=warm,
    ),
)  # fmt: skip
