"""What the shell is offered while a name is typed."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.cli.terminal import FUYUN
from tests.client.api_server import ApiServer, Reply, problem
from tests.waiting import wait_until

FN = "/namespaces/default/functions"


def completed(*words: str) -> tuple[list[str], str]:
    """What bash is offered for the last word, and what went to stderr."""
    env = os.environ | {"_FUYUN_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(("fuyun", *words))}
    env["COMP_CWORD"] = str(len(words))
    done = subprocess.run(FUYUN, env=env, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.split(), done.stderr


def named(*names: str) -> dict[str, object]:
    """A page of functions."""
    items = [
        {"namespace": "default", "name": name, "last_version": 1, "created_s": 0, "updated_s": 0} for name in names
    ]
    return {"items": items, "next": None}


@pytest.mark.parametrize(
    "words",
    [
        "fn get", "fn delete", "fn versions", "fn publish", "invoke", "logs", "alias set", "alias list", "rollback",
        "remove -f",
    ],
)  # fmt: skip
def test_function_names_are_completed(api: ApiServer, cli: Cli, words: str) -> None:
    api.on("GET", FN, named("hello", "help", "other"))
    # On a busy machine the platform may be too late for a shell that waits.
    wait_until(lambda: completed(*words.split(), "hel") == (["hello", "help"], ""), "both to be offered", 30)


def test_deploy_completes_the_functions_of_the_project_file(cli: Cli, tmp_path: Path) -> None:
    project = "name: p\nfunctions:\n" + "".join(
        f"  {name}: {{handler: app.handler}}\n" for name in ("hello", "help", "x")
    )
    folder = tmp_path / "project"
    folder.mkdir()
    for place in (Path(), folder):
        (place / "fuyun.yaml").write_text(project.replace("x:", "helix:") if place == folder else project)
    assert completed("deploy", "-f", "hel") == (["hello", "help"], "")
    assert completed("deploy", "-f", "hello", "-f", "hel") == (["help"], "")
    assert completed("deploy", str(folder), "--function", "hel") == (["helix", "hello", "help"], "")
    (folder / "fuyun.yaml").write_text("functions: [")
    assert completed("deploy", str(folder), "-f", "h") == ([], "")


def test_names_of_the_namespace_typed_before_are_completed(api: ApiServer, cli: Cli) -> None:
    api.on("GET", FN.replace("default", "team"), named("theirs"))
    wait_until(lambda: completed("invoke", "-n", "team", "t") == (["theirs"], ""), "it to be offered", 30)


def test_completion_is_silent_when_the_platform_is(api: ApiServer, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = threading.Event()
    api.on("GET", FN, lambda _: (slow.wait(), Reply(named("hello")))[1])
    try:
        assert completed("invoke", "h") == ([], "")  # which is not there before this is done
    finally:
        slow.set()
    api.on("GET", FN, problem("forbidden", "no", 403))
    assert completed("invoke", "h") == ([], "")
    api.on("GET", FN, {"items": "strange"})
    assert completed("invoke", "h") == ([], "")
    monkeypatch.setenv("FUYUN_API", "http://127.0.0.1:1")
    assert completed("invoke", "h") == ([], "")
    monkeypatch.setenv("FUYUN_API", "nonsense")
    assert completed("invoke", "h") == ([], "")
