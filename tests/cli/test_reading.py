"""Commands that read: tables, JSON, and where each word goes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.conftest import Cli, version
from tests.client.api_server import ApiServer, Reply

FN = "/namespaces/default/functions"


def page(*items: Any) -> dict[str, Any]:
    return {"items": list(items), "next": None}


KEY = {"id": "k1", "namespace": "default", "role": "viewer", "name": "ci", "created_s": 0.0, "expires_s": None}
NAMESPACE = {"name": "shop", "quotas": {"functions": 3}, "created_s": 0.0}
ALIAS = {"namespace": "default", "function": "hello", "name": "live", "revision": 4,
         "weights": [{"version": 2, "weight": 90}, {"version": 3, "weight": 10}],
         "previous": [{"version": 1, "weight": 100}]}  # fmt: skip
FUNCTION = {"namespace": "default", "name": "hello", "last_version": 3, "created_s": 0.0, "updated_s": 0.0}
AUDIT = {"id": "a1", "at_s": 0.0, "key_id": "k1", "namespace": "default", "action": "alias.set", "target": "hello",
         "source": "127.0.0.1", "detail": "live"}  # fmt: skip
LINE = {"at_s": 1000.0, "namespace": "default", "function": "hello", "version": 1, "instance": "i", "text": "hi\n",
        "request": "0" * 31 + "7", "stream": "stdout"}  # fmt: skip
RECORD = {"id": "0" * 31 + "7", "at_s": 1000.0, "namespace": "default", "function": "hello", "version": 1,
          "status": "ok", "start_kind": "blank", "duration_ms": 2.0,
          "waterfall": {"queue": 0.5, "run": 1.5}}  # fmt: skip


@pytest.fixture(autouse=True)
def _filled(api: ApiServer) -> None:
    api.on("GET", FN, page(FUNCTION))
    api.on("GET", f"{FN}/hello", FUNCTION)
    api.on("GET", f"{FN}/hello/versions", page(version(0), version(1)))
    api.on("GET", f"{FN}/hello/versions/$LATEST", version(0))
    api.on("GET", f"{FN}/hello/versions/2", version(2))
    for qualifier in ("$LATEST", "2"):
        plan = {"policy": "auto", "rung": "template", "reason": "the version is loaded already"}
        api.on("GET", f"{FN}/hello/versions/{qualifier}/start", plan)
    api.on("GET", f"{FN}/hello/aliases", page(ALIAS))
    api.on("GET", f"{FN}/hello/logs", page(LINE))
    api.on("GET", f"{FN}/hello/invocations/{RECORD['id']}", RECORD)
    api.on("GET", "/namespaces", page(NAMESPACE))
    api.on("GET", "/namespaces/shop", NAMESPACE)
    api.on("GET", "/namespaces/default/keys", page(KEY))
    api.on("GET", "/namespaces/default/secrets", page({"name": "db"}))
    api.on("GET", "/audit", page(AUDIT))


#: Words -> exactly what stands on stdout when it is no terminal.
GOLDEN = {
    "fn list": "NAME\tVERSION\tUPDATED\nhello\t3\t\n",
    "fn versions hello": (
        "VERSION\tRUNTIME\tCODE\tCREATED\tDESCRIPTION\n"
        "$LATEST\tpython3\tabababababab\t\t\n"
        "1\tpython3\tabababababab\t\t\n"
    ),
    "alias list hello": (
        "ALIAS\tSERVES\tBEFORE\tSTICKY\tREVISION\tUPDATED\nlive\t2=90% 3=10%\t1\t\t4\t\n"
    ),
    "key list": "ID\tROLE\tNAMESPACE\tNAME\tCREATED\tEXPIRES\nk1\tviewer\tdefault\tci\t\t\n",
    "secret list": "NAME\ndb\n",
    "namespace list": (
        "NAME\tFUNCTIONS\tCONCURRENCY\tINSTANCES\tMEMORY\tSTORAGE\tCREATED\nshop\t3\t1000\t500\t64GiB\t10GiB\t\n"
    ),
    "namespace quota shop": (
        "functions\t3\nconcurrency\t1000\ninstances\t500\nmemory\t64GiB\nstorage\t10GiB\nqueues\t1000\n"
        "messages\t1000000\nmessage size\t4GiB\ntopics\t1000\nbuses\t100\nstreams\t100\nstream size\t10GiB\n"
        "tables\t100\ntable size\t10GiB\ndeliveries\t1000000\nbuckets\t100\nobjects\t100GiB\n"
    ),
    "audit": (
        "AT\tKEY\tFROM\tACTION\tNAMESPACE\tTARGET\tDETAIL\tID\n\tk1\t127.0.0.1\talias.set\tdefault\thello\tlive\ta1\n"
    ),
    "fn get hello:live": (
        "function\tdefault/hello\nversion\t2\nruntime\tpython3\nhandler\tapp.handler\nmemory\t256MiB\ntimeout\t30s\n"
        "concurrency\t1\ninstances\t0 to 100, idle for 5m\nisolation\tsandbox\ncode\tabababababab (2.0 KiB)\n"
        "start\tauto: template (the version is loaded already)\nalias live\t2=90%, 3=10%\n"
    ),
}  # fmt: skip


@pytest.mark.parametrize("words", GOLDEN)
def test_a_table_is_tab_separated_where_nobody_looks(cli: Cli, words: str) -> None:
    ran = cli(*words.split())
    assert (ran.code, ran.out, ran.err) == (0, GOLDEN[words], "")


READS = [*GOLDEN, "fn get hello", "logs hello", "config show", "config settings", "config schema", "doctor"]


@pytest.mark.parametrize("words", [*(w for w in READS if w != "config schema"), f"logs hello --request {RECORD['id']}"])
def test_every_read_has_json(cli: Cli, words: str) -> None:
    ran = cli(*words.split(), "--json")
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out)


def test_empty_lists_say_so_on_stderr_only(api: ApiServer, cli: Cli) -> None:
    api.on("GET", FN, page())
    ran = cli("fn", "list")
    assert (ran.code, ran.out) == (0, "")
    assert "no functions; deploy one" in ran.err
    assert cli("fn", "list", "--json").out == "[]\n"


def test_logs_show_time_request_and_stream(cli: Cli) -> None:
    ran = cli("logs", "hello")
    assert ran.code == 0
    assert ran.out.endswith(" 00000007 stdout   hi\n")


def test_logs_of_a_request_show_its_record_and_waterfall(cli: Cli) -> None:
    lines = cli("logs", "hello", "--request", str(RECORD["id"])).out.splitlines()
    assert f"request\t{RECORD['id']}" in lines
    assert "function\tdefault/hello:1" in lines
    assert "start\tblank" in lines
    assert "  queue       0.50 ms  ━━━━━━━━━━" in lines
    assert "  run         1.50 ms            " + "━" * 30 in lines
    assert "  total       2.00 ms" in lines


def test_logs_since_counts_back_from_now(api: ApiServer, cli: Cli) -> None:
    cli("logs", "hello", "--since", "10m")
    cli("logs", "hello")
    since = [float(asked.query["since"]) for asked in api.requests("GET", f"{FN}/hello/logs")]
    assert since[0] > 1_700_000_000
    assert since[1] == 0
    assert cli("logs", "hello", "--since", "soon").code == 2


def test_following_logs_ends_with_the_stream(api: ApiServer, cli: Cli) -> None:
    ndjson = Reply((json.dumps(LINE) + "\n").encode() * 2, headers={"content-type": "application/x-ndjson"})
    api.on("GET", f"{FN}/hello/logs", ndjson)
    ran = cli("logs", "hello", "-f", "--json")
    assert [json.loads(line)["text"] for line in ran.out.splitlines()] == ["hi\n", "hi\n"]
    assert api.asked[-1].query["follow"] == "1"


def test_the_namespace_option_goes_into_the_path(api: ApiServer, cli: Cli) -> None:
    api.on("GET", "/namespaces/shop/functions", page())
    assert cli("fn", "list", "-n", "shop").code == 0


def test_status_counts_functions_of_every_namespace(api: ApiServer, cli: Cli) -> None:
    pool = {"namespace": "shop", "function": "f", "version": "1", "instances": {"ready": 2}, "queue": 0, "inflight": 1}
    api.on(
        "GET", "/status", {"nodes": [{"name": "local", "state": "ready", "version": "9", "pools": [pool], "host": {}}]}
    )
    api.on("GET", "/namespaces/shop/functions", page(FUNCTION, FUNCTION))
    ran = cli("status")
    assert ran.code == 0
    assert "functions\t2\ninstances\t2\n" in ran.out
    assert "local\tshop/f\t1\t2 ready\t0\t1\n" in ran.out
    assert json.loads(cli("status", "--json").out)["functions"] == 2
