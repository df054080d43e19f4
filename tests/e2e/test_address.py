"""The platform's address inside instances, as root and rootless (docs/contracts/address.md)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.running import Platform
from tests.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

GREETER = """
from fuyun.sdk import current_context

def handler(event, context):
    if "rawPath" in event:
        return {"statusCode": 202, "headers": {"x-path": event["rawPath"]}, "body": event["body"] + "!"}
    if event.get("fail"):
        raise ValueError("no greeting for " + event["fail"])
    return {"hello": event.get("name"), "from": context.function}
"""

#: Does what the event's keys say, and tells what came of it.
CALLER = """
import http.client, json, os
from fuyun.sdk import CallError, call, credential

def ask(path, token, method="POST", body=b"{}", headers={}):
    host, port = os.environ["FUYUN_ENDPOINT"].removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    given = {"Authorization": "Bearer " + token} if token else {}
    connection.request(method, path, body, {**given, **headers})
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return [answer.status, data.decode()]

def handler(event, context):
    if "call" in event:
        try:
            return {"result": call(event["call"], event.get("payload"))}
        except CallError as error:
            return {"error": type(error).__name__, "code": error.code, "detail": error.detail, "status": error.status}
    if "token" in event:
        return credential()
    return ask(event["path"], event.get("with", context.credential), event.get("method", "POST"),
               event.get("body", "{}").encode(), event.get("headers", {}))
"""
ALL = {"permissions": {"invoke": ["*"]}}


@pytest.fixture
def greeted(either_platform: Platform) -> Iterator[Platform]:
    """A platform with a function to be called."""
    either_platform.deploy("greeter", GREETER)
    yield either_platform
    either_platform.remove("greeter")


def invoke(platform: Platform, name: str, event: Any) -> Any:
    """What the function returned."""
    answer = platform.invoke(name, event)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("start", ["blank", "template", "plain"])
def test_a_function_calls_another(greeted: Platform, start: str) -> None:
    greeted.deploy("caller", CALLER, start=start, permissions={"invoke": ["greeter"]})
    try:
        found = invoke(greeted, "caller", {"call": "greeter", "payload": {"name": "Ada"}})
        assert found == {"result": {"hello": "Ada", "from": "greeter"}}
        kinds = {one["start"] for one in greeted.instances_of("caller")}
        assert ("template" in kinds) is (start == "template"), kinds
    finally:
        greeted.remove("caller")


def test_an_http_request_and_its_answer_pass_as_they_are(greeted: Platform) -> None:
    greeted.deploy("caller", CALLER, **ALL)
    try:
        status, body = invoke(greeted, "caller", {"path": "/fn/default/greeter/a%20b?c=1", "body": "hi"})
        assert (status, body) == (202, "hi!")
    finally:
        greeted.remove("caller")


def test_errors_say_who_must_act(greeted: Platform) -> None:
    greeted.deploy("caller", CALLER, permissions={"invoke": ["greeter", "nobody"]})
    greeted.deploy("modest", CALLER)
    try:
        failed = invoke(greeted, "caller", {"call": "greeter", "payload": {"fail": "Bob"}})
        assert (failed["error"], failed["code"]) == ("CallFailed", "function_raised")
        assert "no greeting for Bob" in failed["detail"]
        for name, code in (("nobody", "not_found"), ("modest", "forbidden"), ("greeter:none", "not_found")):
            assert invoke(greeted, "caller", {"call": name}) | {"detail": ""} == {
                "error": "CallRefused", "code": code, "status": 404 if code == "not_found" else 403, "detail": "",
            }  # fmt: skip
        assert invoke(greeted, "modest", {"call": "greeter"})["detail"] == "this function has no permissions"
    finally:
        greeted.remove("caller")
        greeted.remove("modest")


def test_a_function_that_calls_itself_ends(either_platform: Platform) -> None:
    code = """
from fuyun.sdk import LoopDetected, call

def handler(event, context):
    try:
        return call("circle", event)
    except LoopDetected as error:
        return [error.code, error.status, error.detail]
