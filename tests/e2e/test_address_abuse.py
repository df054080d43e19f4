"""Every runtime at the platform's address, and abuse of it, as root and rootless (docs/contracts/address.md)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fuyun.testing.attacks import services
from fuyun.testing.attacks.attempt import all_attempts
from tests.e2e import attacking
from tests.e2e.addressed import ALL, invoke, with_greeter
from tests.images import Image, busybox, layer
from tests.running import Platform

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


@pytest.fixture
def greeted(either_platform: Platform) -> Iterator[Platform]:
    """A platform with a function to be called."""
    with with_greeter(either_platform):
        yield either_platform


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
#: The same with nothing but busybox.
LOOP = rb"""#!/bin/sh
api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation
while :; do
  wget -q -S -O /tmp/event "$api/next" 2>/tmp/head
  id=$(sed -n 's/.*Lambda-Runtime-Aws-Request-Id: //p' /tmp/head | tr -d '\r')
  credential=$(sed -n 's/.*Fuyun-Credential: //p' /tmp/head | tr -d '\r')
  wget -q -S -O /tmp/answer --header "Authorization: Bearer $credential" --post-data '{"name": "Duke"}' \
    "$FUYUN_ENDPOINT/invoke/default/greeter" 2>/tmp/head
  status=$(sed -n 's/.*HTTP\/1.1 \([0-9]*\).*/\1/p' /tmp/head)
  echo "\"$status$(sed 's/"/\\"/g' /tmp/answer)\"" >/tmp/said
  wget -q -O /dev/null --post-file /tmp/said "$api/$id/response"
done
"""
IMAGE = Image([layer({**busybox(), "opt/loop": LOOP})], Entrypoint=["/opt/loop"], Env=["PATH=/bin"])
RUNTIMES: dict[str, tuple[dict[str, str | bytes], dict[str, Any]]] = {
    "nodejs": ({"index.js": NODE}, {"handler": "index.handler"}),
    "custom": ({"bootstrap": SHELL}, {}),
    "web": ({"server.py": SERVER}, {"command": "python3 server.py"}),
    "image": ({**IMAGE.layout()}, {"image": "./image", "protocol": "custom"}),
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


def test_nobody_gets_more_than_the_permissions_name(either_platform: Platform) -> None:
    """Every attempt of `testing/attacks/services.py` is refused for the reason it states without a sandbox, too: what
    refuses is the platform. In sandboxes `test_attacks.py` makes them."""
    own = {name: one for name, one in all_attempts().items() if one.run.__module__ == services.__name__}
    with attacking.scene(either_platform, "process") as facts:
        spec = {"isolation": "process", "permissions": {"invoke": ["attacker"]}}
        either_platform.deploy("attacker", attacking.code("runner"), **spec)
        try:
            tried = invoke(either_platform, "attacker", {"facts": facts, "only": list(own)})
        finally:
            either_platform.remove("attacker")
    assert tried.keys() == own.keys()
    assert {name: outcome for name, outcome in tried.items() if outcome not in own[name].refused} == {}
