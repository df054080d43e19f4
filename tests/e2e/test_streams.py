"""Streams and tables of a running platform: from the command line into functions, through kills."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.addressed import invoke
from tests.running import Platform
from tests.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

#: Says what each record holds, a line each.
TELLER = """
def handler(events, context):
    for event in events:
        data = event["data"]
        print("seen", data["new"]["n"] if event["type"].startswith("fuyun.table") else data["n"], flush=True)
        if data.get("n") == "bad":
            raise ValueError("bad")
"""


def run(platform: Platform, *arguments: str, stdin: bytes = b"") -> str:
    """A command that succeeds; what it printed."""
    ran = platform.cli(*arguments, stdin=stdin)
    assert ran.returncode == 0, ran.stderr.decode()
    return ran.stdout.decode()


def ask(platform: Platform, path: str) -> Any:
    """A resource of the namespace."""
    answer = platform.http.get(f"{platform.api}/v1/namespaces/default/{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def seen(platform: Platform, name: str) -> list[str]:
    """What the function said, in the order in which it was called."""
    lines = ask(platform, f"functions/{name}/logs")["items"]
    return [line["text"].split()[1] for line in lines if line["text"].startswith("seen ")]


def lag(platform: Platform, stream: str) -> dict[str, int]:
    """Group -> records before it."""
    return {one["group"]: one["lag"] for one in ask(platform, f"streams/{stream}/groups")}


def trigger(platform: Platform, name: str, **policy: Any) -> None:
    """Deploy a function that reads the stream of its own name."""
    platform.deploy(name, TELLER, triggers=[{"stream": {"stream": name}, "policy": policy}])


def test_from_the_command_line_into_a_function(platform: Platform) -> None:
    run(platform, "stream", "create", "walk", "--partitions", "2")
    trigger(platform, "walk", batch_size=3)
    lines = "\n".join(json.dumps({"n": n}) for n in range(10)).encode()
    placed = run(platform, "stream", "append", "walk", "-", "--lines", "--key", "k", stdin=lines).split()
    assert [place.partition(":")[2] for place in placed] == [str(n) for n in range(10)]
    wait_until(lambda: len(seen(platform, "walk")) == 10, "all to be seen", 30)
    assert seen(platform, "walk") == [str(n) for n in range(10)]
    wait_until(lambda: lag(platform, "walk") == {"trigger.walk.stream": 0}, "the cursor to follow", 20)
    assert "trigger.walk.stream\t" in run(platform, "stream", "groups", "walk")
    run(platform, "stream", "reset", "walk", "trigger.walk.stream", "--from", "8", "--yes")
    wait_until(lambda: seen(platform, "walk")[10:] == ["8", "9"], "the last two to be played again", 20)
    metrics = platform.http.get(f"{platform.api}/metrics").text
    assert 'fuyun_stream_appended_total{namespace="default",stream="walk"} 10.0' in metrics
    platform.remove("walk")
    run(platform, "stream", "delete", "walk", "--yes")


def test_a_change_of_a_table_reaches_a_function(platform: Platform) -> None:
    run(platform, "table", "create", "stock", "--key", "sku", "--sort", "shop", "--index", "by-shop=shop,n")
    platform.deploy("watch", TELLER, triggers=[{"table": {"table": "stock"}}])
    run(platform, "table", "put", "stock", '[{"sku": "a", "shop": 1, "n": 0}, {"sku": "b", "shop": 1, "n": 7}]')
    for _ in range(3):
        run(platform, "table", "item", "update", "stock", "a", "1", "--add", "n=1")
    refused = platform.cli("table", "put", "stock", '{"sku": "a", "shop": 1}', "--if", '{"exists": false}')
    assert (refused.returncode, b"there is such an item" in refused.stderr) == (5, True)
    lines = run(platform, "table", "query", "stock", "1", "--index", "by-shop").splitlines()
    found = [json.loads(line) for line in lines]
    assert [item["n"] for item in found] == [3, 7]
    wait_until(lambda: len(seen(platform, "watch")) == 5, "all changes to be seen", 30)
    assert [n for n in seen(platform, "watch") if n != "7"] == ["0", "1", "2", "3"]
    platform.remove("watch")
    run(platform, "table", "delete", "stock", "--yes")


@pytest.mark.parametrize("point", ["streams.after_call:4", "streams.before_commit:4", "streams.after_commit:4"])
def test_killed_around_a_commit_nothing_is_lost_and_order_is_kept(
    start_platform: Callable[..., Platform], point: str
) -> None:
    """Promise 6: an offset is committed only after its batch was taken; a kill repeats at most that batch."""
    platform = start_platform(FUYUN_CRASH_AT=point)
    run(platform, "stream", "create", "kill")
    trigger(platform, "kill", batch_size=2)
    lines = "\n".join(json.dumps({"n": n}) for n in range(20)).encode()
    assert len(run(platform, "stream", "append", "kill", "-", "--lines", stdin=lines).split()) == 20
    assert platform.process.wait(60) == -signal.SIGKILL
    platform.settings.pop("FUYUN_CRASH_AT")
    platform.restart()
    wait_until(lambda: lag(platform, "kill") == {"trigger.kill.stream": 0}, "all to be taken", 60)
    wait_until(lambda: "19" in seen(platform, "kill"), "what was said to be kept", 20)
    numbers = [int(n) for n in seen(platform, "kill")]
    # Logs of the last calls before the kill may be gone with it; what the cursor passed was told before.
    again = [n for n in numbers if numbers.count(n) > 1]
    assert len(set(again)) <= 2, "one batch at most comes twice"
    firsts = list(dict.fromkeys(numbers))
    assert firsts == sorted(firsts)
    assert set(range(20)) - set(numbers) <= set(range(8)), "nothing behind the kill is missing"


def test_what_fails_for_good_is_a_dead_letter_and_the_rest_goes_on(platform: Platform) -> None:
    run(platform, "stream", "create", "mixed")
    trigger(platform, "mixed", batch_size=1, max_attempts=1)
    for n in ("1", '"bad"', "2"):
        run(platform, "stream", "append", "mixed", f'{{"n": {n}}}')
    wait_until(lambda: "2" in seen(platform, "mixed"), "the last to be seen", 30)
    dead = json.loads(run(platform, "async", "list", "--state", "failed", "--json"))
    [letter] = [one for one in dead if one["target"] == "function:mixed"]
    assert (letter["error"], letter["origin"]) == ("function_raised", "trigger mixed/stream")
    platform.remove("mixed")
    run(platform, "stream", "delete", "mixed", "--yes")


#: Does with streams and tables what the event says, and tells what came of it.
USER = """
from fuyun.sdk import CallError

