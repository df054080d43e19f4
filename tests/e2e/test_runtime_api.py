"""Conformance to the AWS Lambda Runtime API: AWS's own clients, unmodified, behind the real gateway [R 14]."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.running import Platform

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

#: What `pip install awslambdaric` brings.
PACKAGES = ("awslambdaric", "simplejson", "snapshot-restore-py")
HANDLER = """
import json, logging, os, time

started = []

def handler(event, context):
    started.append(1)
    asked = json.loads(event["body"])
    kind = asked["kind"]
    if kind == "raise":
        raise KeyError("no " + asked["id"])
    if kind == "hang":
        time.sleep(600)
    if kind == "exit":
        os._exit(7)
    if kind == "large":
        return {"id": asked["id"], "size": len(asked["data"]), "back": "y" * asked["back"]}
    if kind == "response":
        return {"statusCode": 207, "headers": {"x-id": asked["id"]}, "body": "multi"}
    print("working on", asked["id"])
    left = context.get_remaining_time_in_millis()
    return {"id": asked["id"], "request": context.aws_request_id, "name": context.function_name,
            "memory": context.memory_limit_in_mb, "left": 0 < left <= 30_000, "nth": len(started)}
"""


NODE_HANDLER = """
let started = 0
exports.handler = async (event, context) => {
  started += 1
  const asked = JSON.parse(event.body)
  switch (asked.kind) {
    case 'raise': throw new RangeError('no ' + asked.id)
    case 'hang': return new Promise((resolve) => setTimeout(resolve, 600000))
    case 'exit': process.exit(7)
    case 'large': return {id: asked.id, size: asked.data.length, back: 'y'.repeat(asked.back)}
    case 'response': return {statusCode: 207, headers: {'x-id': asked.id}, body: 'multi'}
  }
  console.log('working on', asked.id)
  const left = context.getRemainingTimeInMillis()
  return {id: asked.id, request: context.awsRequestId, name: context.functionName,
          memory: context.memoryLimitInMB, left: 0 < left && left <= 30000, nth: started}
}
"""
#: The same file's other handler: streams as many pieces as it is asked for; -1: fails after half of one.
STREAMING = """
const {once} = require('events')
exports.stream = awslambda.streamifyResponse(async (event, stream) => {
  const n = Number(event.queryStringParameters.n)
  const out = awslambda.HttpResponseStream.from(stream, {statusCode: 206, headers: {'x-n': String(n)}})
  out.write('')
  for (let piece = 0; piece < n; piece++)
    if (!out.write(`${n}:${piece};` + 's'.repeat(50000))) await once(out, 'drain')
  if (n < 0) {
    out.write('half')
    throw new Error('in the middle')
  }
  out.end()
})
"""
ROOT = Path(__file__).resolve().parents[2]


def client_files() -> dict[str, bytes]:
    """The installed client, file by file."""
    found: dict[str, bytes] = {}
    for name in PACKAGES:
        for file in importlib.metadata.distribution(name).files or ():
            path = Path(str(file.locate()))
            if path.is_file() and ".." not in str(file) and path.suffix != ".pyc":
                found[str(file)] = path.read_bytes()
    return found


def node_files() -> dict[str, bytes]:
    """What scripts/ric.sh has built of AWS's Node client, in a folder `ric`."""
    done = subprocess.run(["bash", ROOT / "scripts/ric.sh"], stdout=subprocess.PIPE, text=True, check=True)
    built = Path(done.stdout.strip())
    parts = ("package.json", "bin/index.mjs", "dist/index.mjs", "dist/rapid-client.node")
    return {f"ric/{part}": (built / part).read_bytes() for part in parts}


PYTHON = f'#!/bin/sh\nexec {os.path.realpath(sys.executable)} -m awslambdaric "$_HANDLER"\n'
NODE = f'#!/bin/sh\nexec {shutil.which("node")} ric/bin/index.mjs "$_HANDLER"\n'


def slow(function: str) -> str:
    """The name of the same with little time."""
    return f"{function}-slow"


def flow(function: str) -> str:
    """The name of the one that streams."""
    return f"{function}-flow"


