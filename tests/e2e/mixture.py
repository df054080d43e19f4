"""Functions of every runtime for `test_mixed_load.py`: what each is asked, and what it must say to that."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.images import Image, busybox, layer
from tests.runtime.modules import ECHO, text

_WORDCOUNT = Path(__file__).resolve().parents[2] / "examples/wasm-wordcount/wordcount.wasm"


@dataclass(frozen=True)
class Function:
    """One function. It is asked with a text that no other call has, and `answer` makes its answer of the text."""

    name: str
    files: Mapping[str, str | bytes]
    answer: Callable[[str], str | dict[str, Any]]  # a dict: what a JSON object must hold
    spec: Mapping[str, Any] = field(default_factory=dict)
    raises: bool = False  # a text that begins with "raise" is answered with function_raised
    streams: bool = False  # its answers leave as they are written: their end may be missing when an instance dies
    callers: int = 1
    longest: int = 50_000  # letters of two bytes in its longest texts

    def text(self, number: int) -> str:
        """What call `number` sends: mostly short, now and then as long as a chapter of a book, or as the whole."""
        word = "raise" if self.must_raise(number) else "say"
        return f"{word} {self.name} {number} " + "ä" * (self.longest if number % 40 == 7 else number % 300)

    def must_raise(self, number: int) -> bool:
        """Whether the right answer to call `number` is an error of the author's."""
        return self.raises and number % 10 == 3

    def is_right(self, number: int, body: bytes) -> bool:
        """Whether it answers call `number`."""
        expected = self.answer(self.text(number))
        if isinstance(expected, str):
            return body == expected.encode()
        found: dict[str, Any] = json.loads(body)
        return {key: found.get(key) for key in expected} == expected


def backwards(said: str) -> str:
    """What most of them do, because it shows every byte and the end first."""
    return said[::-1]


def in_pieces(said: str) -> str:
    """Backwards by thousands, as those say it that answer piece by piece."""
    return "".join(said[at : at + 1000][::-1] for at in range(0, len(said), 1000))


