"""The runtime on every interpreter a function may ask for."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fuyun.runtime import wire
from tests.runtime.driver import http_head, worker

_FOLDERS = [Path("/usr/bin"), Path("/usr/local/bin"), *Path.home().glob(".pyenv/versions/*/bin")]


def interpreters() -> list[str]:
    """One path for each minor version found, 3.9 to 3.14."""
    found = {}
    for minor in range(9, 15):
        for folder in _FOLDERS:
            path = folder / f"python3.{minor}"
            if path.exists():
                found[minor] = str(path)
    return list(found.values())


CODE = """
import asyncio, sys
from fuyun.sdk import current_context

def handler(event, context):
    print("on", sys.version_info[:2])
    if isinstance(event, dict) and event.get("rawPath") == "/fail":
        raise ValueError("x")
    if isinstance(event, dict) and event.get("rawPath") == "/stream":
        return (str(n) for n in range(3))
    return {"id": current_context().request_id, "é": [1, 2.5, None]}

async def ahandler(event, context):
    await asyncio.sleep(0)
    if isinstance(event, dict) and event.get("rawPath") == "/fail":
        raise ValueError("x")
    if isinstance(event, dict) and event.get("rawPath") == "/stream":
        return pieces()
    return {"id": current_context().request_id, "é": [1, 2.5, None]}

async def pieces():
    for n in range(3):
        yield str(n)

def wsgi(environ, start_response):
    start_response("200 OK", [("content-type", "text/plain")])
    return [environ["wsgi.input"].read()]

async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""


@pytest.mark.parametrize("python", interpreters(), ids=lambda path: Path(path).name)
def test_every_mode(tmp_path: Path, python: str) -> None:
    for handler, concurrency in (("handler", 1), ("handler", 3), ("ahandler", 3)):
        with worker(tmp_path, CODE, f"app.{handler}", python=python, concurrency=concurrency) as w:
            ready = w.wait_ready()
            assert ready["python"].startswith(Path(python).name.removeprefix("python"))
            assert ready["forkable"] is True, ready
            reply = w.event(1, id="r5")
            assert reply.json == {"id": "r5", "é": [1, 2.5, None]}
            assert w.http("/stream").chunks == [b"0", b"1", b"2"]
            failed = w.http("/fail").error
            assert failed is not None
            assert (failed["code"], failed["error_type"]) == ("function_raised", "ValueError")
            assert w.hook("pre_stop") == {"ok": True}
            if handler == "handler":
                assert reply.text[0].startswith("on (3, ")
    for handler in ("wsgi", "asgi"):
        with worker(tmp_path, CODE, f"app.{handler}", python=python) as w:
            assert w.wait_ready()["mode"] == handler
            stream = w.begin(http_head(method="POST"), b"ab", end=False)
            if handler == "wsgi":
                w.send(wire.BODY, stream, b"cd", wire.END)
                assert w.wait(stream).body == b"abcd"
            else:
                w.send(wire.BODY, stream, b"", wire.END)
                assert w.wait(stream).body == b"ab"
            assert w.hook("pre_stop") == {"ok": True}


@pytest.mark.parametrize("python", interpreters(), ids=lambda path: Path(path).name)
def test_renewal_works_on_every_version(tmp_path: Path, python: str) -> None:
    """[R 11.2]"""
    code = """
    import random, ssl, tempfile, uuid
    random.random(), uuid.uuid1(), tempfile.mktemp()
    from fuyun.runtime import forking
    def handler(event):
        before = random.getstate()
        forking.renew()
        assert random.getstate() != before
        return [str(uuid.uuid1()), tempfile.mktemp()]
    """
    with worker(tmp_path, code, python=python) as w:
        assert len(set(w.event().json)) == 2


def test_all_modules_are_small_to_import() -> None:
    """A start without a zygote pays for every module: the runtime itself does not pull in asyncio or typing."""
    program = "import sys; from fuyun.runtime import worker; print(*sys.modules)"
    source = str(Path(__file__).parents[2] / "src")
    command = [interpreters()[-1], "-I", "-S", "-c", f"import sys; sys.path.insert(0, {source!r}); {program}"]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert not {"asyncio", "inspect", "typing", "ssl", "dataclasses"} & set(loaded)