"""
    either_platform.deploy("circle", code, permissions={"invoke": ["circle"]}, memory_bytes=64 << 20)
    try:
        found = invoke(either_platform, "circle", {})
        assert found == ["loop_detected", 508, "'circle' calls 'circle' at depth 17, 16 is the most"]
        assert len(either_platform.instances_of("circle")) == 17
    finally:
        either_platform.remove("circle")


def test_nothing_but_what_permissions_name_is_reachable(greeted: Platform) -> None:
    """[A 2.1] [A 2.2] [A 2.3]"""
    api = f"{greeted.api}/v1/namespaces"
    assert greeted.http.post(api, json={"name": "next-door"}).is_success
    greeted.deploy("greeter", GREETER, namespace="next-door")
    public = [{"http": {"path": "/open", "auth": "public"}}]
    greeted.deploy("open", GREETER, namespace="next-door", triggers=public)
    greeted.deploy("caller", CALLER, **ALL)
    try:
        for path, status, said in (
            ("/fn/next-door/greeter", 403, "may invoke functions of its own namespace 'default' only"),
            ("/invoke/next-door/greeter", 403, "not of 'next-door'"),
            ("/fn/next-door%2Fgreeter/x", 403, "not of 'next-door/greeter'"),
            ("/fn/default/..%2F..%2Fnext-door/greeter", 404, "no function"),
            ("/fn/default/%67reeter%2F..", 404, "no function"),
            ("/open", 404, "nothing answers at '/open'"),
            ("/v1/namespaces", 404, "nothing answers"), ("/metrics", 404, "nothing answers"),
            ("/", 404, "nothing answers"), ("/invoke/default", 404, "nothing answers"),
        ):  # fmt: skip
            found = invoke(greeted, "caller", {"path": path})
            assert found[0] == status, found
            assert said in json.loads(found[1])["detail"], path
        assert invoke(greeted, "caller", {"path": "http://next-door/fn/default/greeter", "body": "x"})[0] == 202
    finally:
        greeted.remove("caller")
        greeted.remove("open", namespace="next-door")
        greeted.remove("greeter", namespace="next-door")
        assert greeted.http.delete(f"{api}/next-door").is_success


def test_a_credential_is_good_for_its_instance_only(greeted: Platform) -> None:
    """[A 3.2] [A 3.3]"""
    for name in ("caller", "thief"):
        greeted.deploy(name, CALLER, **ALL)
    try:
        token = invoke(greeted, "caller", {"token": True})
        path = "/invoke/default/greeter"
        for given, said in (
            (token, "another instance's"), ("", "needs a key"), (greeted.key, "a key of the platform"),
            (token[:-2] + "AA", "was changed"), (f"{token}.{token}", "was changed"), ("fc_", "was changed"),
            ("fc_" + "x" * 2000, "no credential"),
        ):  # fmt: skip
            status, body = invoke(greeted, "thief", {"path": path, "with": given})
            assert (status, said in body) == (401, True), body
        for address in (greeted.url("greeter"), f"{greeted.api}/v1/namespaces/default/functions"):
            answer = greeted.http.get(address, headers={"authorization": f"Bearer {token}"})
            assert answer.status_code == 401
            assert "inside its instance only" in answer.text
        key = {"Fuyun-Key": token}
        assert invoke(greeted, "thief", {"path": path, "with": "", "headers": key})[0] == 401
        assert invoke(greeted, "caller", {"path": path})[0] == 200
        over = invoke(greeted, "caller", {"path": "/credential", "with": token})
        assert (over[0], "is over" in over[1]) == (401, True)
        assert "fc_" not in greeted.cli("logs", "caller").stdout.decode()
    finally:
        for name in ("caller", "thief"):
            greeted.remove(name)


JAVA = """
package calls;

import fuyun.runtime.Context;
import java.net.URI;
import java.net.http.*;

public class Caller {
    public static Object handle(Object event, Context context) throws Exception {
        URI address = URI.create(System.getenv("FUYUN_ENDPOINT") + "/invoke/default/greeter");
        HttpRequest request = HttpRequest.newBuilder(address)
            .header("Authorization", "Bearer " + context.getCredential())
            .POST(HttpRequest.BodyPublishers.ofString("{\\"name\\": \\"Duke\\"}")).build();
        HttpResponse<String> answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
        return answer.statusCode() + answer.body();
    }
}
"""
NODE = """
exports.handler = async (event, context) => {
  const answer = await fetch(`${process.env.FUYUN_ENDPOINT}/invoke/default/greeter`, {
    method: 'POST', body: '{"name": "Duke"}', headers: { authorization: `Bearer ${context.credential}` },
  });
  return answer.status + await answer.text();
};
"""
SHELL = """#!/bin/sh
api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation
while true; do
  curl -s -D /tmp/head -o /tmp/event "$api/next"
  id=$(sed -n 's/^Lambda-Runtime-Aws-Request-Id: *//ip' /tmp/head | tr -d '\\r')
  credential=$(sed -n 's/^Fuyun-Credential: *//ip' /tmp/head | tr -d '\\r')
  status=$(curl -s -o /tmp/answer -w '%{http_code}' -H "Authorization: Bearer $credential" -d '{"name": "Duke"}' \\
    "$FUYUN_ENDPOINT/invoke/default/greeter")
  curl -s -o /dev/null -d "\\"$status$(sed 's/"/\\\\"/g' /tmp/answer)\\"" "$api/$id/response"