_SYNC = """
def handler(event, context):
    if event["body"].startswith("raise"):
        raise ValueError("asked to by call " + event["body"].split()[2])
    return event["body"][::-1]
"""
_ASYNC = """
import asyncio

async def handler(event, context):
    await asyncio.sleep(0.005)
    return event["body"][::-1]
"""
_PIECES = """
import time

def handler(event, context):
    said = event["body"]
    for at in range(0, len(said), 1000):
        yield said[at:at + 1000][::-1]
        time.sleep(0.001)
"""
_WSGI = """
def app(environ, start_response):
    said = environ["wsgi.input"].read().decode()
    start_response("200 OK", [("content-type", "text/plain; charset=utf-8")])
    return [said[::-1].encode()]
"""
_API = """#!/usr/bin/python3
import http.client, json, os, sys, threading

BASE = "/2018-06-01/runtime/invocation/"

def answer(api, id, said):
    if said.startswith("raise"):
        told = {"errorType": "ValueError", "errorMessage": "asked to by call " + said.split()[2]}
        api.request("POST", BASE + id + "/error", json.dumps(told))
    else:
        api.request("POST", BASE + id + "/response", said[::-1].encode())

def pieces(api, id, said):
    parts = (said[at:at + 1000][::-1].encode() for at in range(0, len(said), 1000))
    headers = {"Lambda-Runtime-Function-Response-Mode": "streaming", "Content-Type": "text/plain; charset=utf-8",
               "Transfer-Encoding": "chunked"}
    api.request("POST", BASE + id + "/response", parts, headers, encode_chunked=True)

def serve():
    api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    while True:
        api.request("GET", BASE + "next")
        told = api.getresponse()
        event = json.loads(told.read())
        HOW(api, told.getheader("Lambda-Runtime-Aws-Request-Id"), event["body"])
        api.getresponse().read()

for _ in range(THREADS - 1):
    threading.Thread(target=serve).start()
serve()
"""
_SHELL = """#!/bin/sh
set -eu
url="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation"
while true; do
  curl -sSf -D /tmp/headers -o /tmp/event "$url/next"
  id=$(tr -d '\\r' </tmp/headers | sed -n 's/^Lambda-Runtime-Aws-Request-Id: //p')
  curl -sSf -o /dev/null --data-binary @/tmp/event "$url/$id/response"
done
"""
_SERVER = """
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        said = self.rfile.read(int(self.headers["content-length"])).decode()
        self.send_response(200)
        self.send_header("content-type", "text/plain; charset=utf-8")
        PUT_BODY

    def whole(self, body):
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def chunked(self, said):
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for at in range(0, len(said), 1000):
            piece = said[at:at + 1000][::-1].encode()
            self.wfile.write(b"%x\\r\\n%s\\r\\n" % (len(piece), piece))
        self.wfile.write(b"0\\r\\n\\r\\n")

    def log_message(self, *args):
        pass

ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"""
_NODE_SERVER = """
const http = require('http');
http.createServer((request, response) => {
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => {
    response.setHeader('content-type', 'text/plain; charset=utf-8');
    response.end([...Buffer.concat(parts).toString()].reverse().join(''));
  });
}).listen(Number(process.env.PORT));
"""
_NODE = """
const backwards = (said) => [...said].reverse().join('');
exports.promise = async (event) => {
  if (event.body.startsWith('raise')) throw new TypeError('asked to by call ' + event.body.split(' ')[2]);
  return backwards(event.body);
};
exports.callback = (event, context, callback) => setImmediate(() => callback(null, backwards(event.body)));
exports.pieces = async function* (event) {
  for (let at = 0; at < event.body.length; at += 1000) {
    await new Promise((resume) => setTimeout(resume, 1));
    yield backwards(event.body.slice(at, at + 1000));
  }
};
"""
_JAVA = """
import java.util.Map;

public class Told {
    static Object handle(Map<String, Object> event) {
        String said = (String) event.get("body");
        if (said.startsWith("raise")) {
            throw new IllegalArgumentException("asked to by call " + said.split(" ")[2]);
        }
        return new StringBuilder(said).reverse().toString();
    }
}
"""
_MODULE = "export const handler = async (event) => [...event.body].reverse().join('');\n"
#: Echoes, but for a text that begins with an "r".
_TRAPS = text(
    """(local $size i32)
    (local.set $size (call $hear (i32.const 1024) (i32.const 65536)))
    (if (i32.eq (i32.load8_u (i32.const 1024)) (i32.const 114)) (then unreachable))
    (loop $more
      (call $say (i32.const 1) (i32.const 1024) (local.get $size))
      (local.set $size (call $hear (i32.const 1024) (i32.const 65536)))
      (br_if $more (local.get $size)))"""
)


def _words(said: str) -> dict[str, int]:
    return {"lines": said.count("\n"), "words": len(said.split()), "bytes": len(said.encode())}


def _program(how: str, threads: int = 1) -> dict[str, str | bytes]:
    return {"bootstrap": _API.replace("HOW", how).replace("THREADS", str(threads))}


def _server(how: str) -> dict[str, str | bytes]:
    return {"server.py": _SERVER.replace("PUT_BODY", how)}


def _python(code: str, **spec: Any) -> dict[str, Any]:
    return {"files": {"handler.py": code}, "spec": spec}


def _node(handler: str, **spec: Any) -> dict[str, Any]:
    return {"files": {"index.js": _NODE}, "spec": {"runtime": "nodejs", "handler": f"index.{handler}", **spec}}


def _java(**spec: Any) -> dict[str, Any]:
    told = {"runtime": "java", "handler": "Told", "memory_bytes": 192 << 20, **spec}
    return {"files": {"Told.java": _JAVA}, "spec": told}


