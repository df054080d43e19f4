"""deploy, remove and init: what is sent, what is said, and what is left alone."""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest

from fuyun.base.archive import digest_of
from fuyun.cli.init import TEMPLATES
from fuyun.client.project import load_project
from tests.cli.conftest import ARTIFACT, Cli, version
from tests.cli.terminal import on_a_terminal
from tests.client.api_server import ApiServer, Asked, Reply, lines, problem

FN = "/namespaces/default/functions"

PROJECT = """\
name: demo
functions:
  hello:
    handler: app.handler
    memory: 128MiB
    triggers:
      - http: {path: /hi, methods: [GET], auth: public}
"""


class Deployed:
    """A platform that keeps drafts the way the real one does: what it stores is not the archive it was sent."""

    def __init__(self, api: ApiServer) -> None:
        self.archives: dict[str, bytes] = {}
        self.drafts: dict[str, dict[str, Any]] = {}
        self.sent: list[dict[str, Any]] = []
        api.on("POST", "/namespaces/default/archives", self._upload)
        for name in ("hello", "other"):
            api.on("PUT", f"{FN}/{name}", self._deploy)
            api.on("GET", f"{FN}/{name}/versions/$LATEST", self._draft)

    def _upload(self, asked: Asked) -> Reply:
        assert asked.headers["content-type"] == "application/zip"
        digest = digest_of(asked.body)
        self.archives[digest] = asked.body
        return Reply({"digest": digest, "size_bytes": len(asked.body)})

    def _deploy(self, asked: Asked) -> Reply:
        self.sent.append(asked.json())
        assert asked.json()["code"] in self.archives
        name = asked.path.rpartition("/")[2]
        self.drafts[name] = version(0, name) | {"spec": asked.json()["spec"], "code": ARTIFACT}
        return lines(
            {"progress": "dependencies: resolving"}, {"progress": "warm-up: 3 ms"}, {"version": self.drafts[name]}
        )

    def _draft(self, asked: Asked) -> Reply:
        name = asked.path.split("/")[4]
        return Reply(self.drafts[name]) if name in self.drafts else problem("not_found", "no such function", 404)


@pytest.fixture
def deployed(api: ApiServer) -> Deployed:
    return Deployed(api)


@pytest.fixture
def project(cli: Cli) -> Path:
    Path("app.py").write_text("def handler(event, context): return 1\n")
    Path("fuyun.yaml").write_text(PROJECT)
    return Path()


def test_deploy_prints_urls_and_shows_each_step(cli: Cli, deployed: Deployed, project: Path) -> None:
    ran = cli("deploy")
    assert ran.code == 0
    assert ran.out == "http://gw/fn/default/hello\tkey\tANY\nhttp://gw/hi\tpublic\tGET\n"
    steps = [line.removeprefix("hello: ") for line in ran.err.splitlines()]
    assert [step.split()[0] for step in steps[:2]] == ["packaging", "uploading"]
    assert steps[2:4] == ["dependencies: resolving", "warm-up: 3 ms"]
    assert steps[4].startswith("✓ hello: deployed, version $LATEST")
    archive = zipfile.ZipFile(io.BytesIO(next(iter(deployed.archives.values()))))
    assert archive.namelist() == ["app.py"]
    assert deployed.sent[0]["spec"]["memory_bytes"] == 128 * 2**20


def test_what_did_not_change_is_left_alone(cli: Cli, deployed: Deployed, project: Path) -> None:
    cli("deploy")
    ran = cli("deploy")
    assert "unchanged, version $LATEST" in ran.err
    assert ran.out.startswith("http://gw/fn/default/hello")
    assert len(deployed.sent) == 1
    assert cli("deploy", "--force").code == 0
    assert len(deployed.sent) == 2


