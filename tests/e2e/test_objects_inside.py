"""Objects and buses as functions meet them at their address, and chains that go through buckets: [A 2.11], [A 2.12]."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.addressed import invoke
from tests.running import Platform
from tests.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

BASE = "/v1/namespaces/default"

#: Evaluates what the event says with `objects` and `buses` at hand, and tells what came of it.
EVALUATOR = """
import hashlib
import io
import resource

from fuyun.sdk import CallError


def handler(event, context):
    names = {"objects": context.objects, "buses": context.buses, "io": io, "hashlib": hashlib, "resource": resource}
    try:
        exec(event["do"], names)
    except CallError as error:
        return {"code": error.code, "detail": error.detail, "hint": error.hint}
    return names.get("told")
"""

#: Writes what it is told of beside it, which is told to it again.
ECHO = """
def handler(event, context):
    name = event["subject"].rpartition(".")[0] or event["subject"]
    context.objects.put(event["data"]["bucket"], f"{name}.{context.hops}", b"x")
"""

#: Says what came to it.
TELLER = """
def handler(event, context):
    print("seen", event["type"], event["subject"], event["source"], event["data"]["n"], event["fuyunhops"], flush=True)
"""

#: 32 MiB, of which the instance must never hold much at once.
LARGE = """
def blocks():
    for number in range(512):
        yield bytes([number % 256]) * 65536
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
made = objects.put("inside", "large", blocks())
digest = hashlib.sha256()
with objects.open_reader("inside", "large") as reader:
    while piece := reader.read(65536):
        digest.update(piece)
expected = hashlib.sha256()
for block in blocks():
    expected.update(block)
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
told = [made.size_bytes, digest.hexdigest() == expected.hexdigest(), grown < 16384]
"""


def evaluate(platform: Platform, code: str) -> Any:
    return invoke(platform, "inside", {"do": code})


def run(platform: Platform, *words: str) -> str:
    done = platform.cli(*words)
    assert done.returncode == 0, (words, done.stdout.decode(), done.stderr.decode())
    return done.stdout.decode()


def keys_of(platform: Platform, bucket: str) -> list[str]:
    return [one["key"] for one in json.loads(run(platform, "object", "list", bucket, "-r", "--json"))]


def remove(platform: Platform, bucket: str) -> None:
    for key in keys_of(platform, bucket):
        platform.http.delete(f"{platform.api}{BASE}/buckets/{bucket}/objects", params={"key": key})
    run(platform, "bucket", "delete", bucket, "--yes")


@pytest.fixture(scope="module")
def inside(platform: Platform) -> Iterator[Platform]:
    """Buckets `inside`, which the function of that name may use, and `outside`, which it may not."""
    run(platform, "bucket", "create", "inside")
    run(platform, "bucket", "create", "outside")
    platform.deploy("inside", EVALUATOR, permissions={"objects": ["inside"], "buses": ["told"]}, timeout_s=60)
    yield platform
    platform.remove("inside")
    remove(platform, "inside")
    remove(platform, "outside")


def test_a_function_writes_reads_lists_copies_and_deletes(inside: Platform) -> None:
    told = evaluate(inside, """
made = objects.put("inside", "in/snö ☃", "schnee", content_type="text/plain", metadata={"Who": "me"}, tags={"a": "ü"})
again = objects.head("inside", "in/snö ☃")
told = [made.etag == again.etag, again.size_bytes, again.content_type, again.metadata, again.tags, again.key]
""")  # fmt: skip
    assert told == [True, 6, "text/plain", {"who": "me"}, {"a": "ü"}, "in/snö ☃"]
    code = 'told = [objects.get("inside", "in/snö ☃", *span).decode() for span in ((), (1, 3), (-2,), (4, 99), (9,))]'
    assert evaluate(inside, code) == ["schnee", "ch", "ee", "ee", ""]
    told = evaluate(
        inside,
        """
with objects.open_reader("inside", "in/snö ☃") as reader:
    told = [reader.stored.key, reader.stored.tags, io.TextIOWrapper(io.BufferedReader(reader)).read()]
""",
    )
    assert told == ["in/snö ☃", {"a": "ü"}, "schnee"]
    told = evaluate(
        inside,
        """
objects.put("inside", "file", io.BytesIO(b"abc" * 100_000))
objects.put("inside", "empty", b"")
objects.copy("inside", "in/snö ☃", "inside", "copy")
objects.copy("inside", "in/snö ☃", "inside", "other", content_type="x/y")
copies = [objects.head("inside", name).content_type for name in ("copy", "other")]
told = [[one.key for one in objects.list_objects("inside")], list(objects.list_prefixes("inside")), copies,
        objects.get("inside", "empty").decode(), len(objects.get("inside", "file"))]
""",
    )
    keys = ["copy", "empty", "file", "in/snö ☃", "other"]
    assert told == [keys, ["in/"], ["text/plain", "x/y"], "", 300_000]
    told = evaluate(
        inside,
        """
