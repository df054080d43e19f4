"""WSGI applications: clauses 9.1 and 9.3 of docs/contracts/runtime.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fuyun.runtime import wire
from tests.runtime.driver import SITE_PACKAGES, http_head, worker

FLASK = """
from flask import Flask, Response, jsonify, request, abort, redirect, url_for, session

app = Flask(__name__)
app.secret_key = "k"

@app.get("/")
def index():
    session["seen"] = True
    app.logger.warning("flask logs")
    return "hello"

@app.post("/json")
def echo():
    return jsonify(got=request.get_json(), args=request.args.to_dict(flat=False))

@app.route("/stream")
def stream():
    return Response((f"line {n}\\n" for n in range(3)), mimetype="text/plain")

@app.post("/upload")
def upload():
    total = 0
    while piece := request.stream.read(100_000):
        total += len(piece)
    return str(total)

@app.post("/form")
def form():
    return {"name": request.form["name"], "file": request.files["f"].read().decode()}

@app.get("/where")
def where():
    return {"url": request.url, "self": url_for("where"), "root": request.root_path, "remote": request.remote_addr}

@app.get("/missing")
def missing():
    abort(404)

@app.get("/boom")
def boom():
    raise ValueError("boom")
"""


@pytest.mark.parametrize("concurrency", [1, 4])
def test_flask(tmp_path: Path, concurrency: int) -> None:
    """[R 1.3] [R 9.1] [R 9.3]: an unmodified Flask application."""
    with worker(tmp_path, FLASK, "app:app", layers=[SITE_PACKAGES], concurrency=concurrency) as w:
        assert w.wait_ready()["mode"] == "wsgi"
        reply = w.http("/", headers=[["host", "example.test"]])
        assert (reply.status, reply.body, reply.streamed) == (200, b"hello", False)
        assert reply.header("content-type") == "text/html; charset=utf-8"
        assert str(reply.header("set-cookie")).startswith("session=")
        assert any(line["t"].endswith("flask logs") and line["l"] == "warning" for line in reply.logs)

        headers = [["content-type", "application/json"], ["content-length", "7"]]
        reply = w.http("/json?a=1&a=2&b=%C3%A9", b'{"a":1}', method="POST", headers=headers)
        assert reply.json == {"args": {"a": ["1", "2"], "b": ["é"]}, "got": {"a": 1}}

        reply = w.http("/stream")
        assert reply.streamed
        assert reply.chunks == [b"line 0\n", b"line 1\n", b"line 2\n"]

        where = w.http("/where", base="/fn/default/hello", headers=[["host", "h.test:81"]], scheme="https").json
        assert where == {
            "url": "https://h.test:81/fn/default/hello/where",
            "self": "/fn/default/hello/where",
            "root": "/fn/default/hello",
            "remote": "192.0.2.7",
        }
        assert w.http("/missing").status == 404
        reply = w.http("/boom")
        assert reply.status == 500
        assert "ValueError: boom" in "\n".join(reply.text)
        reply = w.http("/", method="HEAD")
        assert (reply.status, reply.body, reply.header("content-length")) == (200, b"", "5")
        assert w.http("/json", method="OPTIONS").header("allow") is not None

        body = (
            b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\nann\r\n'
            b'--x\r\nContent-Disposition: form-data; name="f"; filename="f.txt"\r\n\r\ntext\r\n--x--\r\n'
        )
        headers = [["content-type", "multipart/form-data; boundary=x"], ["content-length", str(len(body))]]
        assert w.http("/form", body, method="POST", headers=headers).json == {"name": "ann", "file": "text"}


@pytest.mark.parametrize("concurrency", [1, 4])
def test_input_streams_with_back_pressure(tmp_path: Path, concurrency: int) -> None:
    """[R 5.6] [R 9.1]: Flask reads an upload larger than the window; credit comes as it reads."""
    with worker(tmp_path, FLASK, "app:app", layers=[SITE_PACKAGES], concurrency=concurrency) as w:
        stream = w.begin(
            http_head("/upload", method="POST", headers=[["transfer-encoding", "chunked"]]), b"", end=False
        )
        sent, total = 0, 5 * wire.WINDOW
        while sent < total:
            size = min(wire.WINDOW + w.credits.get(stream, 0) - sent, 50_000, total - sent)
            if size <= 0:
                w.pump()
                continue
            w.send(wire.BODY, stream, b"x" * size, wire.END if sent + size == total else 0)
            sent += size
        assert w.wait(stream).body == str(total).encode()


PLAIN = """
import sys

