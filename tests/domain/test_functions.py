"""What a valid function, version and alias is."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuyun.domain.errors import BadRequest
from fuyun.domain.functions import (
    MIB,
    Alias,
    Artifact,
    FunctionSpec,
    Hooks,
    HttpTrigger,
    Permissions,
    Readiness,
    Trigger,
    Version,
    WarmUp,
    Weight,
)
from fuyun.domain.runtimes import RUNTIMES
from fuyun.domain.specs import check_spec, check_weights


def http(path: str, **more: Any) -> tuple[Trigger, ...]:
    return (Trigger(http=HttpTrigger(path=path, **more)),)


def test_the_defaults_are_valid() -> None:
    spec = FunctionSpec()
    assert check_spec(spec) is spec


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_runtime_named_is_taken(runtime: str) -> None:
    image = "./image" if runtime == "image" else ""
    check_spec(FunctionSpec(runtime=runtime, handler="app.wasm" if runtime == "wasm" else "app.handler", image=image))


@pytest.mark.parametrize("handler", ["app.wasm", "build/app.wat", "my-app_1.wasm"])
def test_modules_people_name(handler: str) -> None:
    check_spec(FunctionSpec(runtime="wasm", handler=handler))


@pytest.mark.parametrize("handler", ["app.handler", "app:app", "pkg/mod.fn", "a.b.c.d", "pkg.mod:make"])
def test_handlers_people_write(handler: str) -> None:
    check_spec(FunctionSpec(handler=handler))
    check_spec(FunctionSpec(hooks=Hooks(pre_stop=handler)))


@pytest.mark.parametrize(
    "handler", ["", "handler", ".handler", "app.", "app..x", "app.1x", "app-x.y", "../a.b", "a b.c"]
)
def test_handlers_that_cannot_be(handler: str) -> None:
    with pytest.raises(BadRequest, match=r"is not MODULE\.CALLABLE") as raised:
        check_spec(FunctionSpec(handler=handler))
    assert raised.value.fields["path"] == "handler"


REFUSED: list[tuple[dict[str, Any], str, str, str]] = [
    ({"runtime": "custom", "hooks": Hooks(pre_stop="a.b")}, "hooks.pre_stop", "'a.b' cannot be called", "SIGTERM"),
    ({"runtime": "custom", "handler": "a\nb"}, "handler", "'a\\nb' is no handler of runtime custom", "printable"),
    ({"runtime": "custom", "start": "template"}, "start", "runtime custom has no templates", "leave start out"),
    ({"runtime": "custom", "pids": 8}, "pids", "8 is out of range", "use 16 to 32768"),
    ({"runtime": "python2"}, "runtime", "'python2' is not a runtime", "python3.14"),
    ({"memory_bytes": MIB}, "memory_bytes", "1MiB is out of range", "16MiB to 64GiB"),
    ({"timeout_s": 0.0}, "timeout_s", "0s is out of range", "100ms to 1d"),
    ({"timeout_s": math.nan}, "timeout_s", "nans is out of range", "100ms"),
    ({"idle_timeout_s": math.inf}, "idle_timeout_s", "infs is out of range", "1s to 1d"),
    ({"concurrency": 0}, "concurrency", "0 is out of range", "1 to 1000"),
    ({"max_instances": 0}, "max_instances", "0 is out of range", "1 to 10000"),
    ({"min_instances": 5, "max_instances": 4}, "min_instances", "5 is out of range", "0 to 4"),
    ({"cpu": math.nan}, "cpu", "nan cores is out of range", "0.05 cores to 64 cores"),
    ({"pids": 1}, "pids", "1 is out of range", "4 to 32768"),
    ({"tmp_bytes": -1}, "tmp_bytes", "-1 is out of range", "0 to 64GiB"),
    ({"hooks": Hooks(pre_freeze="x")}, "hooks.pre_freeze", "'x' is not MODULE.CALLABLE", "app.handler"),
    ({"hooks": Hooks(initializer_timeout_s=901)}, "hooks.initializer_timeout_s", "901s is out of range", "15m"),
    ({"runtime": "wasm"}, "handler", "'handler.handler' is not a module's file", "write app.wasm"),
    ({"runtime": "wasm", "handler": "../app.wasm"}, "handler", "'../app.wasm' is not a module's file", "app.wasm"),
    ({"runtime": "wasm", "handler": "/app.wasm"}, "handler", "'/app.wasm' is not a module's file", "app.wasm"),
    (
        {"runtime": "wasm", "handler": "app.wasm", "hooks": Hooks(pre_stop="app.stop")},
        "hooks.pre_stop",
        "'app.stop' is a hook",
        "each call runs a new instance",
    ),
    (
        {"runtime": "java", "handler": "a/App"},
        "handler",
        "'a/App' is not CLASS::METHOD",
        "write com.example.App::handle",
    ),
    ({"runtime": "java", "memory_bytes": 64 * 2**20}, "memory_bytes", "64MiB is out of range", "128MiB to 64GiB"),
    ({"runtime": "java", "handler": "App::main", "command": "java App"}, "command", "a JVM has its own", "JAVA_OPTS"),
    ({"runtime": "java", "concurrency": 100}, "pids", "128 is out of range", "132 to 32768"),
    ({"runtime": "java", "hooks": Hooks(pre_stop="A::b")}, "hooks.pre_stop", "'A::b' cannot be called", "SIGTERM"),
    ({"env": {"A-B": "x"}}, "env.A-B", "'A-B' is not an environment variable name", "A-Z"),
    ({"env": {"FUYUN_ID": "x"}}, "env.FUYUN_ID", "names starting with FUYUN_", "another name"),
    ({"secrets": {"FUYUN_ID": "x"}}, "env.FUYUN_ID", "names starting with FUYUN_", "another name"),
    ({"env": {"A": "x\0y"}}, "env.A", "NUL", "text"),
    ({"env": {"A": "x"}, "secrets": {"A": "s"}}, "env.A", "a secret has the same name", "differently"),
    ({"command": "x"}, "command", "runtime python3 has none", "`web`"),
    ({"permissions": Permissions(invoke=("Up",))}, "permissions.invoke[0]", "'Up' is not a valid", "without a version"),
    ({"permissions": Permissions(invoke=("a", "b:live"))}, "permissions.invoke[1]", "'b:live' is not", "'*' for all"),
    ({"permissions": Permissions(invoke=("a",) * 101)}, "permissions.invoke", "101 names", "up to 100"),
    (
        {"runtime": "wasm", "handler": "a.wasm", "permissions": Permissions(invoke=("a",))},
        "permissions.invoke",
        "has no sockets",
        "another runtime",
    ),
    (
        {"runtime": "web", "env": {"PORT": "9002"}, "permissions": Permissions(invoke=("a",))},
        "env.PORT",
        "9002 is the platform's",
        "another one",
    ),
    ({"readiness": Readiness(path="/")}, "readiness", "runtime python3 has none", "`web`"),
    ({"runtime": "web", "env": {"PORT": "80"}}, "env.PORT", "'80' is no port", "1024 to 65535"),
    ({"runtime": "web", "env": {"PORT": "http"}}, "env.PORT", "'http' is no port", "1024 to 65535"),
    ({"runtime": "web", "secrets": {"PORT": "s"}}, "env.PORT", "the port cannot be a secret", "env"),
    ({"runtime": "web", "command": "a\0b"}, "command", "is no command", "4000"),
    ({"warm_up": WarmUp(path="up")}, "warm_up.path", "'up' is no path", "start it with /"),
    ({"warm_up": WarmUp(path="/up", event=1)}, "warm_up.path", "there is an event as well", "one of them"),
    ({"warm_up": WarmUp(event="x" * 70_000)}, "warm_up.event", "it has 70002 bytes", "use 65536 at most"),
    ({"runtime": "web", "readiness": Readiness(path="healthz")}, "readiness.path", "is no path", "start it with /"),
    ({"runtime": "web", "readiness": Readiness(path="/a\r\nb: c")}, "readiness.path", "is no path", "%20"),
    ({"runtime": "web", "readiness": Readiness(timeout_s=0)}, "readiness.timeout_s", "0s is out of range", "15m"),
    ({"runtime": "web", "hooks": Hooks(pre_stop="a.b")}, "hooks.pre_stop", "cannot be called", "SIGTERM"),
    ({"triggers": (Trigger(),)}, "triggers[0]", "the trigger has no kind", "add one of http, timer"),
    ({"triggers": http("a")}, "triggers[0].http.path", "'a' cannot be a trigger path", "start it with /"),
    ({"triggers": http("/fn/a")}, "triggers[0].http.path", "'/fn/a' cannot be", "keep out of /fn/"),
    ({"triggers": http("/a b")}, "triggers[0].http.path", "'/a b' cannot be", "%20"),
    ({"triggers": http("/a?x=1")}, "triggers[0].http.path", "'/a?x=1' cannot be", "%3F"),
    ({"triggers": http("/a\r\n")}, "triggers[0].http.path", "cannot be a trigger path", "%20"),
    ({"triggers": http("/*/b")}, "triggers[0].http.path", "* only stands at the end", "end it with /*"),
    ({"triggers": http("/a*")}, "triggers[0].http.path", "* only stands at the end", "end it with /*"),
    ({"triggers": http("/a", methods=())}, "triggers[0].http.methods", "no method", "ANY"),
    ({"triggers": http("/a", methods=("GET", "P T"))}, "triggers[0].http.methods", "'P T' is not a method", "GET"),
    ({"triggers": http("/a", alias="Live")}, "triggers[0].http.alias", "triggers[0].http.alias: 'Live'", "alias"),
]


@pytest.mark.parametrize(("fields", "path", "found", "valid"), REFUSED)
def test_a_refusal_names_the_field_what_was_found_and_what_is_valid(
    fields: dict[str, Any], path: str, found: str, valid: str
) -> None:
    with pytest.raises(BadRequest) as raised:
        check_spec(FunctionSpec(**fields))
    assert raised.value.fields["path"] == path
    assert found in raised.value.detail
    assert valid in raised.value.hint


@pytest.mark.parametrize("path", ["/", "/*", "/a", "/a/*", "/a/b.json", "/%20", "/fnord", "/a/ü"])
def test_trigger_paths_people_write(path: str) -> None:
    check_spec(FunctionSpec(triggers=http(path, methods=("get", "POST"), alias="live")))


def test_a_refused_second_trigger_is_named_by_its_place() -> None:
    with pytest.raises(BadRequest) as raised:
        check_spec(FunctionSpec(triggers=(*http("/a"), *http("b"))))
    assert raised.value.fields["path"] == "triggers[1].http.path"


def test_a_version_says_how_it_is_named() -> None:
    def version(number: int, revision: int) -> Version:
        code = Artifact(digest="0" * 64, size_bytes=1)
        return Version(
            namespace="n", function="f", number=number, spec=FunctionSpec(), code=code, created_s=0.0, revision=revision
        )

    assert (version(0, 3).qualifier, version(0, 3).key) == ("$LATEST", "n/f@0.3")
    assert (version(7, 1).qualifier, version(7, 1).key) == ("7", "n/f@7")
    assert version(0, 3).key != version(0, 4).key


def weights(*shares: tuple[int, float]) -> tuple[Weight, ...]:
    return tuple(Weight(version=version, weight=weight) for version, weight in shares)


@pytest.mark.parametrize(
    "shares",
    [[(1, 100)], [(0, 100)], [(1, 90), (2, 10)], [(1, 100), (2, 0)], [(1, 100 / 3), (2, 100 / 3), (3, 100 / 3)]],
)
def test_weights_that_share_100(shares: list[tuple[int, float]]) -> None:
    given_weights = weights(*shares)
    assert check_weights(given_weights) is given_weights


@pytest.mark.parametrize(
    ("shares", "found"),
    [
        ([], "0 versions"),
        ([(number, 100 / 9) for number in range(9)], "9 versions"),
        ([(1, 50), (1, 50)], "a version stands twice"),
        ([(1, 90), (2, 9)], "the weights sum to 99"),
        ([(1, 150), (2, -50)], "a weight is out of range"),
        ([(1, math.nan), (2, 100)], "a weight is out of range"),
        ([(-1, 100)], "-1 is not a version"),
    ],
)
def test_weights_that_do_not(shares: list[tuple[int, float]], found: str) -> None:
    with pytest.raises(BadRequest, match=found):
        check_weights(weights(*shares))


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
specs = st.builds(
    FunctionSpec,
    memory_bytes=st.integers(16 * MIB, 1024 * MIB),
    timeout_s=st.floats(0.1, 900),
    concurrency=st.integers(1, 1000),
    env=st.dictionaries(st.from_regex(r"[A-EG-Z][A-Z0-9_]{0,8}", fullmatch=True), texts),
    tags=st.dictionaries(texts, texts),
    triggers=st.just(()) | st.just(http("/a/*", methods=("GET",))),
)


@given(spec=specs)
def test_a_valid_spec_survives_the_wire_unchanged(spec: FunctionSpec) -> None:
    check_spec(spec)
    assert msgspec.json.decode(msgspec.json.encode(spec), type=FunctionSpec) == spec


def test_unknown_fields_are_refused_on_the_wire() -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field `memroy`"):
        msgspec.json.decode(b'{"memroy": 5}', type=FunctionSpec)


def test_an_alias_survives_the_wire_unchanged() -> None:
    alias = Alias(
        namespace="n", function="f", name="live", weights=weights((1, 90), (2, 10)), previous=weights((1, 100))
    )
    assert msgspec.json.decode(msgspec.json.encode(alias), type=Alias) == alias


@pytest.mark.parametrize("handler", ["index.handler", "src/my-file.fn", "my.file.v2:a.b", "@x/y.$f", "lib.default"])
def test_node_handlers_people_write(handler: str) -> None:
    spec = FunctionSpec(runtime="nodejs20", handler=handler)
    assert check_spec(spec) is spec


@pytest.mark.parametrize(
    "handler", ["index", ".handler", "index.", "../x.handler", "a//b.c", "in dex.handler", ":x", "a:"]
)
def test_node_handlers_that_cannot_be(handler: str) -> None:
    with pytest.raises(BadRequest, match=r"is not FILE\.EXPORT"):
        check_spec(FunctionSpec(runtime="nodejs", handler=handler))


@pytest.mark.parametrize(
    ("spec", "path"),
    [({"start": "template"}, "start"), ({"memory_bytes": 32 * MIB}, "memory_bytes"), ({"pids": 8}, "pids")],
)
def test_what_node_cannot_have(spec: dict[str, Any], path: str) -> None:
    with pytest.raises(BadRequest) as refused:
        check_spec(FunctionSpec(runtime="nodejs", handler="index.handler", **spec))
    assert refused.value.fields["path"] == path