names = [one.key for one in objects.list_objects("inside")]
gone = [objects.delete("inside", name) for name in names]
told = gone, objects.delete("inside", "file"), objects.exists("inside", "x")
""",
    )
    assert told == [[True] * 5, False, False]


def test_conditions_hold_and_what_is_refused_says_why(inside: Platform) -> None:
    assert evaluate(inside, 'objects.put("inside", "once", b"1", if_absent=True)') is None
    refused = evaluate(inside, 'objects.put("inside", "once", b"2", if_absent=True)')
    assert refused["code"] == "precondition_failed"
    refused = evaluate(inside, 'objects.put("inside", "once", b"2", if_match="0" * 32)')
    assert refused["code"] == "precondition_failed"
    assert evaluate(inside, 'told = objects.get("inside", "once").decode()') == "1"
    # Refused in the middle of a body that is larger than what is read ahead.
    refused = evaluate(inside, 'objects.put("outside", "k", (b"x" * 65536 for _ in range(100)))')
    assert refused["code"] == "forbidden"
    assert "permissions name inside" in refused["detail"]
    assert "permissions.objects" in refused["hint"]
    assert evaluate(inside, 'objects.copy("outside", "k", "inside", "k")')["code"] == "forbidden"
    assert evaluate(inside, 'objects.get("inside", "none")')["code"] == "not_found"
    assert evaluate(inside, 'objects.put("inside", "", b"")')["code"] == "bad_request"
    assert evaluate(inside, 'objects.put("inside", "k", b"", metadata={"a b": "c"})')["code"] == "bad_request"
    assert evaluate(inside, 'objects.get("inside", "once", end=-1)')["code"] == "bad_request"


def test_large_objects_pass_without_being_held(inside: Platform) -> None:
    assert evaluate(inside, LARGE) == [512 * 65536, True, True]


def test_a_body_that_breaks_off_leaves_nothing(inside: Platform) -> None:
    told = evaluate(
        inside,
        """
def broken():
    for _ in range(20):
        yield b"x" * 65536
    raise ZeroDivisionError
try:
    objects.put("inside", "broken", broken())
except ZeroDivisionError:
    told = objects.exists("inside", "broken")
""",
    )
    assert told is False


def test_a_function_publishes_to_its_bus(inside: Platform) -> None:
    p = inside
    run(p, "bus", "create", "told", "--archive", "1h")
    run(p, "bus", "create", "untold")
    p.deploy("teller", TELLER)
    run(p, "bus", "rule", "told", "all", "--to", "function:teller", "--filter", '{"type": "n.happened"}')
    try:
        code = 'told = buses.publish("told", "n.happened", {"n": 7}, subject="s", extensions={"more": "x"})'
        id_ = evaluate(p, code)
        logs = f"{p.api}{BASE}/functions/teller/logs"

        def seen() -> list[str]:
            return [line["text"] for line in p.http.get(logs).json()["items"] if line["text"].startswith("seen")]

        wait_until(lambda: len(seen()) == 1, "the event to be seen", 20)
        assert seen() == ["seen n.happened s /default/function/inside 7 2"]
        archived = p.http.get(f"{p.api}{BASE}/buses/told/archive").json()["items"]
        assert [one["event"]["id"] for one in archived] == [id_]
        metrics = p.http.get(f"{p.api}/metrics").text
        assert 'fuyun_bus_published_total{bus="told",namespace="default"} 1.0' in metrics
        assert 'fuyun_bus_matched_total{bus="told",namespace="default",rule="all"} 1.0' in metrics
        refused = evaluate(p, 'buses.publish("untold", "x")')
        assert refused["code"] == "forbidden"
        assert "permissions.buses" in refused["hint"]
        assert evaluate(p, 'buses.publish_all("told", [{"type": "x", "group": "g"}])')["code"] == "bad_request"
    finally:
        p.remove("teller")
        run(p, "bus", "delete", "told", "--yes")
        run(p, "bus", "delete", "untold", "--yes")


def test_a_circle_through_a_bucket_is_cut_off_and_its_way_can_be_seen(platform: Platform) -> None:
    p = platform
    run(p, "bucket", "create", "circle")
    policy = {"max_attempts": 1}
    p.deploy("echo", ECHO, permissions={"objects": ["circle"]},
             triggers=[{"objects": {"bucket": "circle"}, "policy": policy}])  # fmt: skip
    try:
        source = p.root / "first"
        source.write_bytes(b"x")
        run(p, "object", "put", str(source), "circle/first")

        def dead() -> list[dict[str, Any]]:
            query = {"state": "dead"}
            found = p.http.get(f"{p.api}{BASE}/deliveries", params=query).json()["items"]
            return [one for one in found if one["target"] == "function:echo"]

        wait_until(lambda: len(dead()) == 1, "the circle to be cut off", 60)
        (last,) = dead()
        assert len(keys_of(p, "circle")) == 17  # two edges a turn: into the function, and out of it
        trail = json.loads(run(p, "event", "trail", last["trail"], "--json"))
        assert len(trail) == 17
        assert "loop_detected" in json.dumps(trail)
    finally:
        p.remove("echo")
        remove(p, "circle")
