"""Lambda extensions beside a program, each a real process [R 14]."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.runtime.bootstraps import custom, do
from tests.runtime.driver import Worker
from tests.waiting import wait_until

#: Writes each event it gets as a line of its output.
EXTENSION = f"""#!{sys.executable}
import http.client, json, os, sys
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
def ask(method, path, body=None, headers={{}}):
    api.request(method, "/2020-01-01/extension/" + path, body, headers)
    answer = api.getresponse()
    return dict(answer.getheaders()), json.loads(answer.read())
name = os.path.basename(sys.argv[0])
told = json.dumps({{"events": ["INVOKE", "SHUTDOWN"]}})
headers, info = ask("POST", "register", told, {{"Lambda-Extension-Name": name}})
print("registered", json.dumps(info), flush=True)
mine = {{"Lambda-Extension-Identifier": headers["Lambda-Extension-Identifier"]}}
while True:
    _, event = ask("GET", "event/next", None, mine)
    print("event", json.dumps(event), flush=True)
    if event["eventType"] == "SHUTDOWN":
        break
"""


def _told(worker: Worker) -> list[dict[str, Any]]:
    lines = [line["t"] for reply in worker.replies.values() for line in reply.logs]
    lines += [line["t"] for line in worker.idle_logs]
    return [json.loads(line.partition(" ")[2]) for line in lines if line.startswith("event ")]


def test_an_extension_hears_of_invocations_and_of_the_end(tmp_path: Path) -> None:
    with custom(tmp_path, {"extensions/watch": EXTENSION}) as worker:
        worker.wait_ready()
        assert worker.idle_logs[0]["t"] == (
            'registered {"functionName": "hello", "functionVersion": "3", "handler": "app.handler"}'
        )
        assert do(worker, "respond(1)", id="r1", deadline_ms=1_900_000_000_000).json == 1
        assert do(worker, "respond(2)", id="r2", deadline_ms=1_900_000_000_000).json == 2
        wait_until(lambda: len(_told(worker)) == 2 or worker.pump(), "both events")
        told = {event["requestId"]: event for event in _told(worker)}
        assert sorted(told) == ["r1", "r2"]
        assert told["r1"] == {
            "eventType": "INVOKE", "requestId": "r1", "deadlineMs": 1_900_000_000_000,
            "invokedFunctionArn": "fuyun:default:hello:3",
        }  # fmt: skip
        assert worker.hook("pre_stop") == {"ok": True}
        wait_until(lambda: len(_told(worker)) == 3 or worker.pump(), "its last event")
        last = next(event for event in _told(worker) if event["eventType"] == "SHUTDOWN")
        assert last["shutdownReason"] == "spindown"


def test_an_extension_that_fails_fails_the_start(tmp_path: Path) -> None:
    with custom(tmp_path, {"extensions/broken": "#!/bin/sh\necho no way; exit 5\n"}) as worker:
        problem = worker.wait_failed()
    assert problem["code"] == "function_init_failed"
    assert problem["message"] == "broken exited with status 5 before it was ready"
    assert problem["traceback"] == ["no way"]


def test_an_extension_reports_its_own_failure(tmp_path: Path) -> None:
    headers = '{**mine, "Lambda-Extension-Function-Error-Type": "Watch.NoToken"}'
    text = EXTENSION.replace("while True:", f'ask("POST", "init/error", "no token", {headers})\nwhile True:')
    with custom(tmp_path, {"extensions/watch": text}) as worker:
        problem = worker.wait_failed()
    assert problem["message"] == "extension watch failed (Watch.NoToken): no token"
