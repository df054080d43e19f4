"""`fuyun layer`: what is sent and what is said; and layers of a project that is deployed."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import ARTIFACT, Cli, version
from tests.client.api_server import ApiServer, Reply, problem

BASE = "/namespaces/default/layers"


def layer(number: int = 3, name: str = "fonts") -> dict[str, Any]:
    made = {"namespace": "default", "name": name, "number": number, "content": ARTIFACT, "created_s": 0.0}
    return made | {"description": "serif"}


def page(*items: Any) -> dict[str, Any]:
    return {"items": list(items), "next": None}


@pytest.fixture(autouse=True)
def _filled(api: ApiServer) -> None:
    api.on("POST", "/namespaces/default/archives", ARTIFACT)
    api.on("GET", BASE, page(layer()))
    api.on("GET", f"{BASE}/fonts", layer())
    api.on("GET", f"{BASE}/fonts/versions", page(layer(1), layer()))
    api.on("GET", f"{BASE}/fonts/versions/1", layer(1))
    api.on("POST", f"{BASE}/fonts/versions", layer(4))
    api.on("DELETE", f"{BASE}/fonts/versions/1", Reply(status=204))


def test_publish_packs_a_folder_and_prints_the_reference(api: ApiServer, cli: Cli) -> None:
    Path("fonts").mkdir()
    Path("fonts/a.ttf").write_bytes(b"\0font")
    ran = cli("layer", "publish", "fonts", "fonts", "--description", "serif")
    assert (ran.code, ran.out) == (0, "fonts:4\n")
    [uploaded] = api.requests("POST", "/namespaces/default/archives")
    with zipfile.ZipFile(io.BytesIO(uploaded.body)) as packed:
        assert packed.namelist() == ["a.ttf"]
    [asked] = api.requests("POST", f"{BASE}/fonts/versions")
    assert asked.json() == {"content": ARTIFACT["digest"], "description": "serif"}
    Path("fonts.zip").write_bytes(uploaded.body)
    assert json.loads(cli("layer", "publish", "fonts", "fonts.zip", "--json").out)["number"] == 4
    assert api.requests("POST", "/namespaces/default/archives")[1].body == uploaded.body


def test_publish_refuses_what_is_no_folder(cli: Cli) -> None:
    Path("empty").mkdir()
    for path, words in (("nowhere", "nowhere is not a folder"), ("empty", "empty holds no files")):
        ran = cli("layer", "publish", "fonts", path)
        assert ran.code == 2
        assert words in ran.err
    assert "not a valid layer name" in cli("layer", "publish", "Fonts", "empty").err


def test_reading(cli: Cli) -> None:
    head = "LAYER\tVERSION\tSIZE\tCREATED\tDESCRIPTION"
    line = "fonts\t3\t2KiB\t\tserif"
    assert cli("layer", "list").out.splitlines() == [head, line]
    assert cli("layer", "versions", "fonts").out.splitlines() == [head, line.replace("3", "1", 1), line]
    assert "version\t3\n" in cli("layer", "get", "fonts").out
    assert "version\t1\n" in cli("layer", "get", "fonts:1").out
    assert json.loads(cli("layer", "get", "fonts:1", "--json").out)["content"] == ARTIFACT
    for command in ("list", "versions fonts"):
        assert json.loads(cli("layer", *command.split(), "--json").out)[-1]["number"] == 3


def test_delete_takes_one_version(api: ApiServer, cli: Cli) -> None:
    ran = cli("layer", "delete", "fonts", "--yes")
    assert ran.code == 2
    assert "write fonts:NUMBER" in ran.err
    assert cli("layer", "delete", "fonts:1").code == 2, "it asks"
    assert api.requests("DELETE", f"{BASE}/fonts/versions/1") == []
    assert (cli("layer", "delete", "fonts:1", "--yes").err) == "deleted fonts:1\n"
    assert cli("layer", "get", "fonts:x").code == 2
    api.on("DELETE", f"{BASE}/fonts/versions/1", problem("not_found", "no version 1", 404))
    assert cli("layer", "delete", "fonts:1", "--yes").code != 0


def test_a_project_is_changed_when_an_unpinned_layer_is(api: ApiServer, cli: Cli) -> None:
    Path("handler.py").write_text("def handler(event):\n    return 1\n")
    Path("fuyun.yaml").write_text("name: demo\nfunctions:\n  hello: {layers: [fonts]}\n")
    drafts = "/namespaces/default/functions/hello/versions/$LATEST"
    api.on("GET", drafts, problem("not_found", "no", 404))
    digest = json.loads(cli("deploy", "--dry-run", "--json").out)[0]["digest"]
    for frozen, changes in (("fonts:3", []), ("fonts:2", ["layers"])):
        api.on("GET", drafts, version(0, handler="handler.handler", layers=[frozen], tags={"fuyun.source": digest}))
        assert json.loads(cli("deploy", "--dry-run", "--json").out)[0]["changes"] == changes


def test_a_project_with_a_bad_layer_names_its_line(cli: Cli) -> None:
    Path("handler.py").write_text("def handler(event):\n    return 1\n")
    Path("fuyun.yaml").write_text("name: demo\nfunctions:\n  hello:\n    layers: [fonts, 'fonts:2']\n")
    assert "fuyun.yaml:4: layers: 'fonts' stands twice" in cli("deploy", "--dry-run").err