def _wasm(module: str | bytes, **spec: Any) -> dict[str, Any]:
    name = "app.wat" if isinstance(module, str) else "app.wasm"
    return {"files": {name: module}, "spec": {"runtime": "wasm", "handler": name, **spec}}


_IMAGE_LOOP = rb"""#!/bin/sh
url="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation"
while true; do
  wget -q -S -O /tmp/event "$url/next" 2>/tmp/headers
  id=$(tr -d '\r' </tmp/headers | sed -n 's/^ *Lambda-Runtime-Aws-Request-Id: //p')
  wget -q -O /dev/null --post-file /tmp/event "$url/$id/response"
done
"""


def _image(entrypoint: list[str], **spec: Any) -> dict[str, Any]:
    files = layer({**busybox(), "srv/loop": _IMAGE_LOOP})
    image = Image([files], Entrypoint=entrypoint, WorkingDir="/srv", User="77")
    return {"files": image.layout(), "spec": {"runtime": "image", "image": "./image", **spec}}


_CUSTOM, _WEB = {"runtime": "custom"}, {"runtime": "web", "command": "exec python3 server.py"}
_MANY = {"concurrency": 8}
_MEGABYTE = 500_000  # letters of two bytes

FUNCTIONS = (
    Function("python-sync", answer=backwards, raises=True, longest=_MEGABYTE, **_python(_SYNC)),
    Function("python-fork", answer=backwards, raises=True, **_python(_SYNC, start="template")),
    Function("python-async", answer=backwards, callers=2, **_python(_ASYNC, **_MANY)),
    Function("python-pieces", answer=in_pieces, streams=True, **_python(_PIECES)),
    Function(
        "python-wsgi", answer=backwards, streams=True, callers=2, **_python(_WSGI, handler="handler:app", concurrency=4)
    ),
    Function("custom-python", _program("answer"), backwards, _CUSTOM, raises=True, longest=_MEGABYTE),
    Function("custom-threads", _program("answer", 4), backwards, {**_CUSTOM, "concurrency": 4}, callers=2),
    Function("custom-pieces", _program("pieces"), in_pieces, _CUSTOM, streams=True),
    Function("image-custom", answer=lambda said: {"body": said}, **_image(["/srv/loop"], protocol="custom")),
    Function("custom-shell", {"bootstrap": _SHELL}, lambda said: {"body": said}, _CUSTOM),
    Function(
        "web-python",
        _server("self.whole(said[::-1].encode())"),
        backwards,
        {**_WEB, **_MANY},
        callers=2,
        longest=_MEGABYTE,
    ),
    Function(
        "web-shell", _server("self.whole(said[::-1].encode())"), backwards, {**_WEB, "command": "python3 server.py"}
    ),
    Function("web-pieces", _server("self.chunked(said)"), in_pieces, _WEB, streams=True),
    Function(
        "web-node", {"server.js": _NODE_SERVER}, backwards, {**_WEB, **_MANY, "command": "node server.js"}, callers=2
    ),
    Function("node-promise", answer=backwards, raises=True, longest=_MEGABYTE, **_node("promise")),
    Function("node-callback", answer=backwards, callers=2, **_node("callback", **_MANY)),
    Function("node-pieces", answer=in_pieces, streams=True, **_node("pieces")),
    Function("node-module", {"index.mjs": _MODULE}, backwards, {"runtime": "nodejs", "handler": "index.handler"}),
    Function("java-whole", answer=backwards, raises=True, longest=_MEGABYTE, **_java()),
    Function("java-threads", answer=backwards, callers=2, **_java(concurrency=4)),
    Function("wasm-echo", answer=str, callers=2, longest=_MEGABYTE, **_wasm(ECHO, **_MANY)),
    Function("wasm-traps", answer=str, raises=True, **_wasm(_TRAPS)),
    Function("wasm-words", answer=_words, **_wasm(_WORDCOUNT.read_bytes(), start="template")),
)
