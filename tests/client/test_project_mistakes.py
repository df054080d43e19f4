"""Every mistake in a project file has its place and the way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.client.projects import MINIMAL, make_folder, mistakes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path)


RULE = "use 1 to 63 of a-z, 0-9 and '-', starting with a letter and not ending with '-'"

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
    "windows that are none": (
        "    provisioned: {schedule: 0 8 * * *}\n",
        ["6: 'provisioned' takes a list of maps with schedule, duration, instances, timezone"],
    ),
    "window without its end": (
        "    provisioned:\n      - {schedule: 0 8 * * *, instances: 2}\n",
        ["7: an item of 'provisioned' needs 'duration': how long it lasts"],
    ),
    "window that never opens": (
        "    provisioned:\n      - {schedule: 0 8 * * *, instances: 2, duration: 1h}\n"
        "      - schedule: 0 25 * * *\n        instances: 2\n        duration: 1h\n",
        [
            "8: schedule: '0 25 * * *' is not a cron schedule: bad hour; "
            "write minute, hour, day of month, month and day of week: 0 8 * * mon-fri"
        ],
    ),
    "window with too many": (
        "    max_instances: 2\n    provisioned:\n      - {schedule: 0 8 * * *, instances: 3, duration: 1h}\n",
        ["8: instances: 3 is out of range; use 1 to 2"],
    ),
    "choice": ("    isolation: sandbix\n", ["6: isolation: 'sandbix' is not known; did you mean 'sandbox'?"]),
    "far choice": ("    start: x\n", ["6: start: 'x' is not known; use one of auto, template, blank, plain"]),
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
    "trigger kind": ("    triggers:\n      - clock: 1m\n", ["7: 'clock' is no kind of trigger; …"]),
    "two kinds": (
        "    triggers:\n      - http: {path: /a}\n        x: 1\n",
        ["7: a trigger has exactly one kind …"],
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
        ["8: path: 'a' cannot be a trigger path; …"],
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
    "no WebAssembly module": (
        "  g: {runtime: wasm, handler: ap.wat, code: cart}\n",
        ["6: handler: there is no ap.wat in {folder}/cart; it holds no module"],
    ),
    "no Node file": (
        "  g: {runtime: nodejs, handler: ap.x, code: cart}\n",
        [
            "6: handler: 'ap.x': there is no ap.js, .mjs or .cjs in {folder}/cart; "
            "write FILE.EXPORT of a file in the code folder"
        ],
    ),
    "Node export": (
        "  g: {runtime: nodejs, handler: app, code: cart}\n",
        ["6: handler: 'app' is not FILE.EXPORT; write index.handler or folder/file.handler"],
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
    found = mistakes(folder, MINIMAL + text)
    wanted = [line.replace("{folder}", str(folder)) for line in expected]
    # The hint of some rules is the domain's: "…" stands for it.
    assert [line[: len(want) - 1] + "…" if want.endswith("…") else line for line, want in zip(found, wanted)] == wanted
    assert len(found) == len(wanted)


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
