"""The project file: what is understood, and every mistake with its place and the way out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from fuyun.client.fields import FUNCTION_FIELDS, HOOKS, STRUCTS, json_schema
from fuyun.client.project import Project, find_project_file, load_project
from fuyun.client.requirements import find_requirements
from fuyun.domain.errors import BadRequest
from fuyun.domain.functions import MIB, Cors, FunctionSpec, Hooks, HttpTrigger, Trigger

ROOT = Path(__file__).resolve().parents[2]

WHOLE = """\
name: shop
namespace: retail
x-small: &small
  memory: 128MiB
  env: {REGION: eu, GREETING: "hello $${x}"}
functions:
  cart:
    <<: *small
    description: keeps what was chosen
    runtime: python3.11
    handler: app.handler
    code: cart
    requirements: [httpx>=0.28, "msgspec"]
    timeout: 1m30s
    concurrency: 8
    min_instances: 1
    max_instances: 20
    idle_timeout: 10m
    cpu: 0.5
    pids: 64
    tmp: 1GiB
    payload: 1MB
    output: 2MiB
    log: 64KiB
    isolation: process
    start: template
    secrets: [db-password]
    layers: [fonts]
    initializer: {handler: app.init, timeout: 5s}
    pre_stop: app.stop
    tags: {team: web, tier: 1}
    triggers:
      - http:
          path: /cart/*
          methods: [GET, POST]
          auth: public
          alias: live
          cors: {allow_origins: ["https://shop.example"], max_age: 1h}
      - http: {path: "/${stage}/cart", cors: true}
  pay:
    handler: app.pay
    code: cart
    env:
      MODE: ${env:MODE:-test}
      KEY: ${env:KEY}
    secrets: {PASSWORD: db-password}
stages:
  prod:
    namespace: retail-prod
    functions:
      pay:
        memory: 1GiB
        timeout: null
        env: {MODE: live}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cart").mkdir()
    (tmp_path / "cart" / "app.py").write_text("def handler(event, context): ...\n")
    return tmp_path


def load(folder: Path, text: str, stage: str = "", env: dict[str, str] | None = None) -> Project:
    (folder / "fuyun.yaml").write_text(text)
    return load_project(folder, stage=stage, env=env or {})


def mistakes(folder: Path, text: str, stage: str = "", env: dict[str, str] | None = None) -> list[str]:
    """The problems without the file's name: `line: text`."""
    with pytest.raises(BadRequest) as caught:
        load(folder, text, stage, env)
    return [line.removeprefix(f"{folder / 'fuyun.yaml'}:") for line in str(caught.value).splitlines()]


def test_the_whole_file(folder: Path) -> None:
    project = load(folder, WHOLE, env={"KEY": "k"})
    assert (project.name, project.namespace, project.stage) == ("shop", "retail", "dev")
    cart = project.functions["cart"]
    assert cart.code == folder / "cart"
    assert cart.requirements.text == "httpx>=0.28\nmsgspec\n"
    assert cart.spec == FunctionSpec(
        runtime="python3.11",
        handler="app.handler",
        description="keeps what was chosen",
        memory_bytes=128 * MIB,
        timeout_s=90,
        concurrency=8,
        min_instances=1,
        max_instances=20,
        idle_timeout_s=600,
        cpu=0.5,
        pids=64,
        tmp_bytes=1024 * MIB,
        payload_bytes=10**6,
        output_bytes=2 * MIB,
        log_bytes=65536,
        isolation="process",
        start="template",
        env={"REGION": "eu", "GREETING": "hello ${x}"},
        secrets={"DB_PASSWORD": "db-password"},
        layers=("fonts",),
        hooks=Hooks(initializer="app.init", initializer_timeout_s=5, pre_stop="app.stop"),
        tags={"team": "web", "tier": "1"},
        triggers=(
            Trigger(
                http=HttpTrigger(
                    path="/cart/*",
                    methods=("GET", "POST"),
                    auth="public",
                    alias="live",
                    cors=Cors(allow_origins=("https://shop.example",), max_age_s=3600),
                )
            ),
            Trigger(http=HttpTrigger(path="/dev/cart", cors=Cors())),
        ),
    )
    assert project.functions["pay"].spec.env == {"MODE": "test", "KEY": "k"}
    assert project.functions["pay"].spec.secrets == {"PASSWORD": "db-password"}


def test_a_stage_changes_what_it_names(folder: Path) -> None:
    project = load(folder, WHOLE, stage="prod", env={"KEY": "k", "MODE": "ignored"})
    assert project.namespace == "retail-prod"
    pay = project.functions["pay"].spec
    assert (pay.memory_bytes, pay.timeout_s) == (1024 * MIB, 30.0)
    assert pay.env == {"MODE": "live", "KEY": "k"}
    assert project.functions["cart"].spec.triggers[1].http == HttpTrigger(path="/prod/cart", cors=Cors())


RULE = "use 1 to 63 of a-z, 0-9 and '-', starting with a letter and not ending with '-'"
MINIMAL = "name: a\nfunctions:\n  f:\n    handler: app.handler\n    code: cart\n"

#: (text after MINIMAL, or a whole file that starts with "name:" or holds no functions) -> problems
WRONG: dict[str, tuple[str, list[str]]] = {
    "misspelt field": ("    memry: 1\n", ["6: 'memry' is not a field of function 'f'; did you mean 'memory'?"]),
    "other case": ("    Memory: 1GiB\n", ["6: 'Memory' is not a field of function 'f'; did you mean 'memory'?"]),
    "dashes": (
        "    idle-timeout: 1s\n",
        ["6: 'idle-timeout' is not a field of function 'f'; did you mean 'idle_timeout'?"],
    ),
    "twice": ("    timeout: 1s\n    timeout: 2s\n", ["7: 'timeout' stands twice; it is at line 6 too"]),
    "size": ("    memory: lots\n", ["6: memory: 'lots' is not a size; write one like 256MiB, 1.5GB or 1048576"]),
    "small size": ("    memory: 3\n", ["6: memory: 3 is out of range; use 16MiB to 64GiB"]),
    "duration": (
        "    timeout: 3 moons\n",
        ["6: timeout: '3 moons' is not a duration; write one like 250ms, 30s, 5m or 1h30m"],
    ),
    "long duration": ("    timeout: 2d\n", ["6: timeout: 2d is out of range; use 100ms to 1d"]),
    "integer": ("    concurrency: 1.5\n", ["6: concurrency: '1.5' is not a whole number"]),
    "number": ("    cpu: fast\n", ["6: cpu: 'fast' is not a number"]),
    "min over max": (
        "    min_instances: 9\n    max_instances: 3\n",
        ["6: min_instances: 9 is out of range; use 0 to 3"],
    ),
    "choice": ("    isolation: sandbix\n", ["6: isolation: 'sandbix' is not known; did you mean 'sandbox'?"]),
    "far choice": ("    start: x\n", ["6: start: 'x' is not known; use one of auto, template, blank"]),
    "no value": ("    memory:\n", ["6: 'memory' has no value; write one, or remove the line"]),
    "list for one": ("    memory: [1]\n", ["6: 'memory' takes one value, not a list"]),
    "text for list": ("    triggers: /x\n", ["6: 'triggers' takes a list; write `- http: {path: /...}`"]),
    "list for map": ("    env: [A]\n", ["6: 'env' takes NAME: value lines, not a list"]),
    "map in env": ("    env: {A: {b: c}}\n", ["6: env.A takes one value, not a map; put it in quotes"]),
    "env name": (
        "    env:\n      A: 1\n      9X: 1\n",
        ["8: env.9X: '9X' is not an environment variable name; use A-Z, 0-9 and _"],
    ),
    "reserved env": (
        "    env:\n      FUYUN_X: 1\n",
        ["7: env.FUYUN_X: names starting with FUYUN_ are the platform's; choose another name"],
    ),
    "unset variable": (
        "    env:\n      A: ${env:NOPE}\n",
        ["7: environment variable NOPE is not set; set it, or give a default: ${env:NOPE:-...}"],
    ),
    "unknown reference": (
        "    description: ${self:x}\n",
        ["6: ${self:x} is not known; write ${env:NAME}, ${env:NAME:-default}, ${stage} or $${"],
    ),
    "trigger kind": ("    triggers:\n      - timer: 1m\n", ["7: 'timer' is not a field of a trigger; fields are http"]),
    "two kinds": (
        "    triggers:\n      - http: {path: /a}\n        x: 1\n",
        ["7: a trigger has exactly one kind (http); write `- http: {path: /...}`"],
    ),
    "trigger without path": (
        "    triggers:\n      - http: {auth: key}\n",
        ["7: trigger 'http' needs 'path': path on the gateway; ends in `/*` to take everything below it"],
    ),
    "trigger field": (
        "    triggers:\n      - http:\n          path: /a\n          method: GET\n",
        ["9: 'method' is not a field of trigger 'http'; did you mean 'methods'?"],
    ),
    "trigger method": (
        "    triggers:\n      - http: {path: /a, methods: [GTE]}\n",
        ["7: methods: 'GTE' is not known; did you mean 'GET'?"],
    ),
    "trigger path": (
        "    triggers:\n      - http:\n          path: a\n",
        ["8: path: 'a' cannot be a trigger path; start it with / and keep out of /fn/"],
    ),
    "cors field": (
        "    triggers:\n      - http: {path: /a, cors: {origins: [x]}}\n",
        ["7: 'origins' is not a field of cors; did you mean 'allow_origins'?"],
    ),
    "hook field": (
        "    initializer: {handler: a.b, time: 1s}\n",
        ["6: 'time' is not a field of initializer; did you mean 'timeout'?"],
    ),
    "hook without handler": ("    pre_stop: {timeout: 1s}\n", ["6: pre_stop needs 'handler': MODULE.CALLABLE to run"]),
    "hook name": (
        "    initializer: init\n",
        ["6: initializer: 'init' is not MODULE.CALLABLE; write app.handler, pkg/mod.fn or app:app"],
    ),
    "long hook": (
        "    initializer: {handler: app.i, timeout: 1h}\n",
        ["6: timeout: 1h is out of range; use 100ms to 15m"],
    ),
    "no module": (
        "  g: {handler: ap.x, code: cart}\n",
        ["6: handler: 'ap.x': there is no module 'ap' in {folder}/cart; did you mean 'app'?"],
    ),
    "no folder": (
        "  g: {handler: app.x, code: crat}\n",
        ["6: code: {folder}/crat does not exist; name the folder that holds the code, relative to this file"],
    ),
    "code is a file": (
        "  g: {handler: app.x, code: cart/app.py}\n",
        ["6: code: {folder}/cart/app.py is a file; name the folder that holds the code, relative to this file"],
    ),
    "requirements": (
        "    requirements: req.txt\n",
        ["6: requirements: {folder}/req.txt is not a file; name a requirements.txt or a pyproject.toml"],
    ),
    "function name": (
        "  Cart: {handler: app.x, code: cart}\n",
        ["6: 'Cart' is not a valid function name; " + RULE],
    ),
    "top field": ("function: {}\n", ["6: 'function' is not a field of a project; did you mean 'functions'?"]),
    "stage field": (
        "stages:\n  prod: {function: {}}\n",
        ["7: 'function' is not a field of stage 'prod'; did you mean 'functions'?"],
    ),
    "stage function field": (
        "stages:\n  prod:\n    functions:\n      f: {memry: 1}\n",
        ["9: 'memry' is not a field of function 'f' of stage 'prod'; did you mean 'memory'?"],
    ),
    "merge of a text": ("  g: {<<: x, handler: app.h, code: cart}\n", ["6: << takes a map or a list of maps"]),
    "two at once": (
        "    memry: 1\n    timeot: 1\n",
        [
            "6: 'memry' is not a field of function 'f'; did you mean 'memory'?",
            "7: 'timeot' is not a field of function 'f'; did you mean 'timeout'?",
        ],
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_has_its_line_and_the_way_out(folder: Path, name: str) -> None:
    text, expected = WRONG[name]
    assert mistakes(folder, MINIMAL + text) == [line.replace("{folder}", str(folder)) for line in expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["1: a project file holds `name: value` lines"]),
        ("- a\n", ["1: a project file holds `name: value` lines"]),
        ("name: a\n", ["1: a project needs 'functions': write `functions: {hello: {...}}`"]),
        ("name: a\nfunctions: {}\n", ["2: a project needs 'functions': write `functions: {hello: {...}}`"]),
        ("name: [a]\nfunctions: {f: {handler: app.h, code: cart}}\n", ["1: 'name' takes a name"]),
        (
            "name: A b\nfunctions: {f: {handler: app.h, code: cart}}\n",
            ["1: 'A b' is not a valid project name; " + RULE],
        ),
        ("functions: {f: {handler: app.h, code: cart}}\n", ["1: a project needs 'name': write `name: my-project`"]),
        ("name: a\nfunctions:\n\tf: 1\n", ["3: not YAML: found character '\\t' that cannot start any token"]),
        ("name: a\nfunctions: {f: 3}\n", None),
    ],
)
def test_a_file_that_is_no_project(folder: Path, text: str, expected: list[str] | None) -> None:
    found = mistakes(folder, text)
    if expected is None:
        assert found[0].startswith("2: function 'f' takes `field: value` lines; fields are description, runtime")
    else:
        assert found == expected


def test_stages_are_checked_by_name(folder: Path) -> None:
    stages = MINIMAL + "stages:\n  prod:\n    functions:\n      ff: {}\n"
    assert mistakes(folder, stages, "prdo") == ["6: stage 'prdo' is not in this file; did you mean 'prod'?"]
    assert mistakes(folder, stages, "prod") == ["9: there is no function 'ff'; did you mean 'f'?"]
    assert mistakes(folder, MINIMAL, "prod") == ["1: stage 'prod' is not in this file; stages are none"]


def test_variables_of_a_stage_that_is_not_used_need_not_be_set(folder: Path) -> None:
    text = MINIMAL + "stages:\n  prod:\n    functions:\n      f: {env: {A: '${env:SECRET}'}}\n"
    assert load(folder, text).functions["f"].spec.env == {}
    assert mistakes(folder, text, "prod")[0].startswith("9: environment variable SECRET is not set")


def test_an_alias_bomb_is_refused_quickly(folder: Path) -> None:
    lines = ["name: a", "x-0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"x-{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "more than 20000 values" in mistakes(folder, "\n".join(lines) + "\n")[-1]


def test_a_file_that_refers_to_itself_is_refused(folder: Path) -> None:
    assert "levels" in mistakes(folder, "name: a\nx-a: &a {b: *a}\n")[-1]


def test_the_file_is_found_by_its_folder_or_name(folder: Path) -> None:
    with pytest.raises(BadRequest, match="holds no"):
        find_project_file(folder)
    with pytest.raises(BadRequest, match="is not there"):
        find_project_file(folder / "nowhere")
    (folder / "other.yaml").write_text(MINIMAL)
    assert load_project(folder / "other.yaml").name == "a"
    (folder / "fuyun.yml").write_text(MINIMAL)
    assert find_project_file(folder) == folder / "fuyun.yml"


def test_functions_are_picked_by_name(folder: Path) -> None:
    project = load(folder, MINIMAL + "  g: {handler: app.x, code: cart}\n")
    assert [item.name for item in project.pick(["g"])] == ["g"]
    assert [item.name for item in project.pick([])] == ["f", "g"]
    with pytest.raises(BadRequest, match="has no function 'gg'; did you mean 'g'"):
        project.pick(["gg"])


def test_requirements_come_from_where_they_are(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    assert find_requirements(None, code, tmp_path).text == ""
    (code / "pyproject.toml").write_text('[project]\nname = "x"\ndependencies = ["a>=1", "b"]\n')
    assert find_requirements(None, code, tmp_path).text == "a>=1\nb\n"
    (code / "requirements.txt").write_text("# first\nc==1  # why\n\n-r more.txt\n")
    (code / "more.txt").write_text("d @ https://example.org/d.whl#sha256=1\n")
    assert find_requirements(None, code, tmp_path).text == "c==1\nd @ https://example.org/d.whl#sha256=1\n"
    assert find_requirements(False, code, tmp_path).text == ""
    assert find_requirements("code/pyproject.toml", code, tmp_path).text == "a>=1\nb\n"
    assert find_requirements(["x"], code, tmp_path).text == "x\n"


@pytest.mark.parametrize("line", ["-e .", "./lib", "/abs/pkg", "../x", "file:x", "lib @ file:///x", "-c limits.txt"])
def test_requirements_that_only_this_machine_has_are_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "requirements.txt").write_text(f"ok\n{line}\n")
    with pytest.raises(BadRequest, match=re.escape(f"requirements.txt:2: {line!r} refers to this machine")):
        find_requirements(None, tmp_path, tmp_path)


def test_requirements_that_include_each_other_end(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("-r requirements.txt\n")
    with pytest.raises(BadRequest, match="include each other"):
        find_requirements(None, tmp_path, tmp_path)


def test_every_field_of_the_domain_can_be_written() -> None:
    for fields, struct in STRUCTS.items():
        attributes = {field.attribute for field in fields}
        missing = set(struct.__struct_fields__) - attributes - {"hooks"}
        assert not missing, f"{struct.__name__} has no field for {missing}"
    assert {field.name for field in FUNCTION_FIELDS if field.kind == "hook"} == set(HOOKS)


def test_the_schema_is_current() -> None:
    kept = json.loads((ROOT / "docs/reference/fuyun.schema.json").read_text(encoding="utf-8"))
    assert kept == json_schema(), "write it anew: fuyun config schema > docs/reference/fuyun.schema.json"


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/*/fuyun.yaml")), ids=lambda path: path.parent.name)
def test_examples_are_valid_by_loader_and_schema(path: Path) -> None:
    assert load_project(path).functions
    assert schema_errors(yaml.safe_load(path.read_text(encoding="utf-8"))) == []


def test_the_schema_agrees_with_the_loader() -> None:
    assert schema_errors(yaml.safe_load(WHOLE)) == []
    assert schema_errors(yaml.safe_load(MINIMAL + "    memry: 1\n"))
    assert schema_errors(yaml.safe_load(MINIMAL + "    memory: lots\n"))
    assert schema_errors(yaml.safe_load(MINIMAL + "    triggers: [{http: {auth: key}}]\n"))


def schema_errors(document: object) -> list[str]:
    import jsonschema_rs

    return [error.message for error in jsonschema_rs.validator_for(json_schema()).iter_errors(document)]