done
"""
SERVER = """
import http.client, http.server, json, os

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        inner = http.client.HTTPConnection(os.environ["FUYUN_ENDPOINT"].removeprefix("http://"))
        fields = {"Authorization": "Bearer " + self.headers["Fuyun-Credential"]}
        inner.request("POST", "/invoke/default/greeter", json.dumps({"name": "Duke"}), fields)
        answer = inner.getresponse()
        body = json.dumps(str(answer.status) + answer.read().decode()).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *given):
        pass

http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
RUNTIMES = {
    "nodejs": ({"index.js": NODE}, {"handler": "index.handler"}),
    "custom": ({"bootstrap": SHELL}, {}),
    "web": ({"server.py": SERVER}, {"command": "python3 server.py"}),
    "java": ({"src/calls/Caller.java": JAVA}, {"handler": "calls.Caller::handle", "memory_bytes": 256 << 20}),
}


@pytest.mark.parametrize("runtime", list(RUNTIMES))
def test_every_runtime_that_has_sockets_can_call(greeted: Platform, runtime: str) -> None:
    """[A 1.1] [A 3.1]"""
    files, spec = RUNTIMES[runtime]
    greeted.deploy("speaker", files, runtime=runtime, **spec, **ALL)
    try:
        for _ in range(2):
            found = invoke(greeted, "speaker", {})
            assert found == '200{"hello":"Duke","from":"greeter"}'
    finally:
        greeted.remove("speaker")


def test_without_isolation_the_address_is_there_as_well(greeted: Platform) -> None:
    greeted.deploy("caller", CALLER, isolation="process", **ALL)
    try:
        assert invoke(greeted, "caller", {"call": "greeter"})["result"]["from"] == "greeter"
    finally:
        greeted.remove("caller")


ABUSER = """
import os, socket, threading, time
from fuyun.sdk import CallError, call

def dial():
    host, port = os.environ["FUYUN_ENDPOINT"].removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), 1)

def crowd(context):
    held = []
    for _ in range(1000):
        try:
            held.append(dial())
        except OSError:
            break
    for one in held:
        one.close()
    return len(held)

def drip(context):
    held = [dial() for _ in range(30)]
    sent = 0
    for byte in b"GET /fn/default/greeter HTTP/1.1 ":
        for one in held:
            sent += one.send(bytes([byte]))
    for one in held:
        one.close()
    return sent

def flood(context):
    until, answered = time.monotonic() + 2, 0
    def pour():
        nonlocal answered
        with dial() as one:
            one.settimeout(0.2)
            while time.monotonic() < until:
                try:
                    one.sendall(b"OPTIONS * HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n" * 500)
                except OSError:
                    pass
                try:
                    answered += one.recv(1 << 20).count(b"HTTP/1.1 ")
                except OSError:
                    pass
    threads = [threading.Thread(target=pour) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answered

def heads(context):
    with dial() as one:
        one.settimeout(30)
        try:
            one.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\nX: " + b"x" * 200000 + b"\\r\\n\\r\\n")
        except OSError:
            pass
        return one.recv(100).split()[1].decode()

def garbage(context):
    found = []
    for data in (b"\\0" * 5000, os.urandom(9000), b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n", b"GET /\\r\\n\\r\\n",
                 b"GET / HTTP/1.1\\r\\nHost: x\\r\\nUpgrade: websocket\\r\\nConnection: upgrade\\r\\n\\r\\n"):
        with dial() as one:
            one.sendall(data)
            found.append(one.recv(12)[9:10].decode())
    return found

def deaf(context):
    held = [dial() for _ in range(8)]
    ask = ("POST /fn/default/flow HTTP/1.1\\r\\nHost: x\\r\\nAuthorization: Bearer " + context.credential
           + "\\r\\nContent-Length: 0\\r\\n\\r\\n").encode()
    for one in held:
        one.sendall(ask)
        one.recv(1)
    return call("greeter", {"name": "me"})["hello"]

def handler(event, context):
    return globals()[event["do"]](context)
"""
FLOW = """
def handler(event, context):
    for _ in range(400):
        yield "y" * 100000
"""
ABUSES = {
    "crowd": lambda found: 32 <= found <= 100,  # those taken, and the kernel's queue
    "drip": lambda found: found > 0,
    "flood": lambda found: 0 < found < 20000,
    "heads": lambda found: found in ("431", "400"),
    "garbage": lambda found: set(found) <= {"4", "5"},
    "deaf": lambda found: found == "me",
}