def test_a_dry_run_says_what_would_change_and_changes_nothing(cli: Cli, deployed: Deployed, project: Path) -> None:
    def state() -> str:
        return cli("deploy", "--dry-run").out.split("\t")[1]

    assert state() == "new"
    assert deployed.archives == {}
    cli("deploy")
    assert state() == "unchanged"
    Path("fuyun.yaml").write_text(PROJECT.replace("128MiB", "256MiB"))
    assert state() == "changed (memory_bytes)"
    Path("app.py").write_text("def handler(event, context): return 2\n")
    assert state() == "changed (code, memory_bytes)"
    assert len(deployed.sent) == 1


def test_requirements_outside_the_code_count_as_change(cli: Cli, deployed: Deployed, project: Path) -> None:
    listed = PROJECT + "    requirements: [pillow]\n"
    Path("fuyun.yaml").write_text(listed)
    cli("deploy")
    assert deployed.sent[0]["requirements"] == "pillow\n"
    assert "unchanged" in cli("deploy", "--dry-run").out
    Path("fuyun.yaml").write_text(listed.replace("pillow", "pillow>=11"))
    assert "changed (code)" in cli("deploy", "--dry-run").out


def test_an_alias_is_asked_for_and_moved_without_a_new_draft(
    api: ApiServer, cli: Cli, deployed: Deployed, project: Path
) -> None:
    ran = cli("deploy", "--alias", "live", "--description", "first")
    assert ran.out.startswith("http://gw/fn/default/hello:live\t")
    assert (deployed.sent[0]["alias"], deployed.sent[0]["publish"], deployed.sent[0]["description"]) == (
        "live",
        True,
        "first",
    )
    live = {"namespace": "default", "function": "hello", "name": "live", "weights": [{"version": 1, "weight": 100}]}
    api.on("POST", f"{FN}/hello/versions", version(2))
    api.on("GET", f"{FN}/hello/aliases", {"items": [live | {"revision": 7}], "next": None})
    api.on("PUT", f"{FN}/hello/aliases/live", live)
    ran = cli("deploy", "--alias", "live")
    assert "unchanged, published as version 2, alias live serves it now" in ran.err
    moved = api.requests("PUT", f"{FN}/hello/aliases/live")[0]
    assert (moved.json()["weights"], moved.headers["if-match"]) == ([{"version": 2, "weight": 100.0}], '"7"')
    assert len(deployed.sent) == 1
    assert cli("deploy", "--alias", "Not Good").code == 2


def test_deploy_as_json(cli: Cli, deployed: Deployed, project: Path) -> None:
    found = json.loads(cli("deploy", "--json").out)
    assert [(item["function"], item["state"], item["version"]) for item in found] == [("hello", "new", "$LATEST")]
    assert found[0]["urls"][1] == {"url": "http://gw/hi", "auth": "public", "methods": "GET"}
    assert json.loads(cli("deploy", "--json", "--dry-run").out)[0]["version"] is None


def test_one_function_can_be_chosen(cli: Cli, deployed: Deployed, project: Path) -> None:
    Path("fuyun.yaml").write_text(PROJECT + "  other: {handler: app.handler}\n")
    assert cli("deploy", "-f", "other").code == 0
    assert list(deployed.drafts) == ["other"]
    ran = cli("deploy", "-f", "othr")
    assert (ran.code, "did you mean 'other'" in ran.err) == (2, True)


def test_a_failed_build_exits_3_with_the_log(api: ApiServer, cli: Cli, deployed: Deployed, project: Path) -> None:
    failed = {"code": "build_failed", "detail": "no version of nosuch", "hint": "check its name", "status": 422,
              "log": "  x No solution found"}  # fmt: skip
    api.on("PUT", f"{FN}/hello", lines({"progress": "dependencies: resolving"}, {"problem": failed}))
    ran = cli("deploy")
    assert (ran.code, ran.out) == (3, "")
    assert "  x No solution found\nerror [build_failed]: no version of nosuch\nhint: check its name\n" in ran.err


def test_a_wrong_project_file_reaches_nobody(api: ApiServer, cli: Cli, project: Path) -> None:
    Path("fuyun.yaml").write_text(PROJECT.replace("memory", "memry"))
    ran = cli("deploy")
    assert (ran.code, ran.out) == (2, "")
    assert "fuyun.yaml:5: 'memry' is not a field of function 'hello'; did you mean 'memory'?" in ran.err
    assert api.asked == []


