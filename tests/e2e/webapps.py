"""Servers for `test_web.py`: programs that know nothing of where they run."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXPRESS = ROOT / "tests/e2e/express"

#: Streams bodies both ways and misbehaves on request. Threads: Python's own server.
PLAIN = """
import hashlib, json, os, signal, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GO = threading.Event()

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, body, status=200):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        what, _, rest = self.path.strip("/").partition("/")
        if what == "bytes":
            self.send_response(200)
            self.send_header("content-length", rest)
            self.end_headers()
            for _ in range(int(rest) // 65536):
                self.wfile.write(bytes(65536))
        elif what == "sleep":
            time.sleep(float(rest))
            self.answer(os.environ["FUYUN_INSTANCE"])
        elif what == "half":
            self.wfile.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 100\\r\\n\\r\\nhalf of it")
            self.wfile.flush()
            os._exit(3)
        elif what == "print":
            print("a word for the log", flush=True)
            GO.wait(60)
            self.answer("printed")
        elif what == "go":
            GO.set()
            self.answer("gone on")
        elif what == "status":
            self.answer("as asked", int(rest))
        else:
            self.answer({"path": self.path, "headers": dict(self.headers)})

    def do_POST(self):
        digest, left = hashlib.sha256(), 0
        if self.headers.get("transfer-encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                digest.update(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
        else:
            left = int(self.headers["content-length"])
            while left:
                piece = self.rfile.read(min(left, 65536))
                digest.update(piece)
                left -= len(piece)
        self.answer({"sha256": digest.hexdigest(), "type": self.headers["content-type"]})

    def log_message(self, *args):
        pass

class Server(ThreadingHTTPServer):
    request_queue_size = 128

def serve():
    Server(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"""
SERVE = "serve()\n"

FLASK = """
from flask import Flask, jsonify, request

app = Flask(__name__)
entries = []

@app.route("/", methods=["GET", "POST"])
def book():
    if request.method == "POST":
        entries.append(request.form["entry"])
    return jsonify(entries)

@app.route("/boom")
def boom():
    raise RuntimeError("no paper")
"""

CHAT = """
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse

app = FastAPI()
room: set[WebSocket] = set()

@app.get("/members")
async def members() -> int:
    return len(room)

@app.get("/events")
async def events() -> StreamingResponse:
    async def tell():
        for number in range(5):
            yield f"id: {number}\\ndata: {{}}\\n\\n"
    return StreamingResponse(tell(), media_type="text/event-stream")

@app.websocket("/chat/{name}")
async def chat(socket: WebSocket, name: str) -> None:
    await socket.accept()
    room.add(socket)
    try:
        while True:
            text = await socket.receive_text()
            if text == "leave":
                await socket.close(4000, "as you wish")
                return
            for member in list(room):
                await member.send_text(f"{name}: {text}")
    except WebSocketDisconnect:
        pass
    finally:
        room.discard(socket)
"""

_C = r"""
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One connection at a time, one request each: the smallest HTTP/1.0 server. */
int main(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(getenv("PORT")))};
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 64)) return 1;
    for (int count = 1;; count++) {
        int client = accept(listener, 0, 0);
        char request[65536], body[128];
        size_t had = 0;
        while (had < sizeof request - 1) {
            ssize_t got = read(client, request + had, sizeof request - 1 - had);
            if (got <= 0) break;
            had += got;
            request[had] = 0;
            if (strstr(request, "\r\n\r\n")) break;
        }
        if (had) {
            int size = snprintf(body, sizeof body, "answer %d\n", count);
            dprintf(client, "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", size, body);
        }
        close(client);
    }
}
"""


def compiled(folder: Path) -> bytes:
    """The C server as an executable."""
    source, made = folder / "server.c", folder / "server"
    source.write_text(_C)
    subprocess.run(["gcc", "-O1", "-Wall", "-Werror", "-o", str(made), str(source)], check=True)
    return made.read_bytes()


def express() -> dict[str, str | bytes]:
    """The Express application with its packages."""
    packages = ROOT / ".state/express"
    lock = packages / "package-lock.json"
    if not lock.is_file() or lock.read_bytes() != (EXPRESS / "package-lock.json").read_bytes():
        raise RuntimeError("Express is not installed for the tests; run: bash scripts/programs.sh")
    files: dict[str, str | bytes] = {"server.js": (EXPRESS / "server.js").read_text()}
    for path in sorted((packages / "node_modules").rglob("*")):
        if path.is_file() and not path.is_symlink():
            files[str(path.relative_to(packages))] = path.read_bytes()
    return files
