"""Commands that change something, and the ways they refuse."""

from __future__ import annotations

import io
import json
import sys

import msgspec
import pytest

from fuyun.domain.tenants import Quotas
from tests.cli.conftest import Cli, version
from tests.client.api_server import ApiServer, Reply, problem

FN = "/namespaces/default/functions"
ALIAS = {
    "namespace": "default",
    "function": "hello",
    "name": "live",
    "weights": [{"version": 2, "weight": 100}],
    "revision": 4,
}


def stdin(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


def test_invoke_prints_the_result_alone_on_stdout(api: ApiServer, cli: Cli) -> None:
    headers = {"fuyun-version": "3", "fuyun-start": "warm", "fuyun-request-id": "r9", "server-timing": "run;dur=2"}
    api.on("POST", f"{FN}/hello/invoke", Reply({"a": "ä"}, headers=headers))
    ran = cli("invoke", "hello:live", "-d", '{"x": 1}')
    assert (ran.code, ran.out, ran.err) == (0, '{"a": "\\u00e4"}\n', "")
    assert (api.asked[0].body, api.asked[0].query) == (b'{"x": 1}', {"qualifier": "live"})
    ran = cli("invoke", "hello", "-v")
    assert ran.err.startswith("version 3 · start warm · request r9\n  run         2.00 ms  ━")
    assert api.asked[1].body == b"{}"


def test_an_application_that_answers_with_an_error_status_has_failed(api: ApiServer, cli: Cli) -> None:
    headers = {"fuyun-status": "405", "fuyun-request-id": "r9"}
    api.on("POST", f"{FN}/hello/invoke", Reply({"detail": "Method Not Allowed"}, headers=headers))
    ran = cli("invoke", "hello", "-d", "{}")
    assert (ran.code, ran.out) == (3, '{"detail": "Method Not Allowed"}\n')
    assert ran.err.startswith("error [function_error]: the application answered POST / with 405 Method Not Allowed\n")
    assert "/fn/default/hello/\nrequest r9\n" in ran.err
    api.on("POST", f"{FN}/hello/invoke", Reply({"id": 1}, headers={"fuyun-status": "201"}))
    assert cli("invoke", "hello").code == 0


def test_invoke_prints_bytes_as_they_are(api: ApiServer, cli: Cli) -> None:
    api.on("POST", f"{FN}/hello/invoke", Reply(b"\x89PNG\x00", headers={"content-type": "image/png"}))
    assert cli("invoke", "hello").raw == b"\x89PNG\x00"


def test_invoke_takes_payloads_from_files_and_stdin(
    api: ApiServer, cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    api.on("POST", f"{FN}/hello/invoke", None)
    with open("event.json", "w") as file:
        file.write("[1]")
    stdin(monkeypatch, "[2]")
    assert cli("invoke", "hello", "-d", "@event.json").code == 0
    assert cli("invoke", "hello", "-d", "-").code == 0
    assert [asked.body for asked in api.asked] == [b"[1]", b"[2]"]
    assert cli("invoke", "hello", "-d", "@nowhere.json").code == 2
    ran = cli("invoke", "hello", "-d", "{x}")
    assert (ran.code, ran.out) == (2, "")
    assert "the payload is not JSON" in ran.err


def test_a_failing_function_exits_3_with_its_traceback(api: ApiServer, cli: Cli) -> None:
    trace = ['  File "/code/app.py", line 3, in handler\n', "    1 / 0\n", "ZeroDivisionError: division by zero\n"]
    reply = problem("function_raised", "ZeroDivisionError: division by zero", 502, traceback=trace)
    reply.headers |= {"server-timing": "run;dur=2", "fuyun-version": "1"}
    api.on("POST", f"{FN}/hello/invoke", reply)
    ran = cli("invoke", "hello", "-v")
    assert (ran.code, ran.out) == (3, "")
    assert 'File "/code/app.py", line 3, in handler\n    1 / 0\n' in ran.err
    assert "error [function_raised]: ZeroDivisionError: division by zero\n" in ran.err
    assert "request r1" in ran.err
    assert "run         2.00 ms" in ran.err


def test_asynchronous_invocation_prints_the_id(api: ApiServer, cli: Cli) -> None:
    api.on("POST", f"{FN}/hello/invoke", Reply({"id": "a1", "duplicate": True}, 202))
    ran = cli("invoke", "hello:live", "--async", "--delay", "90s", "--idempotency-key", "k", "-d", "[1]")
    assert (ran.code, ran.out, ran.err) == (0, "a1\n", "there was one with this key already\n")
    (asked,) = api.asked
    assert (asked.query, asked.json()) == ({"qualifier": "live"}, [1])
    wanted = {"fuyun-invocation-type": "async", "fuyun-delay": "90s", "fuyun-idempotency-key": "k"}
    assert wanted.items() <= asked.headers.items()
    assert "fuyun-schedule-at" not in asked.headers
    ran = cli("invoke", "hello", "--at", "2026-12-24T18:00:00Z")
    assert ran.code == 2
    assert "add --async" in ran.err


def test_an_alias_moves_from_what_was_read(api: ApiServer, cli: Cli) -> None:
    api.on("GET", f"{FN}/hello/aliases", {"items": [ALIAS], "next": None})
    api.on("PUT", f"{FN}/hello/aliases/live", ALIAS)
    api.on("PUT", f"{FN}/hello/aliases/next", ALIAS | {"name": "next"})
    ran = cli("alias", "set", "hello", "live", "1=90", "2", "--sticky", "x-user")
    assert (ran.code, ran.err) == (0, "hello:live now serves 2\n")
    assert api.asked[1].headers["if-match"] == '"4"'
    assert api.asked[1].json() == {
        "weights": [{"version": 1, "weight": 90.0}, {"version": 2, "weight": 10.0}],
        "sticky_header": "x-user",
    }
    assert cli("alias", "set", "hello", "next", "$LATEST").code == 0
    assert api.asked[-1].headers["if-none-match"] == "*"


@pytest.mark.parametrize("weights", [["1=50"], ["x"], ["1=90", "1=10"], ["1=-5", "2=105"], ["1=x"]])
def test_weights_that_make_no_sense_are_refused(api: ApiServer, cli: Cli, weights: list[str]) -> None:
    assert cli("alias", "set", "hello", "live", *weights).code == 2
    assert api.asked == []


def test_rollback_needs_one_alias_or_a_name(api: ApiServer, cli: Cli) -> None:
    api.on("POST", f"{FN}/hello/aliases/live/rollback", ALIAS)
    api.on("GET", f"{FN}/hello/aliases", {"items": [ALIAS], "next": None})
    assert cli("rollback", "hello").err == "hello:live is back at 2\n"
    assert cli("rollback", "hello:live").code == 0
    api.on("GET", f"{FN}/hello/aliases", {"items": [ALIAS, ALIAS | {"name": "beta"}], "next": None})
    ran = cli("rollback", "hello")
    assert (ran.code, "name one: hello:live, hello:beta" in ran.err) == (2, True)
    api.on("GET", f"{FN}/hello/aliases", {"items": [], "next": None})
    assert cli("rollback", "hello").code == 5


def test_a_key_is_printed_once_and_alone(api: ApiServer, cli: Cli) -> None:
    key = {"id": "k1", "namespace": "default", "role": "invoker", "created_s": 0.0, "expires_s": 1_900_000_000.0}
    api.on("POST", "/namespaces/default/keys", Reply({"key": key, "token": "fk_k1_s"}, 201))
    ran = cli("key", "create", "ci", "--role", "invoker", "--expires", "90d")
    assert (ran.code, ran.out) == (0, "fk_k1_s\n")
    assert "fk_k1_s" not in ran.err
    assert "invoker of default, until 2030-03-1" in ran.err
    sent = api.asked[0].json()
    assert (sent["name"], sent["role"]) == ("ci", "invoker")
    assert sent["expires_s"] > 1_700_000_000
    assert "did you mean 'viewer'" in cli("key", "create", "--role", "viewr").err
    assert cli("key", "create", "--expires", "later").code == 2
    api.on("DELETE", "/namespaces/default/keys/k1", Reply(None, 204))
    assert cli("key", "revoke", "fk_k1_s").code == 0


def test_a_secret_never_comes_from_the_command_line(api: ApiServer, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    api.on("PUT", "/namespaces/default/secrets/db", Reply(None, 204))
    ran = cli("secret", "set", "db", "hunter2")
    assert (ran.code, "shell's history" in ran.err) == (2, True)
    stdin(monkeypatch, "hunter2\n")
    ran = cli("secret", "set", "db")
    assert ran.code == 0
    assert "hunter2" not in ran.out + ran.err
    assert api.asked[0].json() == {"value": "hunter2"}
    stdin(monkeypatch, "\n")
    assert cli("secret", "set", "db", "-").code == 2


@pytest.mark.parametrize(
    ("words", "path"),
    [("fn delete hello", f"{FN}/hello"), ("namespace delete shop", "/namespaces/shop")],
)
def test_deleting_asks_first(api: ApiServer, cli: Cli, words: str, path: str) -> None:
    api.on(
        "GET",
        f"{FN}/hello",
        {"namespace": "default", "name": "hello", "last_version": 0, "created_s": 0, "updated_s": 0},
    )
    api.on("GET", "/namespaces/shop", {"name": "shop", "created_s": 0})
    api.on("DELETE", path, Reply(None, 204))
    ran = cli(*words.split())
    assert (ran.code, "pass --yes" in ran.err) == (2, True)
    assert api.requests("DELETE", path) == []
    assert cli(*words.split(), "--yes").code == 0
    assert len(api.requests("DELETE", path)) == 1


def test_quotas_change_only_where_told(api: ApiServer, cli: Cli) -> None:
    api.on("GET", "/namespaces/shop", {"name": "shop", "quotas": {"functions": 3}, "created_s": 0})
    api.on(
        "PUT", "/namespaces/shop/quotas", lambda asked: Reply({"name": "shop", "quotas": asked.json(), "created_s": 0})
    )
    ran = cli("namespace", "quota", "shop", "--memory", "8GiB", "--json")
    assert json.loads(ran.out)["quotas"] == msgspec.to_builtins(Quotas(functions=3, memory_bytes=8 * 2**30))
    assert cli("namespace", "quota", "shop", "--memory", "lots").code == 2


def test_publish_prints_the_number(api: ApiServer, cli: Cli) -> None:
    api.on("POST", f"{FN}/hello/versions", version(4))
    assert cli("fn", "publish", "hello", "--description", "better").out == "4\n"
    assert api.asked[0].json() == {"description": "better"}


def test_configuration_is_kept_and_the_key_is_masked(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FUYUN_API")
    monkeypatch.delenv("FUYUN_KEY")
    assert cli("config", "show", "--key").code == 2
    stdin(monkeypatch, "fk_abcdef_secret\n")
    assert cli("config", "set", "key", "-").code == 0
    assert cli("config", "set", "namespace", "shop").code == 0
    assert cli("config", "set", "api", "http://10.0.0.1:8081/").code == 0
    ran = cli("config", "show")
    assert "secret" not in ran.out
    assert "api\thttp://10.0.0.1:8081\n" in ran.out
    assert cli("config", "show", "--key").out == "fk_abcdef_secret\n"
    assert cli("config", "path").out.endswith("/config/fuyun/config.yaml\n")
    assert "did you mean 'api'" in cli("config", "set", "apii", "x").err
    assert cli("config", "set", "api", "localhost").code == 2
    assert cli("config", "set", "namespace", "Not Good").code == 2
    assert cli("config", "use", "http://nowhere").code == 2
