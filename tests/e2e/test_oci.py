"""Instances that an OCI runtime makes: every runtime's functions, as root and without rights."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e import webapps
from tests.running import Platform

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

WITHIN = """
import json, os, subprocess, sys, time

def handler(event, context):
    if event.get("grow"):
        held = bytearray(1 << 30)
        return len(held)
    if event.get("sleep"):
        time.sleep(event["sleep"])
    print("inside", event.get("n"))
    with open("/proc/self/status") as file:
        status = {name: value.strip() for name, _, value in (line.partition(":") for line in file)}
    size = os.statvfs("/tmp")
    return {
        "ids": [os.getuid(), os.getgid()], "pid": os.getpid(), "host": os.uname().nodename,
        "rights": int(status["CapEff"], 16) | int(status["CapBnd"], 16), "fenced": status["Seccomp"],
        "tmp": size.f_frsize * size.f_blocks, "store": os.listdir("/store"), "child": subprocess.run(
            ["/bin/sh", "-c", "echo $SET"], capture_output=True, text=True).stdout.strip(),
    }
"""
SHELL = """#!/bin/sh
api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation
while :; do
  head=$(mktemp)
  curl -sS -D "$head" -o /tmp/event "$api/next"
  id=$(sed -n 's/.*Lambda-Runtime-Aws-Request-Id: //p' "$head" | tr -d '\\r')
  curl -sS -o /dev/null --data-binary @/tmp/event "$api/$id/response"
done
"""


@pytest.mark.parametrize("isolation", ["oci:crun", "oci:runc"])
def test_a_function_has_what_a_sandbox_gives(either_platform: Platform, isolation: str) -> None:
    """[I 7.1] [I 7.2] [I 7.3]"""
    platform = either_platform
    spec: dict[str, Any] = {"isolation": isolation, "env": {"SET": "by spec"}, "tmp_bytes": 8 << 20, "max_instances": 3}
    platform.deploy("oci-python", WITHIN, **spec)
    found = platform.invoke("oci-python", {"n": 1}).json()
    assert found == {
        "ids": [1000, 1000], "pid": 1, "host": "fuyun", "rights": 0, "fenced": "2", "tmp": 8 << 20, "store": [],
        "child": "by spec",
    }  # fmt: skip
    assert b"inside 1" in platform.cli("logs", "oci-python").stdout
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda n: platform.invoke("oci-python", {"n": n, "sleep": 0.3}).status_code, range(6)))
    assert answers == [200] * 6
    users = {one["pid"] for one in platform.instances_of("oci-python")}
    assert 1 < len(users) <= 3
    refused = platform.invoke("oci-python", {"grow": True}).json()
    assert refused["code"] in ("function_out_of_memory", "function_raised"), refused
    assert platform.invoke("oci-python", {"n": 2}).json()["ids"] == [1000, 1000]
    platform.remove("oci-python")


def test_programs_run_as_well(either_platform: Platform) -> None:
    """[I 7.1]"""
    platform = either_platform
    platform.deploy("oci-custom", {"bootstrap": SHELL}, runtime="custom", isolation="oci:crun")
    assert platform.invoke("oci-custom", {"n": 1}).json() == {"n": 1}
    platform.remove("oci-custom")
    files = {"server.py": webapps.PLAIN + webapps.SERVE}
    platform.deploy("oci-web", files, runtime="web", command="python3 server.py", isolation="oci:runc", concurrency=8)
    assert platform.http.get(platform.url("oci-web")).status_code == 200
    platform.remove("oci-web")
    code = {"index.js": "exports.handler = async (event) => ({node: process.version.length > 2, event});"}
    platform.deploy("oci-node", code, runtime="nodejs", handler="index.handler", isolation="oci:crun")
    assert platform.invoke("oci-node", {"n": 1}).json() == {"node": True, "event": {"n": 1}}
    platform.remove("oci-node")


@pytest.mark.parametrize("name", ["runsc", "kata"])
def test_a_runtime_that_is_not_here_is_named(platform: Platform, name: str) -> None:
    """[I 7.5]"""
    refused = platform.try_deploy("oci-none", "def handler(event, context): ...", isolation=f"oci:{name}")
    told = refused.json()
    assert (told["code"], told["feature"]) == ("host_unable", f"oci:{name}"), refused.text
    assert f"this host has no {'runsc' if name == 'runsc' else 'kata-runtime'}" in told["detail"]
    listed = {check["name"]: check for check in json.loads(platform.cli("doctor", "--json").stdout)}
    assert (listed[f"isolation oci:{name}"]["state"], listed["isolation oci:crun"]["state"]) == ("limited", "ok")
    unknown = platform.try_deploy("oci-none", "def handler(event, context): ...", isolation="oci:docker")
    assert unknown.json()["code"] == "bad_request", unknown.text
