"""ASGI applications: clauses 9.2 to 9.4 of docs/contracts/runtime.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fuyun.runtime import wire
from tests.runtime.driver import SITE_PACKAGES, Worker, http_head, worker

FASTAPI = """
import asyncio, contextlib
from fastapi import BackgroundTasks, FastAPI, HTTPException, Request, UploadFile
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

events = []

@contextlib.asynccontextmanager
async def lifespan(app):
    print("starting")
    yield {"greeting": "hello"}
    print("stopping")

app = FastAPI(lifespan=lifespan)

class Item(BaseModel):
    name: str
    price: float

@app.get("/")
async def index(request: Request):
    return {"said": request.state.greeting, "url": str(request.url), "root": request.scope["root_path"]}

@app.get("/sync")
def sync(q: int = 0):
    print("in a thread")
    return {"q": q}

@app.post("/items")
async def create(item: Item):
    return item

@app.get("/stream")
async def stream():
    async def pieces():
        for n in range(3):
            yield f"data: {n}\\n\\n"
            await asyncio.sleep(0)
    return StreamingResponse(pieces(), media_type="text/event-stream")

@app.get("/endless")
async def endless():
    async def pieces():
        while True:
            yield b"x" * 65536
    return StreamingResponse(pieces())

@app.post("/upload")
async def upload(request: Request):
    total = 0
    async for piece in request.stream():
        total += len(piece)
    return {"total": total}

@app.get("/background")
async def background(tasks: BackgroundTasks):
    tasks.add_task(print, "after the answer")
    return "ok"

@app.get("/missing")
async def missing():
    raise HTTPException(404, "no such thing")

@app.get("/boom")
async def boom():
    raise ValueError("boom")
"""


def test_fastapi(tmp_path: Path) -> None:
    """[R 1.3] [R 9.2] [R 9.3] [R 9.4] [R 10.2]: an unmodified FastAPI application."""
    with worker(tmp_path, FASTAPI, "app:app", layers=[SITE_PACKAGES], concurrency=10) as w:
        ready = w.wait_ready()
        assert (ready["mode"], ready["style"], ready["hooks"]) == ("asgi", "async", ["pre_stop"])
        assert [line["t"] for line in w.idle_logs] == ["starting"]
        found = w.http("/", base="/fn/default/hello", headers=[["host", "h.test:81"]]).json
        assert found == {
            "said": "hello",
            "url": "http://h.test:81/fn/default/hello/",
            "root": "/fn/default/hello",
        }
        reply = w.http("/sync?q=5")
        assert (reply.json, reply.text, reply.streamed) == ({"q": 5}, ["in a thread"], False)
        assert reply.header("content-type") == "application/json"
        headers = [["content-type", "application/json"]]
        reply = w.http("/items", b'{"name":"n","price":1.5}', method="POST", headers=headers)
        assert reply.json == {"name": "n", "price": 1.5}
        assert w.http("/items", b'{"name":"n"}', method="POST", headers=headers).status == 422
        reply = w.http("/stream")
        assert reply.streamed
        assert reply.header("content-type") == "text/event-stream; charset=utf-8"
        assert reply.body == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
        assert w.http("/missing").status == 404
        assert w.http("/missing").json == {"detail": "no such thing"}
        reply = w.http("/boom")
        assert reply.status == 500
        while not any("ValueError: boom" in text for text in reply.text):
            w.pump()
        reply = w.http("/background")
        while "after the answer" not in reply.text:
            w.pump()
        assert w.hook("pre_stop") == {"ok": True}
        assert [line["t"] for line in w.idle_logs] == ["starting", "stopping"]


def test_upload_with_back_pressure(tmp_path: Path) -> None:
    """[R 5.6]"""
    with worker(tmp_path, FASTAPI, "app:app", layers=[SITE_PACKAGES]) as w:
        stream = w.begin(http_head("/upload", method="POST"), b"abc", end=False)
        sent, total = 0, 5 * wire.WINDOW
        while sent < total:
            size = min(wire.WINDOW + w.credits.get(stream, 0) - sent, 50_000, total - sent)
            if size <= 0:
                w.pump()
                continue
            w.send(wire.BODY, stream, b"x" * size, wire.END if sent + size == total else 0)
            sent += size
        assert w.wait(stream).json == {"total": total + 3}


def read_until(w: Worker, stream: int, size: int) -> None:
    while len(w.replies[stream].body) < size:
        w.pump()


def test_disconnect_ends_a_stream(tmp_path: Path) -> None:
    """[R 5.4] [R 5.5] [R 12.3]"""
    with worker(tmp_path, FASTAPI, "app:app", layers=[SITE_PACKAGES], concurrency=2) as w:
        w.auto_credit = False
        stream = w.begin(http_head("/endless"))
        read_until(w, stream, wire.WINDOW)
        assert len(w.replies[stream].body) == wire.WINDOW
        assert w.http("/sync").json == {"q": 0}
        w.send(wire.CANCEL, stream)
        w.wait(stream)
        assert w.http("/sync").json == {"q": 0}


PLAIN = """
import asyncio

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("no lifespan here")
    kind = scope["path"]
    start = {"type": "http.response.start", "status": 200, "headers": [(b"X-A", b"1")]}
    if kind == "/scope":
        kept = {k: v for k, v in scope.items() if k not in ("extensions",)}
        await send(start)
        await send({"type": "http.response.body", "body": repr(kept).encode()})
    elif kind == "/receive":
        messages = []
        while True:
            messages.append(await receive())
            if not messages[-1].get("more_body"):
                break
        await send(start)
        await send({"type": "http.response.body", "body": repr(messages).encode()})
        print((await receive())["type"])
    elif kind == "/wait":
        print("waiting")
        messages = [await receive(), await receive()]
        print(messages[-1]["type"])
    elif kind == "/never":
        await send(start)
    elif kind == "/nothing":
        pass
    elif kind == "/order":
        await send({"type": "http.response.body", "body": b""})
    elif kind == "/half":
        await send(start)
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ValueError("half way")
    elif kind == "/exit":
        raise SystemExit(5)
    else:
        await send(start)
        await send({"type": "http.response.body", "body": kind.encode()})
