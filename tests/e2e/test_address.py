"""The platform's address inside instances, as root and rootless (docs/contracts/address.md)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.addressed import ALL, GREETER, invoke, with_greeter
from tests.running import Platform
from tests.waiting import wait_until
from tests.world import tunnels

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

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


@pytest.fixture
def greeted(either_platform: Platform) -> Iterator[Platform]:
    """A platform with a function to be called."""
    with with_greeter(either_platform):
        yield either_platform


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


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_it_is_there_in_what_an_oci_runtime_made(greeted: Platform, runtime: str) -> None:
    greeted.deploy("caller", CALLER, isolation=f"oci:{runtime}", **ALL)
    try:
        found = invoke(greeted, "caller", {"call": "greeter", "payload": {"name": "Ada"}})
        assert found == {"result": {"hello": "Ada", "from": "greeter"}}
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


def test_without_isolation_the_address_is_there_as_well(greeted: Platform) -> None:
    """[A 1.4] Also after a sandboxed one: whoever made that one's listener is back where it was."""
    greeted.deploy("caller", CALLER, **ALL)
    assert "result" in invoke(greeted, "caller", {"call": "greeter"})
    greeted.deploy("caller", CALLER, isolation="process", **ALL)
    try:
        found = invoke(greeted, "caller", {"call": "greeter", "payload": {"name": "Ada"}})
        assert found == {"result": {"hello": "Ada", "from": "greeter"}}
    finally:
        greeted.remove("caller")


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
    with tunnels(True):
        greeted.deploy("caller", CALLER, network={"allow": ["192.0.2.7:443"]}, **ALL)
        try:
            found = invoke(greeted, "caller", {"call": "greeter", "payload": {"name": "Ada"}})
            assert found == {"result": {"hello": "Ada", "from": "greeter"}}
        finally:
            greeted.remove("caller")


def test_listeners_and_connections_go_with_their_instances(either_platform: Platform) -> None:
    code = """
import os, socket
held = []

def handler(event, context):
    host, port = os.environ["FUYUN_ENDPOINT"].removeprefix("http://").split(":")
    held.append(socket.create_connection((host, int(port))))
    held[-1].sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\nGET ")
    return held[-1].recv(12).decode()
"""
    platform = either_platform
    before = open_sockets(platform)
    platform.deploy("holder", code, **ALL)
    try:
        for _ in range(3):
            for _ in range(5):
                assert invoke(platform, "holder", {}) == "HTTP/1.1 404"
            assert platform.kill_instances("holder")
            wait_until(lambda: not platform.instances_of("holder"), "the instances to be gone", 20)
    finally:
        platform.remove("holder")
    # Fifteen connections and three listeners were made; blanks and what asks the platform take a few at any time.
    wait_until(lambda: open_sockets(platform) <= before + 8, "sockets to be closed", 20)


def open_sockets(platform: Platform) -> int:
    """Sockets of the platform's process; those of blanks come and go."""
    targets = []
    for path in Path(f"/proc/{platform.process.pid}/fd").iterdir():
        with suppress(OSError):
            targets.append(os.readlink(path))
    return sum(target.startswith("socket:") for target in targets)
