"""The project file: what is understood, and every mistake with its place and the way out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from fuyun.client.fields import FUNCTION_FIELDS, HOOKS, STRUCTS, json_schema
from fuyun.client.project import find_project_file, load_project
from fuyun.client.requirements import find_requirements
from fuyun.domain.errors import BadRequest
from fuyun.domain.functions import (
    MIB,
    Cors,
    FunctionSpec,
    Hooks,
    HttpTrigger,
    Permissions,
    Provisioned,
    Readiness,
    Trigger,
    WarmUp,
)
from tests.client.projects import MINIMAL, load, make_folder, mistakes

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
    provisioned:
      - {schedule: "0 8 * * mon-fri", duration: 10h, instances: 3, timezone: Europe/Berlin}
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
    return make_folder(tmp_path)


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
        provisioned=(Provisioned(schedule="0 8 * * mon-fri", duration_s=36000, instances=3, timezone="Europe/Berlin"),),
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


def test_a_server(folder: Path) -> None:
    text = (
        "name: a\nfunctions:\n  f:\n    runtime: web\n    code: cart\n    command: serve --port $PORT\n"
        "    readiness: {path: /up, timeout: 5s}\n    pre_stop: {timeout: 20s}\n"
    )
    spec = load(folder, text).functions["f"].spec
    assert (spec.command, spec.readiness) == ("serve --port $PORT", Readiness(path="/up", timeout_s=5.0))
    assert (spec.concurrency, spec.hooks.pre_stop_timeout_s) == (80, 20.0)
    assert load(folder, f"{text}    concurrency: 3\n").functions["f"].spec.concurrency == 3
    assert schema_errors(yaml.safe_load(text)) == []
    assert mistakes(folder, text.replace("path: /up", "path: up")) == [
        "7: path: 'up' is no path; start it with / and write spaces as %20"
    ]


def test_a_warm_up_call_has_any_event_that_json_has(tmp_path: Path) -> None:
    written = 'event: {id: 7, tags: [a, 1.5, true, null], at: 2024-01-01, text: "8"}'
    text = f"    warm_up:\n      {written}\n      required: no\n"
    warm_up = load(make_folder(tmp_path), MINIMAL + text).functions["f"].spec.warm_up
    event = {"id": 7, "tags": ["a", 1.5, True, None], "at": "2024-01-01", "text": "8"}
    assert warm_up == WarmUp(event=event, required=False)
    problems = mistakes(tmp_path, MINIMAL + "    warm_up: {event: [.inf], path: /up}\n")
    assert problems == ["6: event: JSON has no .inf"]
    problems = mistakes(tmp_path, MINIMAL + "    warm_up: {event: 1, path: /up}\n")
    assert problems == ["6: path: there is an event as well; a call has one of them: remove the other"]


def test_an_image(folder: Path) -> None:
    """It is where it is named from, made already or not; what `code` says is not asked for."""
    found = load(
        folder, "name: a\nfunctions: {f: {runtime: image, image: ./made.tar}, g: {runtime: image, image: a/b:1}}"
    )
    assert found.functions["f"].code == folder / "made.tar"
    assert (found.functions["f"].spec.concurrency, found.functions["f"].spec.is_server) == (80, True)
    custom = load(folder, "name: a\nfunctions: {f: {runtime: image, image: ./i, protocol: custom}}").functions["f"].spec
    assert (custom.concurrency, custom.is_server) == (1, False)
    assert mistakes(folder, "name: a\nfunctions:\n  f:\n    runtime: image\n") == [
        "3: image: there is none; write ./FOLDER, ./ARCHIVE.tar or REGISTRY/NAME:TAG"
    ]


def test_a_stage_changes_what_it_names(folder: Path) -> None:
    project = load(folder, WHOLE, stage="prod", env={"KEY": "k", "MODE": "ignored"})
    assert project.namespace == "retail-prod"
    pay = project.functions["pay"].spec
    assert (pay.memory_bytes, pay.timeout_s) == (1024 * MIB, 30.0)
    assert pay.env == {"MODE": "live", "KEY": "k"}
    assert project.functions["cart"].spec.triggers[1].http == HttpTrigger(path="/prod/cart", cors=Cors())


def test_stages_are_checked_by_name(folder: Path) -> None:
    stages = MINIMAL + "stages:\n  prod:\n    functions:\n      ff: {}\n"
    absent = "9: there is no function 'ff'; did you mean 'f'?"
    assert mistakes(folder, stages, "prdo") == ["6: stage 'prdo' is not in this file; did you mean 'prod'?", absent]
    assert mistakes(folder, stages, "prod") == [absent]
    assert mistakes(folder, stages) == [absent], "also where that stage is not the chosen one"
    misspelt = stages.replace("ff: {}", "f: {memry: 64MiB}")
    known = "9: 'memry' is not a field of function 'f'"
    assert mistakes(folder, misspelt, "prod") == [f"{known}; did you mean 'memory'?"], "once"
    assert mistakes(folder, misspelt) == [f"{known} of stage 'prod'; did you mean 'memory'?"]
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


def test_a_custom_function_has_an_executable_bootstrap(tmp_path: Path) -> None:
    text = "name: p\nfunctions:\n  f:\n    runtime: custom\n    handler: anything at all\n    pre_stop: {timeout: 9s}\n"
    (tmp_path / "fuyun.yaml").write_text(text)
    with pytest.raises(BadRequest, match=r"fuyun\.yaml:4: runtime: there is no .*bootstrap; runtime custom starts"):
        load_project(tmp_path)
    program = tmp_path / "bootstrap"
    program.write_text("#!/bin/sh\n")
    with pytest.raises(BadRequest, match=r"bootstrap is not executable; run chmod \+x"):
        load_project(tmp_path)
    program.chmod(0o755)
    spec = load_project(tmp_path).functions["f"].spec
    assert (spec.handler, spec.hooks.pre_stop_timeout_s) == ("anything at all", 9.0)


def test_permissions_are_read(folder: Path) -> None:
    text = f"{MINIMAL}    permissions:\n      invoke: [g, '*']\n"
    assert load(folder, text).functions["f"].spec.permissions == Permissions(invoke=("g", "*"))
