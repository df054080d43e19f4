"""`fuyun stream` and `fuyun table`: what is sent and what is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli
from tests.client.api_server import ApiServer, Reply

STREAMS, TABLES = "/namespaces/default/streams", "/namespaces/default/tables"
STREAM: dict[str, Any] = {"namespace": "default", "name": "orders", "spec": {"partitions": 2}, "created_s": 0.0}
TABLE: dict[str, Any] = {
    "namespace": "default", "name": "stock", "created_s": 0.0, "items": 2, "bytes": 2048,
    "spec": {"partition_key": "sku", "sort_key": "shop", "indexes": [{"name": "by-n", "partition_key": "n"}]},
}  # fmt: skip


def record(offset: int, data: Any, key: str = "k") -> dict[str, Any]:
    event = {"specversion": "1.0", "id": "1", "source": "/", "type": "t", "data": data}
    return {"partition": 0, "offset": offset, "key": key, "version": 0, "at_s": 0.0, "event": event}


@pytest.fixture(autouse=True)
def _filled(api: ApiServer) -> None:
    parts = [{"number": number, "start": 1, "end": 3, "bytes": 1024} for number in range(2)]
    api.on("GET", STREAMS, {"items": [STREAM], "next": None})
    api.on("GET", f"{STREAMS}/orders", {"stream": STREAM, "partitions": parts})
    api.on("PUT", f"{STREAMS}/orders", STREAM)
    api.on("DELETE", f"{STREAMS}/orders", Reply(status=204))
    api.on("POST", f"{STREAMS}/orders/records", [{"partition": 0, "offset": 7, "version": 0}])
    cursor = {"partition": 0, "offset": 2, "epoch": 1}
    group = {"group": "g", "cursors": [cursor], "lag": 1, "age_s": 2.5}
    api.on("GET", f"{STREAMS}/orders/groups", [group])
    api.on("POST", f"{STREAMS}/orders/groups/g/reset", [cursor])
    api.on("DELETE", f"{STREAMS}/orders/groups/g", Reply(status=204))
    api.on("GET", TABLES, {"items": [TABLE], "next": None})
    api.on("GET", f"{TABLES}/stock", TABLE)
    api.on("PUT", f"{TABLES}/stock", TABLE)
    api.on("POST", f"{TABLES}/stock/write", [{"kind": "update", "version": 4, "item": {"sku": "a", "shop": 7}}])
    api.on("POST", f"{TABLES}/stock/read", [{"item": {"sku": "a", "shop": 7}, "version": 3}])
    api.on("POST", f"{TABLES}/stock/query", {"items": [{"item": {"sku": "a"}, "version": 3}], "next": None})


def test_a_stream_is_created_with_what_was_said(api: ApiServer, cli: Cli) -> None:
    ran = cli(
        "stream",
        "create",
        "orders",
        "--partitions",
        "2",
        "--retention",
        "2d",
        "--retention-size",
        "1MiB",
        "--versioned",
    )
    assert (ran.code, ran.err) == (0, "created stream orders\n")
    [asked] = api.requests("PUT", f"{STREAMS}/orders")
    assert asked.json() == {
        "partitions": 2, "retention_s": 172800.0, "retention_bytes": 2**20, "versioned": True, "description": "",
    }  # fmt: skip
    assert asked.headers["if-none-match"] == "*"
    assert cli("stream", "create", "orders", "--retention", "long").code == 2
    assert "partitions is 99" in cli("stream", "create", "orders", "--partitions", "99").err


def test_what_is_appended_is_json_text_or_bytes(api: ApiServer, cli: Cli) -> None:
    Path("raw").write_bytes(b"\xff\x00")
    ran = cli("stream", "append", "orders", '{"n": 1}', "hello", "@raw", "--key", "k", "--expected", "4")
    assert (ran.code, ran.out) == (0, "0:7\n")
    [asked] = api.requests("POST", f"{STREAMS}/orders/records")
    sent = asked.json()["records"]
    assert [one.get("data") for one in sent] == [{"n": 1}, "hello", None]
    assert (sent[2]["data_base64"], [one["expected"] for one in sent]) == ("/wA=", [4, None, None])
    assert {one["key"] for one in sent} == {"k"}
    Path("lines").write_text("1\n\n2\n")
    cli("stream", "append", "orders", "@lines", "--lines")
    assert [one["data"] for one in api.requests("POST", f"{STREAMS}/orders/records")[1].json()["records"]] == [1, 2]


def test_reading_a_stream(api: ApiServer, cli: Cli) -> None:
    assert cli("stream", "list").out.splitlines()[1] == "orders\t2\t0\t1w\t"
    assert cli("stream", "get", "orders").out.splitlines()[1] == "0\t1\t3\t1KiB\t"
    assert cli("stream", "groups", "orders").out.splitlines()[1] == "g\t0\t2\t\t\t1\t2.5"
    path = f"{STREAMS}/orders/records"
    api.on("GET", path, {"records": [record(1, {"n": 1}), record(2, "x", "")], "next": 3, "start": 1, "end": 3})
    ran = cli("stream", "read", "orders", "-p", "0", "--from", "1", "--limit", "2")
    assert ran.out.splitlines() == [' 0:1 k {"n":1}', ' 0:2 - "x"']
    [asked] = api.requests("GET", path)
    assert asked.query["from"] == "1"
    found = json.loads(cli("stream", "read", "orders", "-p", "0", "--limit", "2", "--json").out)
    assert found[0]["event"]["data"] == {"n": 1}


def test_a_group_is_put_somewhere_or_forgotten(api: ApiServer, cli: Cli) -> None:
    assert cli("stream", "reset", "orders", "g").code == 2, "it asks"
    assert cli("stream", "reset", "orders", "g", "--from", "end", "--yes").out.splitlines()[1] == "0\t2"
    assert api.requests("POST", f"{STREAMS}/orders/groups/g/reset")[0].json() == {"from": "end"}
    assert cli("stream", "reset", "orders", "g", "--delete", "--yes").err == "forgot group g\n"
    assert cli("stream", "delete", "orders", "--yes").err == "deleted stream orders\n"


def test_a_table_is_created_with_what_was_said(api: ApiServer, cli: Cli) -> None:
    ran = cli("table", "create", "stock", "--key", "sku", "--sort", "shop", "--index", "by-n=n,shop", "--ttl", "until")
    assert (ran.code, ran.err) == (0, "created table stock\n")
    asked = api.requests("PUT", f"{TABLES}/stock")[0].json()
    assert (asked["partition_key"], asked["sort_key"], asked["ttl"]) == ("sku", "shop", "until")
    assert asked["indexes"] == [{"name": "by-n", "partition_key": "n", "sort_key": "shop"}]
    assert cli("table", "create", "stock", "--index", "nothing").code == 2
    assert "sort_key is the partition key" in cli("table", "create", "stock", "--sort", "id").err
    assert cli("table", "list").out.splitlines()[1] == "stock\tsku, shop\t2\t2KiB\t"
    assert "indexes\tby-n=n\n" in cli("table", "get", "stock").out


def test_items_are_put_updated_found_and_deleted(api: ApiServer, cli: Cli) -> None:
    write = f"{TABLES}/stock/write"
    assert cli("table", "put", "stock", '{"sku": "a", "shop": 7}', "--if", '{"version": 3}').code == 0
    [change] = api.requests("POST", write)[0].json()["changes"]
    assert (change["put"], change["if"]["version"]) == ({"sku": "a", "shop": 7}, 3)
    assert cli("table", "put", "stock", "[1]").code == 2
    assert cli("table", "put", "stock", '{"sku": "a"}', "--if", '{"versions": 3}').code == 2
    ran = cli(
        "table",
        "item",
        "update",
        "stock",
        "a",
        "7",
        "--set",
        "x=[1]",
        "--set",
        "y=word",
        "--add",
        "n=2",
        "--remove",
        "z",
    )
    assert (ran.code, ran.out) == (0, '{"sku":"a","shop":7}\n')
    [change] = api.requests("POST", write)[1].json()["changes"]
    assert (change["update"], change["set"], change["add"], change["remove"]) == (
        {"sku": "a", "shop": 7}, {"x": [1], "y": "word"}, {"n": 2}, ["z"],
    )  # fmt: skip
    assert cli("table", "item", "get", "stock", "a", '"7"').out == '{"sku":"a","shop":7}\n'
    assert api.requests("POST", f"{TABLES}/stock/read")[0].json() == {"keys": [{"sku": "a", "shop": "7"}]}
    assert "the key of table 'stock' is sku shop" in cli("table", "item", "delete", "stock", "a").err
    assert cli("table", "query", "stock", "a", "--from", "1", "--where", '{"n": 1}').out == '{"sku":"a"}\n'
    asked = api.requests("POST", f"{TABLES}/stock/query")[0].json()
    assert (asked["partition"], asked["lower"], asked["match"]) == ("a", 1, {"n": 1})
    assert json.loads(cli("table", "scan", "stock", "--json").out) == [{"item": {"sku": "a"}, "version": 3}]