@pytest.mark.parametrize("abuse", list(ABUSES))
def test_abuse_of_the_address_is_its_own_instances_matter(greeted: Platform, abuse: str) -> None:
    """[A 4.1] [A 4.2] [A 4.3] A neighbour is answered all the while, and the abuser's own calls go on afterwards."""
    greeted.deploy("abuser", ABUSER, timeout_s=60.0, pids=64, **ALL)
    greeted.deploy("flow", FLOW, max_instances=8)
    try:
        with ThreadPoolExecutor(1) as others:
            doing = others.submit(invoke, greeted, "abuser", {"do": abuse})
            neighbours = 0
            while not doing.done() or neighbours < 3:
                assert greeted.http.get(greeted.url("greeter")).status_code == 202
                neighbours += 1
            found = doing.result()
        assert ABUSES[abuse](found), found
        assert invoke(greeted, "abuser", {"do": "heads"}) in ("431", "400")
        assert greeted.http.get(f"{greeted.api}/readyz").status_code == 200
    finally:
        greeted.remove("abuser")
        greeted.remove("flow")


SLOW = """
import time
from fuyun.sdk import CallRefused, call, credential

def handler(event, context):
    first = credential()
    until = time.time() + 60
    while True:
        try:
            refused = ask(first, event)
        except OSError as error:
            return repr(error)
        if refused[0] == 401 or time.time() > until:
            break
        time.sleep(0.1)
    return [refused[1], call("greeter", {"name": "later"})["hello"]]

def ask(token, event):
    import os, urllib.error, urllib.request
    request = urllib.request.Request(os.environ["FUYUN_ENDPOINT"] + "/invoke/default/greeter", b"{}",
                                     {"Authorization": "Bearer " + token})
    try:
        with urllib.request.urlopen(request) as answer:
            return [answer.status, ""]
    except urllib.error.HTTPError as error:
        return [error.code, error.read().decode()]
"""


def test_a_credential_expires_and_is_renewed_while_its_invocation_runs(
    start_platform: Callable[..., Platform],
) -> None:
    """[A 3.4] [A 3.5]"""
    platform = start_platform(FUYUN_CREDENTIAL_S="2")
    platform.deploy("greeter", GREETER)
    platform.deploy("slow", SLOW, timeout_s=90.0, **ALL)
    refused, later = invoke(platform, "slow", {})
    assert "expired" in refused
    assert later == "later"


def test_a_deleted_function_may_nothing_any_more(greeted: Platform) -> None:
    """[A 3.6]"""
    code = """
from fuyun.sdk import CallError, call

def handler(event, context):
    while True:
        try:
            call("greeter", {})
        except CallError as error:
            return {"statusCode": 200, "body": error.detail}
"""
    greeted.deploy("doomed", code, timeout_s=60.0, **ALL)
    with ThreadPoolExecutor(1) as others:
        doing = others.submit(greeted.http.get, greeted.url("doomed"))
        wait_until(lambda: bool(greeted.instances_of("doomed")), "it to run", 20)
        greeted.remove("doomed")
        assert "was deleted" in doing.result().text


def test_it_answers_under_a_network_policy_too(greeted: Platform) -> None:
    """[A 1.2]"""
    greeted.deploy("caller", CALLER, network={"allow": ["192.0.2.7:443"]}, **ALL)
    try:
        assert invoke(greeted, "caller", {"call": "greeter"})["result"]["from"] == "greeter"
    finally:
        greeted.remove("caller")
