"""A program for tests of the runtime `custom`, which does what each invocation says."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.runtime import driver
from tests.runtime.driver import Worker

#: Does what each invocation says: lines of Python in "do" of the event, or in the body of a request.
BOOTSTRAP = f"""#!{sys.executable}
import base64, http.client, json, os, signal, socket, sys, threading, time

API = os.environ["AWS_LAMBDA_RUNTIME_API"]
RUNTIME = "/2018-06-01/runtime"

def connect():
    return http.client.HTTPConnection(API, timeout=30)

def ask(method, path, body=None, headers={{}}, connection=None):
    connection = connection or ours
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read()

def respond(body, kind="application/json", **more):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ask("POST", RUNTIME + "/invocation/" + id + "/response", data, {{"content-type": kind, **more}})

def stream(pieces, kind="text/plain", trailers=(), mode="streaming"):
    to = connect()
    to.putrequest("POST", RUNTIME + "/invocation/" + id + "/response")
    to.putheader("Lambda-Runtime-Function-Response-Mode", mode)
    to.putheader("Transfer-Encoding", "chunked")
    to.putheader("Content-Type", kind)
    to.endheaders()
    for piece in pieces:
        to.send(b"%x\\r\\n%s\\r\\n" % (len(piece), piece))
    to.send(b"0\\r\\n" + b"".join(line + b"\\r\\n" for line in trailers) + b"\\r\\n")
    return to.getresponse().status

ours = connect()
started = time.time()
exec(os.environ.get("FIRST", ""))
while True:
    status, headers, raw = ask("GET", RUNTIME + "/invocation/next")
    if status == 403:  # an answer that it has sent is not read yet
        continue
    event = json.loads(raw)
    id = headers["Lambda-Runtime-Aws-Request-Id"]
    try:
        exec(event["do"] if "do" in event else event["body"])
    except Exception as error:
        told = {{"errorType": type(error).__name__, "errorMessage": str(error), "stackTrace": ["here"]}}
        ask("POST", RUNTIME + "/invocation/" + id + "/error", json.dumps(told))
"""


@contextmanager
def custom(folder: Path, files: dict[str, str] | None = None, **task: Any) -> Iterator[Worker]:
    """A keeper with this bootstrap; it need not be ready."""
    code = {"bootstrap": BOOTSTRAP, **(files or {})}
    with driver.worker(folder, code, "app.handler", runtime="custom", **task) as worker:
        yield worker


def do(worker: Worker, lines: str, **head: Any) -> driver.Reply:
    return worker.event({"do": lines}, **head)