class Closing:
    def __init__(self, pieces):
        self.pieces = iter(pieces)
    def __iter__(self):
        return self
    def __next__(self):
        return next(self.pieces)
    def close(self):
        print("closed")

def app(environ, start_response):
    kind = environ["PATH_INFO"]
    if kind == "/write":
        write = start_response("200 OK", [("X", "1")])
        write(b"one")
        write(b"two")
        return [b"three"]
    if kind == "/late":
        def pieces():
            start_response("201 Created", [])
            yield b"late"
        return pieces()
    if kind == "/replace":
        start_response("200 OK", [])
        try:
            1 / 0
        except ZeroDivisionError:
            start_response("500 Oops", [("A", "b")], sys.exc_info())
        return Closing([b"replaced"])
    if kind == "/too-late":
        start_response("200 OK", [])(b"sent")
        try:
            1 / 0
        except ZeroDivisionError:
            start_response("500 Oops", [], sys.exc_info())
        return []
    if kind == "/twice":
        start_response("200 OK", [])
        start_response("200 OK", [])
    if kind == "/silent":
        return [b"x"]
    if kind == "/nothing":
        return []
    if kind == "/text":
        start_response("200 OK", [])
        return ["text"]
    if kind == "/status":
        start_response("fine", [])
        return []
    if kind == "/header":
        start_response("200 OK", [("a", "b\\r\\nc: d")])
        return []
    if kind == "/empty":
        start_response("204 No Content", [("Content-Length", "0")])
        return Closing([])
    if kind == "/lines":
        start_response("200 OK", [])
        lines = environ["wsgi.input"]
        return [repr([lines.readline(), lines.readline(3), lines.read(2), lines.readlines(), lines.read()]).encode()]
    if kind == "/environ":
        start_response("200 OK", [])
        kept = {k: v for k, v in environ.items() if isinstance(v, (str, bool, tuple))}
        return [repr(kept).encode()]
    if kind == "/break":
        start_response("200 OK", [])
        def pieces():
            yield b"first"
            raise ValueError("broke")
        return Closing(pieces())
