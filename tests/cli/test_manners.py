"""How the command line behaves: exit codes, streams, terminals, signals, help."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from fuyun.cli import exits
from fuyun.cli.main import NOUNS
from fuyun.client.http import error_classes
from fuyun.domain import errors
from tests.cli.conftest import Cli
from tests.cli.terminal import FUYUN, on_a_terminal
from tests.client.api_server import ApiServer, Reply, problem

FN = "/namespaces/default/functions"


def test_every_error_has_an_exit_code() -> None:
    codes = {cls.code: exits.exit_code(cls("x")) for cls in error_classes().values()}
    assert set(codes.values()) <= set(exits.MEANINGS)
    assert codes["function_timed_out"] == codes["build_failed"] == exits.FUNCTION
    assert (codes["not_found"], codes["conflict"], codes["precondition_failed"]) == (4, 5, 5)
    assert (codes["bad_request"], codes["unauthenticated"], codes["internal"], codes["throttled"]) == (2, 1, 1, 1)
    assert all(issubclass(cls, errors.FuyunError) for cls in exits.CODES)


@pytest.mark.parametrize(("code", "status", "expected"), [
    ("not_found", 404, 4), ("conflict", 409, 5), ("precondition_failed", 412, 5), ("unauthenticated", 401, 1),
    ("forbidden", 403, 1), ("bad_request", 400, 2), ("throttled", 429, 1), ("function_timed_out", 504, 3),
    ("internal", 500, 1),
])  # fmt: skip
def test_problems_become_exit_codes_and_words(api: ApiServer, cli: Cli, code: str, status: int, expected: int) -> None:
    api.on("GET", FN, problem(code, "what happened", status))
    ran = cli("fn", "list")
    assert (ran.code, ran.out) == (expected, "")
    assert ran.err == f"error [{code}]: what happened\nrequest r1\n"


def test_usage_errors_exit_2(cli: Cli) -> None:
    for words in (["fn", "lst"], ["nonsense"], ["invoke"], ["fn", "list", "--nonsense"], ["up", "--port", "99999"]):
        ran = cli(*words)
        assert (ran.code, ran.out) == (2, ""), words
        assert "Usage: fuyun" in ran.err
    assert cli("invoke", "Not:A:Name").code == 2
    assert cli("invoke", "hello:-").code == 2


def test_a_stranger_without_a_platform_is_told_how_to_start_one(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUYUN_API", "http://127.0.0.1:1")
    ran = cli("fn", "list")
    assert (ran.code, ran.err) == (
        1, "error [unavailable]: no platform at http://127.0.0.1:1\nhint: start one with: fuyun up\n")  # fmt: skip


def test_a_bug_is_called_one(api: ApiServer, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from fuyun.client.platform import Platform

    def broken(self: Platform) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(Platform, "list_functions", broken)
    ran = cli("fn", "list")
    assert (ran.code, "this is a bug in fuyun" in ran.err) == (1, True)


def test_version_and_help_are_data(cli: Cli) -> None:
    assert cli("--version").out == "fuyun 0.1.0\n"
    ran = cli("--help")
    assert (ran.code, ran.err) == (0, "")
    for noun in NOUNS:
        assert f"\n  {noun}" in ran.out
        assert cli(noun, "--help").code == 0
    for code, meaning in exits.MEANINGS.items():
        assert f"{code} {meaning.split()[0]}" in " ".join(ran.out.split())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(cli: Cli, shell: str) -> None:
    ran = cli("completion", shell)
    assert ran.code == 0
    assert "_FUYUN_COMPLETE" in ran.out
    assert cli("completion", "tcsh").code == 2


def test_completion_completes(tmp_path: Path) -> None:
    env = os.environ | {"_FUYUN_COMPLETE": "complete_bash", "COMP_WORDS": "fuyun fn pub", "COMP_CWORD": "2"}
    done = subprocess.run(FUYUN, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["publish"]


def test_doctor_fails_only_when_the_main_job_cannot_run(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from fuyun.cli import doctor

    checks = [{"name": "landlock", "state": "limited", "found": "none", "todo": "boot with it", "required": False}]
    monkeypatch.setattr(doctor, "run_probe", lambda *_: checks)
    rows = ["\t".join(row[name] for name in ("name", "state", "found", "todo"))
            for row in [*doctor.with_runtimes([]), doctor.invoke_path()]]  # fmt: skip
    ran = cli("doctor")
    assert (ran.code, ran.out) == (
        0,
        "\n".join(
            ["CHECK\tSTATE\tFOUND\tWHAT TO DO", *rows[:-1], "landlock\tlimited\tnone\tboot with it", rows[-1], ""]
        ),
    )
    checks.append({"name": "sandbox", "state": "missing", "found": "EPERM", "todo": "run as root", "required": True})
    ran = cli("doctor")
    assert (ran.code, ran.err) == (1, "sandboxed functions cannot run here: sandbox\n")


def test_doctor_lists_every_runtime(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from fuyun.cli import doctor
    from fuyun.domain.runtimes import RUNTIMES

    listed = {check["name"]: check for check in json.loads(cli("doctor", "--json").out)}
    assert {f"runtime {name.rstrip('0123456789.')}" for name in RUNTIMES} - {"runtime python"} <= set(listed)
    assert (
        listed["runtime wasm"]["state"] == listed["runtime custom"]["state"] == listed["runtime web"]["state"] == "ok"
    )
    assert listed["runtime python3"]["found"].partition(",")[0] in listed["runtime web"]["found"]
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    absent = {check["name"]: check for check in json.loads(cli("doctor", "--json").out)}["runtime wasm"]
    assert (absent["state"], absent["required"]) == ("limited", False)
    assert absent["todo"].startswith("install it beside Fuyun: pip install 'fuyun[wasm]'")


def test_doctor_knows_the_ports_of_its_own_platform(cli: Cli, tmp_path: Path) -> None:
    from contextlib import ExitStack
    from socket import create_server

    from fuyun.cli import rundir

    data = tmp_path / "data"
    with ExitStack() as stack:
        mine, other = (stack.enter_context(create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(2))
        data.mkdir()
        (data / "config.yaml").write_text(f"port: {mine}\napi_port: {other}\n")
        words = ("doctor", "--data", str(data), "--json")
        before = {check["name"]: check for check in json.loads(cli(*words).out)}
        assert {before[f"port {port}"]["state"] for port in (mine, other)} == {"limited"}
        state = rundir.RunState(os.getpid(), 1.0, "0", gateway=f"http://127.0.0.1:{mine}")
        stack.enter_context(rundir.hold(data, state))
        after = {check["name"]: check for check in json.loads(cli(*words).out)}
    found = after[f"port {mine}"]
    assert (found["state"], found["todo"]) == ("ok", "")
    assert found["found"] == f"127.0.0.1: in use by Fuyun, process {os.getpid()} on {data}"
    assert after[f"port {other}"] == before[f"port {other}"]


def test_tables_colours_and_waterfalls_on_a_terminal(api: ApiServer, cli: Cli) -> None:
    item = {"namespace": "default", "name": "evil\x1b[2Jname", "last_version": 1, "created_s": 0, "updated_s": 0}
    api.on("GET", FN, {"items": [item], "next": None})
    headers = {"server-timing": "run;dur=2", "fuyun-start": "warm"}
    api.on("POST", f"{FN}/hello/invoke", Reply({"text": "a\x1b]0;title\x07b"}, headers=headers))
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "100"} | {"FUYUN_API": api.url}
    env.pop("NO_COLOR", None)
    table = on_a_terminal(["fn", "list"], env)
    assert "\x1b[1m" in table
    assert "─" in table
    assert "evilname" in table
    assert "\x1b[2J" not in table
    plain = on_a_terminal(["fn", "list"], env | {"NO_COLOR": "1"})
    assert "\x1b[" not in plain
    assert "NAME" in plain
    invoked = on_a_terminal(["invoke", "hello"], env | {"NO_COLOR": "1"})
    assert invoked.startswith('{\n  "text": ')
    assert "start warm\n  run         2.00 ms" in invoked


@pytest.fixture
def endless(api: ApiServer) -> tuple[threading.Event, threading.Event]:
    """`logs -f` gets one line and then silence. (it was asked, let it end)"""
    asked, end = threading.Event(), threading.Event()

    def follow(_: object) -> Reply:
        asked.set()
        end.wait(30)
        return Reply(b"", headers={"content-type": "application/x-ndjson"})

    api.on("GET", f"{FN}/hello/logs", follow)
    return asked, end


def test_ctrl_c_ends_with_130(cli: Cli, endless: tuple[threading.Event, threading.Event]) -> None:
    asked, end = endless
    child = subprocess.Popen([*FUYUN, "logs", "hello", "-f"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert asked.wait(30)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=30)
    finally:
        end.set()
        child.kill()
        child.wait()
    assert (child.returncode, out, err) == (130, b"", b"interrupted\n")


def test_a_reader_that_leaves_is_no_error(api: ApiServer, cli: Cli) -> None:
    line = {"at_s": 1.0, "namespace": "default", "function": "hello", "version": 1, "instance": "i", "text": "x" * 1000}
    api.on("GET", f"{FN}/hello/logs", {"items": [line] * 500, "next": None})
    child = subprocess.Popen([*FUYUN, "logs", "hello"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.readline()
    child.stdout.close()
    err = child.stderr.read()
    child.stderr.close()
    assert (child.wait(30), err) == (0, b"")


def test_schema_is_printed_as_json(cli: Cli) -> None:
    assert json.loads(cli("config", "schema").out)["title"] == "fuyun.yaml"