"""


def test_protocol_corners(tmp_path: Path) -> None:
    """[R 9.2] [R 9.3]"""
    with worker(tmp_path, PLAIN, "app:app", concurrency=4) as w:
        assert w.wait_ready()["hooks"] == []
        reply = w.http("/receive", b"abc", method="POST")
        assert eval(reply.body) == [{"type": "http.request", "body": b"abc", "more_body": False}]
        while not reply.text:
            w.pump()
        assert reply.text == ["http.disconnect"]
        stream = w.begin(http_head("/wait"))
        while not w.replies[stream].text:
            w.pump()
        w.send(wire.CANCEL, stream)
        reply = w.wait(stream)
        assert reply.text == ["waiting", "http.disconnect"]
        reply = w.http("/half")
        assert (reply.body, reply.streamed) == (b"half", True)
        assert reply.error is not None
        assert reply.error["message"] == "ValueError: half way"
        assert w.http("/%C3%A9").body == "/é".encode()


@pytest.mark.parametrize(
    ("path", "code", "said"),
    [
        ("/never", "bad_response", "without completing its response"),
        ("/nothing", "bad_response", "without starting a response"),
        ("/order", "function_raised", "before the response"),
        ("/exit", "function_exited", "sys.exit(5)"),
    ],
)
def test_broken_applications(tmp_path: Path, path: str, code: str, said: str) -> None:
    """[R 6.3] [R 9.2]"""
    with worker(tmp_path, PLAIN, "app:app") as w:
        reply = w.http(path)
        assert reply.error is not None
        assert reply.error["code"] == code
        assert said in reply.error["message"]


def test_scope(tmp_path: Path) -> None:
    """[R 9.2]"""
    headers = [["host", "h.test:81"], ["x-one", "é"], ["x-one", "b"]]
    with worker(tmp_path, PLAIN, "app:app") as w:
        scope: dict[str, Any] = eval(
            w.http("/scope?a=%20b", base="", headers=headers, scheme="https")
            .body.replace(b"<", b"'<")
            .replace(b">", b">'")
        )
    assert scope == {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "GET",
        "scheme": "https", "path": "/scope", "raw_path": b"/scope", "query_string": b"a=%20b", "root_path": "",
        "headers": [(b"host", b"h.test:81"), (b"x-one", b"\xe9"), (b"x-one", b"b")], "client": ("192.0.2.7", 0),
        "server": ("h.test", 81), "state": {},
    }  # fmt: skip


LIFESPAN = """
import asyncio
async def app(scope, receive, send):
    assert scope["type"] == "lifespan"
    await receive()
    MIDDLE
"""


@pytest.mark.parametrize(
    ("middle", "said"),
    [
        ("await send({'type': 'lifespan.startup.failed', 'message': 'no database'})", "no database"),
        ("await asyncio.sleep(60)", "did not end within 0.2 s"),
    ],
)
def test_start_up_that_fails(tmp_path: Path, middle: str, said: str) -> None:
    """[R 6.5] [R 9.2]"""
    hooks = {"initializer_timeout_s": 0.2}
    with worker(tmp_path, LIFESPAN.replace("MIDDLE", middle), "app:app", hooks=hooks) as w:
        found = w.wait_failed()
        assert found["code"] == "function_init_failed"
        assert said in found["message"]
        w.wait_eof()


def test_fastapi_lifespan_that_raises(tmp_path: Path) -> None:
    """[R 6.5]"""
    code = """
    import contextlib
    from fastapi import FastAPI
    @contextlib.asynccontextmanager
    async def lifespan(app):
        raise RuntimeError("no database")
        yield
    app = FastAPI(lifespan=lifespan)
    """
    with worker(tmp_path, code, "app:app", layers=[SITE_PACKAGES]) as w:
        found = w.wait_failed()
        assert found["code"] == "function_init_failed"
        assert "no database" in found["message"]


def test_marked_and_seen_from_inside(tmp_path: Path) -> None:
    """[R 1.3] [R 7.3]"""
    code = """
    from fuyun.sdk import asgi, current_context
    @asgi
    async def application(where, take, give):
        if where["type"] == "lifespan":
            return
        context = where["extensions"]["fuyun"]["context"]
        assert context is current_context()
        await give({"type": "http.response.start", "status": 200})
        await give({"type": "http.response.body", "body": context.request_id.encode()})
    """
    with worker(tmp_path, code, "app.application") as w:
        assert w.wait_ready()["mode"] == "asgi"
        assert w.http("/", id="r77").body == b"r77"