"""


def test_protocol_corners(tmp_path: Path) -> None:
    """[R 9.1] [R 9.3]"""
    with worker(tmp_path, PLAIN, "app:app") as w:
        reply = w.http("/write")
        assert (reply.status, reply.chunks, reply.header("x")) == (200, [b"one", b"two", b"three"], "1")
        assert (w.http("/late").status, w.http("/late").body) == (201, b"late")
        reply = w.http("/replace")
        assert (reply.status, reply.headers, reply.body, reply.text) == (500, [("a", "b")], b"replaced", ["closed"])
        reply = w.http("/too-late")
        assert reply.body == b"sent"
        assert reply.error is not None
        assert reply.error["error_type"] == "ZeroDivisionError"
        reply = w.http("/empty")
        assert (reply.status, reply.body, reply.streamed, reply.text) == (204, b"", False, ["closed"])
        reply = w.http("/break")
        assert (reply.chunks, reply.text[0]) == ([b"first"], "closed")
        assert reply.error is not None
        assert reply.error["message"] == "ValueError: broke"


@pytest.mark.parametrize(
    ("path", "code", "said"),
    [
        ("/twice", "function_raised", "start_response was called twice"),
        ("/silent", "bad_response", "before it called start_response"),
        ("/nothing", "bad_response", "without calling start_response"),
        ("/text", "bad_response", "yielded a str"),
        ("/status", "bad_response", "'fine'"),
        ("/header", "bad_response", "line break"),
        ("/none", "function_raised", "NoneType"),
    ],
)
def test_broken_applications(tmp_path: Path, path: str, code: str, said: str) -> None:
    """[R 9.1]"""
    with worker(tmp_path, PLAIN, "app:app") as w:
        reply = w.http(path)
        assert reply.error is not None
        assert reply.error["code"] == code
        assert said in reply.error["message"]
        assert w.http("/late").status == 201


def test_input_methods(tmp_path: Path) -> None:
    """[R 9.1]: also when lines are cut across frames."""
    expected = [b"one\n", b"two", b" t", [b"wo\n", b"three"], b""]
    with worker(tmp_path, PLAIN, "app:app") as w:
        stream = w.begin(http_head("/lines", method="POST"), b"on", end=False)
        for piece in (b"e\ntwo t", b"wo", b"\nthr", b"ee"):
            w.send(wire.BODY, stream, piece)
        w.send(wire.BODY, stream, b"", wire.END)
        assert w.wait(stream).body == repr(expected).encode()


def test_environ(tmp_path: Path) -> None:
    """[R 9.1]"""
    headers = [
        ["host", "h.test"], ["x-one", "a"], ["x-one", "b"], ["cookie", "a=1"], ["cookie", "b=2"], ["x_one", "smuggled"],
        ["content-type", "text/x"],
    ]  # fmt: skip
    with worker(tmp_path, PLAIN, "app:app", concurrency=2) as w:
        path = "/environ?a=%20b"
        environ: dict[str, Any] = eval(w.http(path, b"abc", method="PUT", headers=headers, base="/b%20c").body)
        other = w.http("/%C3%A9", headers=[["host", "[::1]:82"]])
    assert other.error is not None
    assert environ == {
        "REQUEST_METHOD": "PUT", "SCRIPT_NAME": "/b c", "PATH_INFO": "/environ", "QUERY_STRING": "a=%20b",
        "REQUEST_URI": "/b%20c/environ?a=%20b", "RAW_URI": "/b%20c/environ?a=%20b", "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "192.0.2.7", "wsgi.version": (1, 0), "wsgi.url_scheme": "http", "wsgi.input_terminated": True,
        "wsgi.multithread": True, "wsgi.multiprocess": True, "wsgi.run_once": False, "HTTP_HOST": "h.test",
        "HTTP_X_ONE": "a,b", "HTTP_COOKIE": "a=1; b=2", "CONTENT_TYPE": "text/x", "CONTENT_LENGTH": "3",
        "SERVER_NAME": "h.test", "SERVER_PORT": "80",
    }  # fmt: skip


def test_the_reference_validator_finds_nothing(tmp_path: Path) -> None:
    """[R 9.1]: wsgiref.validate checks both sides of the protocol."""
    code = """
    from wsgiref.validate import validator
    @validator
    def app(environ, start_response):
        body = environ["wsgi.input"].read(100)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return iter([b"got ", body])
    """
    with worker(tmp_path, code, "app:app") as w:
        reply = w.http("/x", b"abc", method="POST", headers=[["host", "h"]])
        assert reply.error is None
        assert reply.body == b"got abc"


def test_marked_and_seen_from_inside(tmp_path: Path) -> None:
    """[R 1.3] [R 7.3]"""
    code = """
    from fuyun.sdk import current_context, wsgi
    @wsgi
    def application(request, reply):
        assert request["fuyun.context"] is current_context()
        reply("200 OK", [])
        return [current_context().request_id.encode()]
    """
    with worker(tmp_path, code, "app.application") as w:
        assert w.wait_ready()["mode"] == "wsgi"
        assert w.http("/", id="r77").body == b"r77"