@pytest.fixture(scope="module", params=["ric", "node-ric"])
def function(request: pytest.FixtureRequest, platform: Platform) -> Iterator[str]:
    """The name of a function behind one of the two clients. AWS's client for Python does not stream answers."""
    name: str = request.param
    if name == "ric":
        files = {**client_files(), "bootstrap": PYTHON, "app.py": HANDLER}
    else:
        files = {**node_files(), "bootstrap": NODE, "app.js": NODE_HANDLER + STREAMING}
    names = {name: "app.handler", slow(name): "app.handler"} | ({} if name == "ric" else {flow(name): "app.stream"})
    for one, handler in names.items():
        timeout_s = 0.5 if one == slow(name) else 30.0
        spec: dict[str, Any] = {"memory_bytes": 128 << 20, "timeout_s": timeout_s}
        platform.deploy(one, files, runtime="custom", handler=handler, **spec)
    yield name
    for one in names:
        platform.remove(one)


def ask(http: httpx.Client, url: str, kind: str, id_: str, **more: Any) -> httpx.Response:
    return http.post(url, json={"kind": kind, "id": id_, **more}, headers={"content-type": "application/json"})


def check(answer: httpx.Response, kind: str, id_: str, function: str) -> None:
    """The answer is the one this invocation must get."""
    if kind == "raise":
        assert answer.status_code == 502, answer.text
        assert answer.json()["code"] == "function_raised"
        assert answer.json()["detail"] == (f"KeyError: 'no {id_}'" if function == "ric" else f"RangeError: no {id_}")
    elif kind == "exit":
        assert answer.status_code == 502, answer.text
        assert (answer.json()["code"], answer.json()["exit_code"]) == ("function_exited", 7)
    elif kind == "hang":
        assert answer.status_code == 504, answer.text
        assert answer.json()["code"] == "function_timed_out"
    elif kind == "response":
        assert (answer.status_code, answer.headers["x-id"], answer.text) == (207, id_, "multi")
    elif kind == "large":
        assert answer.status_code == 200, answer.text[:200]
        found = answer.json()
        assert (found["id"], found["size"], len(found["back"])) == (id_, 1 << 20, 2 << 20)
    else:
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert (found["id"], found["name"], found["memory"], found["left"]) == (id_, function, "128", True)
        assert found["request"] == answer.headers["fuyun-request-id"]


def more_of(kind: str) -> dict[str, Any]:
    return {"data": "x" * (1 << 20), "back": 2 << 20} if kind == "large" else {}


def check_hanging(http: httpx.Client, platform: Platform, function: str, id_: str) -> None:
    """It times out, and what is asked next meets another process."""
    url = platform.url(slow(function))
    check(ask(http, url, "hang", id_), "hang", id_, slow(function))
    assert ask(http, url, "echo", id_).json()["nth"] == 1


def check_stream(http: httpx.Client, platform: Platform, function: str, pieces: int) -> None:
    """As many pieces, in order, under the head that the handler gave."""
    answer = http.get(platform.url(flow(function)), params={"n": pieces})
    assert (answer.status_code, answer.headers["x-n"]) == (206, str(pieces))
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.text == "".join(f"{pieces}:{piece};" + "s" * 50_000 for piece in range(pieces))


def test_1000_in_a_row(platform: Platform, function: str) -> None:
    kinds = {250: "exit", 333: "hang", 7: "raise", 13: "response", 29: "large", 47: "stream"}
    url = platform.url(function)
    with httpx.Client(headers=platform.http.headers, trust_env=False, verify=False, timeout=60) as http:
        for number in range(1000):
            kind = next((k for n, k in kinds.items() if number % n == n - 1), "echo")
            if kind == "hang":
                check_hanging(http, platform, function, f"s{number}")
            elif kind == "stream" and function != "ric":
                check_stream(http, platform, function, number % 20)
            else:
                kind = "echo" if kind == "stream" else kind
                check(ask(http, url, kind, f"s{number}", **more_of(kind)), kind, f"s{number}", function)


class Patient(httpx.Client):
    """Asks again when it is told to: a busy machine starts instances slowly, or does not let this process send."""

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        busy = {503: "unavailable", 408: "request_timed_out"}
        while (answer := super().send(request, **options)).status_code in busy:
            assert answer.json()["code"] == busy[answer.status_code], answer.text
        return answer


