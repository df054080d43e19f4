"""Node functions through the real gateway, as root and without rights."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.drivers.builds.nodepackages import project, tarball
from tests.running import Platform

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

NODE = {"runtime": "nodejs", "handler": "index.handler"}
HANDLER = """
exports.handler = async (event, context) => {
  const path = event.rawPath;
  console.log('at %s', path);
  if (path === '/raise') throw new TypeError('not that');
  if (path === '/exit') process.exit(4);
  if (path === '/hang') await new Promise(() => setTimeout(() => 0, 60000));
  if (path === '/spin') for (;;);
  if (path === '/large') return 'x'.repeat(7 << 20);
  if (path === '/stream') return (async function* () { for (let i = 0; i < 40; i++) yield 'y'.repeat(100000); })();
  const body = { got: event.body, id: context.awsRequestId };
  return { statusCode: 201, headers: { 'x-node': process.versions.node }, body };
};
"""


def test_requests_and_every_way_to_fail(either_platform: Platform) -> None:
    platform = either_platform
    platform.deploy("node", {"index.js": HANDLER}, **NODE, timeout_s=2.0)
    try:
        answer = platform.http.post(platform.url("node") + "/a", content="é")
        assert (answer.status_code, answer.json()["got"]) == (201, "é")
        assert answer.headers["x-node"]
        assert answer.headers["fuyun-request-id"] == answer.json()["id"]
        assert platform.http.get(platform.url("node")).headers["fuyun-start"] == "warm"
        for path, code in (
            ("/raise", "function_raised"), ("/exit", "function_exited"), ("/hang", "function_timed_out"),
            ("/spin", "function_timed_out"), ("/large", "response_too_large"),
        ):  # fmt: skip
            assert platform.http.get(platform.url("node") + path).json()["code"] == code, path
        assert len(platform.http.get(platform.url("node") + "/stream").content) == 4_000_000
        assert "at /raise" in platform.cli("logs", "node").stdout.decode()
    finally:
        platform.remove("node")


def test_packages_are_built_and_found(either_platform: Platform) -> None:
    platform = either_platform
    compiled = {"install": "node -e \"require('fs').writeFileSync('made.js', 'module.exports = 6 * 7')\""}
    package = tarball("tiny", files={"index.js": "module.exports = require('./made.js');"}, scripts=compiled)
    for name, code in (
        ("index.cjs", "const tiny = require('tiny'); exports.handler = async () => tiny;"),
        ("index.mjs", "import tiny from 'tiny'; export const handler = async () => tiny;"),
    ):
        files = project({"tiny": "file:tiny.tgz"}, {"tiny.tgz": package, name: code})
        platform.deploy("node-packages", files, **NODE)
        assert platform.invoke("node-packages").json() == 42
    refused = platform.try_deploy("node-packages", files, **NODE, requirements="flask\n")
    assert (refused.status_code, refused.json()["code"]) == (400, "bad_request")
    assert "package.json" in refused.json()["hint"]
    assert platform.invoke("node-packages").json() == 42, "what served goes on"
    platform.remove("node-packages")


SERVER = """
createServer((request, response) => response.end(JSON.stringify([tiny, process.env.NODE_PATH !== undefined])))
  .listen(Number(process.env.PORT));
"""


@pytest.mark.parametrize("requirements", ["", "flask\n"])
def test_packages_of_a_server_are_built_and_found(either_platform: Platform, requirements: str) -> None:
    """[R 15.16], as the only layer and beside Python's; by `require`, `import` and as a program."""
    platform = either_platform
    held = {
        "run.js": "#!/usr/bin/env node\nrequire('./serve.cjs')",
        "serve.cjs": "require(process.cwd() + '/server.cjs')",
        "index.js": "module.exports = 42;",
    }
    package = tarball("tiny", files=held, bin="run.js")
    for command, name, code in (
        ("node server.cjs", "server.cjs", "const tiny = require('tiny'); const { createServer } = require('http');"),
        ("node server.mjs", "server.mjs", "import tiny from 'tiny'; import { createServer } from 'http';"),
        ("tiny", "server.cjs", "const tiny = require('tiny'); const { createServer } = require('http');"),
    ):
        files = project({"tiny": "file:tiny.tgz"}, {"tiny.tgz": package, name: code + SERVER})
        platform.deploy("node-server", files, runtime="web", command=command, requirements=requirements)
        assert platform.http.get(platform.url("node-server")).json() == [42, True], command
        platform.remove("node-server")


def test_a_burst_is_answered_once_each(platform: Platform) -> None:
    code = "exports.handler = async (event) => { await new Promise((r) => setTimeout(r, 20)); return event.n; };"
    platform.deploy("node-burst", {"index.js": code}, **NODE, concurrency=10, max_instances=4)
    try:
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda n: platform.invoke("node-burst", {"n": n}).json(), range(200)))
        assert answers == list(range(200))
        assert len(platform.instances_of("node-burst")) <= 4
    finally:
        platform.remove("node-burst")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"runtime": "nodejs9"}, "'nodejs9' is not a runtime"), ({"handler": "index"}, "is not FILE.EXPORT"),
        ({"start": "template"}, "has no templates"), ({"memory_bytes": 2**25}, "32MiB is out of range"),
        ({"pids": 4}, "pids"),
    ],
)  # fmt: skip
def test_specs_that_cannot_be(platform: Platform, spec: dict[str, object], words: str) -> None:
    answer = platform.try_deploy("node-wrong", {"index.js": HANDLER}, **{**NODE, **spec})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert words in answer.json()["detail"]
