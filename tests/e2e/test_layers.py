"""Layers on a real platform: published by the command line, mounted read-only in order, kept by what mounts them."""

from __future__ import annotations

import json
import os
import signal

import pytest

from tests.drivers.builds.nodepackages import project, tarball
from tests.e2e.layering import HEAVY, publish, zygotes
from tests.running import Platform
from tests.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

HANDLER = """
import os, subprocess
import shared, deep

def handler(event, context):
    try:
        open(os.environ["FUYUN_LAYER_TOOLS"] + "/new", "w")
        writable = True
    except OSError:
        writable = False
    said = subprocess.run(["said"], capture_output=True, text=True).stdout.strip()
    seen = sorted(os.listdir("/layers/0")) if os.environ["FUYUN_LAYER_TOOLS"] == "/layers/0" else None
    return [shared.who, deep.who, said, writable, seen]
"""

TOOLS = {"shared.py": "who = 'tools'\n", "bin/said": "#!/bin/sh\necho tools\n"}
DATA = {"python/shared.py": "who = 'data'\n", "python/deep.py": "who = 'deep'\n", "bin/said": "#!/bin/sh\necho data\n"}


OWN, TWO, OTHER = "import own from 'own';\n", "import two from 'two';\n", "import other from '@scope/two';\n"
NODE = f"""{OWN}{TWO}{OTHER}
import one from 'one';
import scoped from '@scope/one';
import fs from 'node:fs';
const tried = (path) => {{
  try {{ fs.writeFileSync(path, ''); return 'worked'; }} catch (error) {{ return error.code; }}
}};
const written = [tried('/node_modules/x'), tried('/layers/packages/x')];
export const handler = async () => [own, one, two, scoped, other, ...written];
"""


def package(name: str, text: str) -> dict[str, str]:
    """Files of a package that exports `text`."""
    return {f"{name}/index.js": f"module.exports = {text};", f"{name}/package.json": "{}"}


def test_modules_import_packages_of_every_layer(either_platform: Platform) -> None:
    """[R 16.4] In both layouts; a package finds what its own layer has; of two of a name the first layer's counts."""
    platform = either_platform
    first = {
        **package("one", "'one ' + require('inner')"), **package("inner", "1"), **package("@scope/one", "'scoped'"),
    }  # fmt: skip
    second = {
        **package("two", "'two ' + require('inner')"), **package("inner", "2"), **package("@scope/two", "'other'"),
        **package("one", "'hidden'"),
    }  # fmt: skip
    publish(platform, "aws", {f"nodejs/node_modules/{name}": text for name, text in first.items()})
    publish(platform, "plain", {f"node_modules/{name}": text for name, text in second.items()})
    built = tarball("own", files={"index.js": "module.exports = 'own';"})
    files = project({"own": "file:own.tgz"}, {"own.tgz": built, "index.mjs": NODE})
    node = {"runtime": "nodejs", "handler": "index.handler"}
    for isolation, layers, one, inner in (
        ("sandbox", ["aws", "plain"], "one 1", 2), ("sandbox", ["plain", "aws"], "hidden", 2),
        ("oci:crun", ["aws", "plain"], "one 1", 2),
    ):  # fmt: skip
        platform.deploy("imports", files, **node, layers=layers, isolation=isolation)
        found = platform.invoke("imports").json()
        assert found[:5] == ["own", one, f"two {inner}", "scoped", "other"]
        assert set(found[5:]) <= {"EROFS", "EACCES"}
    alone = NODE
    for line, name in ((OWN, "own"), (TWO, "two"), (OTHER, "other")):
        alone = alone.replace(line, f"const {name} = 0;\n")
    for isolation in ("sandbox", "oci:crun"):
        platform.deploy("imports", {"index.mjs": alone}, **node, layers=["aws"], isolation=isolation)
        assert platform.invoke("imports").json()[:5] == [0, "one 1", 0, "scoped", 0]
    platform.remove("imports")
    for name in ("aws:1", "plain:1"):
        platform.cli("layer", "delete", name, "--yes")


def test_layers_from_the_command_line_to_the_handler(either_platform: Platform) -> None:
    platform = either_platform
    assert publish(platform, "tools", TOOLS) == "tools:1"
    assert publish(platform, "tools", TOOLS) == "tools:1", "the same content is the same version"
    assert publish(platform, "data", DATA) == "data:1"
    platform.deploy("layered", HANDLER, layers=["tools", "data:1"])
    assert platform.invoke("layered").json() == ["tools", "deep", "tools", False, ["bin", "shared.py"]]
    platform.deploy("turned", HANDLER, layers=["data", "tools"])
    assert platform.invoke("turned").json() == ["data", "deep", "data", False, None]

    listed = json.loads(platform.cli("layer", "list", "--json").stdout)
    found = [(item["name"], item["number"]) for item in listed if item["name"] in ("data", "tools")]
    assert found == [("data", 1), ("tools", 1)]
    assert platform.cli("layer", "delete", "tools:1", "--yes").returncode == 0
    assert platform.cli("layer", "get", "tools").returncode != 0
    # A new instance of a version that mounts it still finds it.
    for one in platform.instances_of("layered"):
        os.kill(one["pid"], signal.SIGKILL)
    wait_until(lambda: not platform.instances_of("layered"), "its instances to be gone")
    assert platform.invoke("layered").json()[0] == "tools"
    for name in ("layered", "turned"):
        platform.remove(name)
    assert platform.cli("layer", "delete", "data:1", "--yes").returncode == 0


#: Holds a socket, so that each of its instances loads it.
USER = "import heavy, socket\nkept = socket.socket()\ndef handler(event, context):\n    return [heavy.token, {}]\n"


def test_versions_with_the_same_layers_start_with_their_imports_done(either_platform: Platform) -> None:
    platform = either_platform
    before = {one["pid"] for one in zygotes(platform)}  # of other tests' functions
    assert publish(platform, "heavy", HEAVY) == "heavy:1"
    platform.deploy("first", USER.replace("{}", "1"), layers=["heavy"])
    wait_until(lambda: zygotes(platform, before), "a zygote of its layers")
    platform.deploy("second", USER.replace("{}", "2"), layers=["heavy"])
    one, two = platform.invoke("first").json(), platform.invoke("second").json()
    assert (one[1], two[1]) == (1, 2)
    assert one[0] == two[0], "one import served both functions"
    (row,) = zygotes(platform, before)
    assert row["saved_ms"] >= 200
    assert 0 < row["private_bytes"] <= row["rss_bytes"]
    assert {one["start"] for one in platform.instances_of("second")} == {"layers"}
    metrics = platform.http.get(f"{platform.api}/metrics").text
    assert 'fuyun_evictions_total{kind="zygote"} 0.0' in metrics
    assert "fuyun_start_memory_limit_bytes" in metrics
    for name in ("first", "second"):
        platform.remove(name)
    wait_until(lambda: not zygotes(platform, before), "it to go with the last of them")
    assert platform.cli("layer", "delete", "heavy:1", "--yes").returncode == 0