def test_100_at_once(platform: Platform, function: str) -> None:
    def one(number: int) -> None:
        kind = {0: "large", 10: "stream"}.get(number % 20) or ("echo", "echo", "response", "raise")[number % 4]
        with Patient(headers=platform.http.headers, trust_env=False, verify=False, timeout=200) as http:
            if number % 25 == 1:
                check(ask(http, platform.url(slow(function)), "hang", ""), "hang", "", function)
            for turn in range(3):
                id_ = f"c{number}-{turn}"
                if kind == "stream" and function != "ric":
                    check_stream(http, platform, function, number % 20)
                else:
                    told = "echo" if kind == "stream" else kind
                    check(ask(http, platform.url(function), told, id_, **more_of(told)), told, id_, function)

    with ThreadPoolExecutor(100) as threads:
        list(threads.map(one, range(100)))
    assert 1 < len(platform.instances_of(function)) <= 100


def test_a_stream_that_fails_is_cut(platform: Platform, function: str) -> None:
    if function == "ric":
        answer = ask(platform.http, platform.url(function), "raise", "before the head")
        check(answer, "raise", "before the head", function)
        return
    with pytest.raises(httpx.RemoteProtocolError):  # it fails when the head has left
        platform.http.get(platform.url(flow(function)), params={"n": -1})
    check_stream(platform.http, platform, function, 1)


def test_what_it_prints_and_raises_is_logged(platform: Platform, function: str) -> None:
    answer = ask(platform.http, platform.url(function), "echo", "log-1")
    raised = ask(platform.http, platform.url(function), "raise", "log-2")
    told = platform.cli("logs", function).stdout.decode()
    assert f"working on {answer.json()['id']}" in told
    assert "no log-2" in told
    assert any("app." in line for line in raised.json()["traceback"])


def test_invoked_with_json(platform: Platform, function: str) -> None:
    answer = platform.invoke(function, {"body": json.dumps({"kind": "response", "id": "j"})})
    assert answer.json() == {"statusCode": 207, "headers": {"x-id": "j"}, "body": "multi"}


def test_a_module_that_cannot_be_imported_fails_the_deployment(platform: Platform) -> None:
    files = {**client_files(), "bootstrap": PYTHON, "app.py": "import nothing_of_the_kind\n"}
    answer = platform.try_deploy("broken", files, runtime="custom", handler="app.handler")
    assert answer.status_code == 502, answer.text
    assert answer.json()["code"] == "function_init_failed"
    assert "Unable to import module 'app'" in answer.json()["detail"]


# --- a shell and curl

SHELL = """#!/bin/sh
url="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation"
while true; do
  curl -sS -D /tmp/head -o /tmp/event "$url/next" || exit 1
  id=$(tr -d '\\r' < /tmp/head | sed -n 's/^Lambda-Runtime-Aws-Request-Id: //p')
  case $(cat /tmp/event) in
    *endless*) yes 'line of text' ;;
    *) { printf '{"statusCode": 203, "headers": {"content-type": "text/x-shell"}}'; head -c 8 /dev/zero
         echo "$_HANDLER says hello"; head -c 5000000 /dev/zero | tr '\\0' z; } ;;
  esac | curl -sS -o /dev/null -X POST -T - -H 'Lambda-Runtime-Function-Response-Mode: streaming' \\
    -H "Content-Type: $(grep -q endless /tmp/event && echo text/plain ||
       echo application/vnd.awslambda.http-integration-response)" "$url/$id/response"
done
"""


@pytest.fixture(scope="module")
def shell(platform: Platform) -> Iterator[Platform]:
    """The platform with the function `shell`."""
    platform.deploy("shell", {"bootstrap": SHELL}, runtime="custom", handler="greeter", timeout_s=5.0)
    yield platform
    platform.remove("shell")


def test_a_shell_streams_with_a_prelude(shell: Platform) -> None:
    for _ in range(3):
        answer = shell.http.get(shell.url("shell"))
        assert (answer.status_code, answer.headers["content-type"]) == (203, "text/x-shell")
        assert answer.headers["transfer-encoding"] == "chunked"
        assert answer.text == "greeter says hello\n" + "z" * 5_000_000


def test_a_stream_arrives_as_it_is_made(shell: Platform) -> None:
    with shell.http.stream("GET", shell.url("shell") + "/endless") as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines()
        assert [next(lines) for _ in range(1000)] == ["line of text"] * 1000
    assert shell.http.get(shell.url("shell")).status_code == 203
