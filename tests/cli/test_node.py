"""`fuyun node`, and how a version would start."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Cli, version
from tests.client.api_server import ApiServer

ZYGOTE = {"kind": "zygote", "pid": 7, "id": "z", "version": "python3.11", "start": "", "inflight": 0,
          "rss_bytes": 9 * 2**20, "pss_bytes": 5 * 2**20, "private_bytes": 2**19, "took_ms": 6.04, "saved_ms": 40.0,
          "reason": ""}  # fmt: skip
BLANK = {**ZYGOTE, "kind": "blank", "version": "", "pid": 8, "took_ms": 0.0, "saved_ms": None, "pss_bytes": 0}
INSTANCE = {**ZYGOTE, "kind": "instance", "version": "default/hello@1", "pid": 9, "start": "blank",
            "reason": "a socket is open"}  # fmt: skip
LAYERS = {**ZYGOTE, "version": "default: python3.11 with 1 layer", "serves": [f"default/f{n}@1" for n in range(6)]}


def test_every_process_is_a_line(api: ApiServer, cli: Cli) -> None:
    budget = {"limit_bytes": 3 * 2**30, "held_bytes": 61 * 2**20, "evicted": {"template": 2, "zygote": 1}}
    found = {"name": "local", "version": "9", "budget": budget, "processes": [ZYGOTE, BLANK, INSTANCE, LAYERS]}
    api.on("GET", "/node", found)
    said = "templates and zygotes of layers hold 61.0 of 3072.0 MiB; evicted: 2 templates, 1 zygote\n"
    assert cli("node").err == said
    lines = [line.split("\t") for line in cli("node").out.splitlines()]
    assert lines[0][:4] == ["KIND", "VERSION", "PID", "START"]
    assert lines[1] == ["zygote", "python3.11", "7", "", "5.00", "0.50", "6.0", "40.0", ""]
    assert lines[2] == ["blank", "", "8", "", "-", "0.50", "0.0", "-", ""]
    assert lines[3] == ["instance", "default/hello@1", "9", "blank", "5.00", "0.50", "6.0", "40.0", "a socket is open"]
    assert lines[4][:2] == ["zygote", "default: python3.11 with 1 layer for f0@1, f1@1, f2@1, f3@1, 2 more"]
    assert json.loads(cli("node", "--json").out)["processes"] == [ZYGOTE, BLANK, INSTANCE, LAYERS]


@pytest.mark.parametrize("qualifier", ["$LATEST", "2"])
def test_fn_get_says_how_the_version_starts(api: ApiServer, cli: Cli, qualifier: str) -> None:
    base = "/namespaces/default/functions/hello"
    number = 0 if qualifier == "$LATEST" else int(qualifier)
    api.on("GET", f"{base}/versions/{qualifier}", version(number))
    api.on("GET", f"{base}/aliases", {"items": [], "next": None})
    plan = {"policy": "auto", "rung": "blank", "reason": "a socket is open (descriptor 7)"}
    api.on("GET", f"{base}/versions/{qualifier}/start", plan)
    assert "start\tauto: blank (a socket is open (descriptor 7))\n" in cli("fn", "get", f"hello:{qualifier}").out
    assert json.loads(cli("fn", "get", f"hello:{qualifier}", "--json").out)["start"] == plan