def handler(event, context):
    try:
        if "stream" in event:
            name, key = event["stream"], event.get("key", "")
            version = len(context.streams.history(name, key))
            context.streams.append(name, event["data"], key=key, expected=version)
            context.streams.keep_snapshot(name, key, version + 1, {"seen": version + 1})
            found, _ = context.streams.read(name)
            shown = [[one.data, one.version, one.event.get("fuyunhops", 0)] for one in found]
            return shown, context.streams.snapshot(name, key)
        tables, name = context.tables, event["table"]
        made = tables.put(name, {"id": "a", "n": 1})
        tables.update(name, {"id": "b"}, set={"n": 2}, add={"m": 1}, condition={"exists": False})
        try:
            tables.put(name, {"id": "a"}, {"version": made + 1})
        except CallError as error:
            refused = error.code
        items = [[one["id"], one.version] for one in tables.query(name, match={"n": {"numeric": ["<=", 2]}})]
        key = {"id": "b"}
        return items, tables.get(name, key), tables.delete(name, key), tables.get(name, key), refused
    except CallError as error:
        return {"code": error.code, "detail": error.detail}
"""


def test_a_function_uses_what_its_permissions_name(either_platform: Platform) -> None:
    platform = either_platform
    for kind, body in (("streams", {"versioned": True}), ("tables", {})):
        for name in ("mine", "other"):
            made = platform.http.put(f"{platform.api}/v1/namespaces/default/{kind}/{name}", json=body)
            assert made.status_code == 200, made.text
    platform.deploy("user", USER, permissions={"streams": ["mine"], "tables": ["mine"]})
    try:
        asked = {"stream": "mine", "key": "k", "data": {"n": 1}}
        assert invoke(platform, "user", asked) == [[[{"n": 1}, 1, 1]], [1, {"seen": 1}]]
        assert invoke(platform, "user", asked) == [[[{"n": 1}, 1, 1], [{"n": 1}, 2, 1]], [2, {"seen": 2}]]
        assert invoke(platform, "user", {"table": "mine"}) == [
            [["a", 1], ["b", 2]], {"id": "b", "n": 2, "m": 1}, True, None, "conflict",
        ]  # fmt: skip
        for asked in ({"stream": "other", "data": 1}, {"table": "other"}):
            refused = invoke(platform, "user", asked)
            assert (refused["code"], "its permissions name mine" in refused["detail"]) == ("forbidden", True)
    finally:
        platform.remove("user")
        for kind in ("streams", "tables"):
            for name in ("mine", "other"):
                platform.http.delete(f"{platform.api}/v1/namespaces/default/{kind}/{name}")