def test_a_link_out_of_the_folder_is_refused_with_the_functions_line(
    cli: Cli, deployed: Deployed, project: Path
) -> None:
    Path("secret").symlink_to("/etc/hostname")
    ran = cli("deploy")
    assert (ran.code, "fuyun.yaml:3: code: secret links to /etc/hostname" in ran.err) == (2, True)


def test_remove_deletes_what_the_file_names(api: ApiServer, cli: Cli, project: Path) -> None:
    Path("fuyun.yaml").write_text(PROJECT + "  other: {handler: app.handler}\n")
    api.on("DELETE", f"{FN}/hello", Reply(None, 204))
    assert cli("remove").code == 2
    ran = cli("remove", "--yes", "--json")
    assert (ran.code, json.loads(ran.out)) == (0, ["hello"])
    assert ran.err == "deleted hello\nother was not deployed\n"


@pytest.mark.parametrize("template", TEMPLATES)
def test_templates_make_projects_that_load(cli: Cli, template: str) -> None:
    ran = cli("init", "my-app", "--template", template)
    assert ran.code == 0
    made = load_project(Path("my-app"))
    assert list(made.functions) == ["my-app"]
    for path in (path for path in Path("my-app").rglob("*") if path.is_file()):
        assert str(path) in ran.out
        assert "{{" not in path.read_text()
    assert made.functions["my-app"].requirements.text == {
        "python-asgi": "fastapi>=0.120\n",
        "python-wsgi": "flask>=3.1\n",
    }.get(template, "")
    for path in Path("my-app").glob("*.py"):
        compile(path.read_text(), str(path), "exec")


def test_init_overwrites_nothing(cli: Cli) -> None:
    Path("mine").mkdir()
    Path("mine/precious.txt").write_text("x")
    ran = cli("init", "mine")
    assert (ran.code, "not empty" in ran.err) == (5, True)
    assert [path.name for path in Path("mine").iterdir()] == ["precious.txt"]
    ran = cli("init", "a", "--template", "python-htp")
    assert (ran.code, "did you mean 'python-http'" in ran.err) == (2, True)
    assert cli("init", "Not Good").code == 2


def test_an_upload_shows_how_far_it_is_on_a_terminal(cli: Cli, deployed: Deployed, project: Path) -> None:
    Path("data.bin").write_bytes(os.urandom(3 * 2**20))
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    env.pop("NO_COLOR", None)
    shown = on_a_terminal(["deploy"], env)
    found = [int(text) for text in re.findall(r"uploading 3\.0 MiB, (\d+) %", shown)]
    assert found == sorted(set(found))
    assert found[-1] == 100
    assert len(found) > 10
    (archive,) = deployed.archives.values()
    assert "data.bin" in zipfile.ZipFile(io.BytesIO(archive)).namelist()


def test_a_warning_stays_in_sight(api: ApiServer, cli: Cli, deployed: Deployed, project: Path) -> None:
    def warned(asked: Asked) -> Reply:
        told = {"progress": "dependencies: warning: built WITHOUT ISOLATION"}
        return lines({"progress": "dependencies: resolving"}, told, {"version": version()})

    api.on("PUT", f"{FN}/hello", warned)
    assert "hello: warning: built WITHOUT ISOLATION\n" in cli("deploy").err
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    env.pop("NO_COLOR", None)
    shown = on_a_terminal(["deploy", "--force"], env)
    # Elsewhere a step is written over by the next one; this line ends, and nothing erases it.
    assert re.search(r"\r\x1b\[2Khello: \x1b\[\d+mwarning\x1b\[0m: built WITHOUT ISOLATION\n", shown), shown


def test_an_upload_says_nothing_more_elsewhere(cli: Cli, deployed: Deployed, project: Path) -> None:
    ran = cli("deploy")
    (size,) = map(len, deployed.archives.values())
    assert [line for line in ran.err.splitlines() if "uploading" in line] == [f"hello: uploading {size} bytes"]
