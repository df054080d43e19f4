"""Attacks from inside an image that brings its own Python (docs/contracts/isolation.md)."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from fuyun.testing.attacks.attempt import all_attempts
from tests.e2e import attacking
from tests.images import BUSYBOX, Files, Image, layer
from tests.running import Platform

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

ATTEMPTS = all_attempts()
#: What comes out otherwise in an image, where nothing is wrong with that.
ELSEWHERE = {
    "store": "ENOENT",  # not even an empty folder
    "root folder": "done",  # /run is /tmp [R 20.3]
    "neighbour's Runtime API": "done",  # its own, which every program of that kind has
    "signal everyone": "done",  # whoever asked for the attempts, who is no process 1 here
    "own executable": "ETXTBSY",  # without root the file is the instance's own user's, and read-only all the same
    "setuid program": "RuntimeError: no setuid program",  # the image has nothing but such, and they count nothing
}
#: And where it asks for the number of root: it is that already, and nothing comes of it.
AS_ROOT = {"setuid": "done", "ownership": "done", "own setuid file": "done", "ids on the host": "done"}
_LEFT_OUT = {"test", "idlelib", "lib2to3", "ensurepip", "dist-packages", "__pycache__", "pydoc_data", "turtledemo"}
_DESCRIBE = "import sys, sysconfig, _ctypes; print(sys.executable, sysconfig.get_path('stdlib'), _ctypes.__file__)"
_LOOP = b"""#!/usr/bin/python3
import http.client, json, os, sys

sys.path.insert(0, "/srv")
from attacks.runner import handler

api, base = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"]), "/2018-06-01/runtime/invocation/"
while True:
    api.request("GET", base + "next")
    told = api.getresponse()
    event = {**json.loads(told.read()), "credential": told.getheader("Fuyun-Credential")}
    where = base + told.getheader("Lambda-Runtime-Aws-Request-Id") + "/response"
    api.request("POST", where, json.dumps(handler(event, None)))
    api.getresponse().read()
"""


def _libraries(*programs: str) -> set[str]:
    """The shared libraries that these load, by the paths under which they do."""
    told = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=True).stdout
    return {
        word for line in told.splitlines() for word in line.split() if word.startswith("/") and not word.endswith(":")
    }


def _python() -> Files:
    """The host's Python, as an image would bring it."""
    found = shutil.which("python3.11", path="/usr/bin:/usr/local/bin") or "/usr/bin/python3"
    told = subprocess.run([found, "-c", _DESCRIBE], capture_output=True, text=True, check=True).stdout.split()
    executable, standard, ctypes = told
    files: dict[str, bytes | str] = {
        "bin/sh": BUSYBOX.read_bytes(),
        "usr/bin/python3": Path(executable).resolve().read_bytes(),
    }
    for path in Path(standard).rglob("*"):
        if path.is_file() and not _LEFT_OUT & set(path.parts):
            files[str(path).lstrip("/")] = path.read_bytes()
    for library in _libraries(executable, ctypes):
        files[library.lstrip("/")] = Path(library).read_bytes()
    return files


def test_nothing_gets_out_of_an_image(either_platform: Platform) -> None:
    """[R 20.3] [R 20.6] Nor where it asks to be root, as this one does of the platform that is."""
    platform = either_platform
    user = "" if platform.account.uid else "0"
    attacks = {
        name: text if isinstance(text, bytes) else text.encode() for name, text in attacking.code("runner").items()
    }
    code: Files = {f"srv/{name}": text for name, text in attacks.items()}
    image = Image([layer(_python()), layer({**code, "srv/loop": _LOOP})], Entrypoint=["/srv/loop"], User=user)
    with attacking.scene(platform, "sandbox") as facts:
        platform.deploy("attacker", image.layout(), runtime="image", image="./image", protocol="custom", timeout_s=60.0,
                        permissions={"invoke": ["attacker"]})  # fmt: skip
        try:
            answer = platform.invoke("attacker", {"facts": facts})
            assert answer.status_code == 200, answer.text
            attacking.greet(platform)
        finally:
            platform.remove("attacker")
    outcomes = json.loads(answer.text)
    assert outcomes.keys() == ATTEMPTS.keys()
    known = {**ELSEWHERE, **(AS_ROOT if user else {})}
    wrong = {
        name: outcome
        for name, outcome in outcomes.items()
        if outcome not in ATTEMPTS[name].refused and not outcome.startswith(known.get(name, "?"))
    }
    assert wrong == {}, "refused for another reason than the one stated, or not at all"
