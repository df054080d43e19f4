"""Becoming a function: sections 1, 2 and clause 6.5 of docs/contracts/runtime.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.runtime.driver import worker


def failure(tmp_path: Path, code: str | dict[str, str], handler: str = "app.handler", **task: Any) -> dict[str, Any]:
    with worker(tmp_path, code, handler, **task) as w:
        found = w.wait_failed()
        w.wait_eof()
        assert w.wait_exit() == 70
    return found


@pytest.mark.parametrize(
    ("code", "error_type", "said"),
    [
        ("def handler(:\n", "SyntaxError", "invalid syntax"),
        ("import does_not_exist\n", "ModuleNotFoundError", "does_not_exist"),
        ("from json import nope\n", "ImportError", "nope"),
        ("1/0\n", "ZeroDivisionError", "division by zero"),
        ("import sys\nsys.exit(3)\n", "SystemExit", "3"),
        ("raise KeyboardInterrupt\n", "KeyboardInterrupt", ""),
    ],
)
def test_module_that_does_not_import(tmp_path: Path, code: str, error_type: str, said: str) -> None:
    """[R 6.5]"""
    found = failure(tmp_path, code)
    assert (found["code"], found["error_type"]) == ("function_load_failed", error_type)
    assert said in found["message"]
    text = "\n".join(found["traceback"])
    assert "app.py" in text
    assert "fuyun/runtime" not in text
    assert "frozen" not in text


def test_module_that_is_not_there(tmp_path: Path) -> None:
    """[R 6.5]"""
    found = failure(tmp_path, {"main.py": "", "pkg/__init__.py": ""}, "mian.handler")
    assert found["code"] == "function_load_failed"
    assert found["message"] == "there is no module 'mian' in the code; it holds main, pkg; did you mean 'main'?"
    assert found["traceback"] == []


def test_attribute_that_is_not_there(tmp_path: Path) -> None:
    """[R 6.5]"""
    found = failure(tmp_path, "def handler(e, c): pass\ndef other(): pass\n", "app.handlr")
    assert found["code"] == "handler_missing"
    assert found["message"] == "app has no 'handlr'; it defines handler, other; did you mean 'handler'?"


@pytest.mark.parametrize(
    ("code", "said"), [("handler = 5\n", "is a int"), ("def handler(): pass\n", "handler(event, context)")]
)
def test_handler_that_cannot_be_called(tmp_path: Path, code: str, said: str) -> None:
    """[R 6.5]"""
    found = failure(tmp_path, code)
    assert found["code"] == "handler_missing"
    assert said in found["message"]


def test_what_is_printed_before_a_failure_is_kept(tmp_path: Path) -> None:
    """[R 6.6] [R 8.4]"""
    with worker(tmp_path, "print('so far')\nprint('half', end='')\n1/0\n") as w:
        w.wait_failed()
        texts = [line["t"] for line in w.idle_logs]
    assert texts[0] == "so far"
    assert "half" in texts
    assert any("ZeroDivisionError" in text for text in texts)


@pytest.mark.parametrize(
    ("files", "handler"),
    [
        ({"app.py": "def f(event): return event"}, "app.f"),
        ({"app.py": "def f(*args): return args[0]"}, "app.f"),
        ({"app.py": "def f(event, context, extra=1): return event"}, "app.f"),
        ({"app.py": "import functools\nf = functools.partial(lambda a, e, c: e, 1)"}, "app.f"),
        ({"app.py": "class H:\n def __call__(self, e, c): return e\nf = H()"}, "app.f"),
        ({"app.py": "class H:\n def run(self, e): return e\nf = H().run"}, "app.f"),
        ({"app.py": "class H:\n @staticmethod\n def run(e, c): return e"}, "app:H.run"),
        ({"app.py": "def f(event, context): return event"}, "app:f"),
        ({"pkg/__init__.py": "", "pkg/mod.py": "def f(e, c): return e"}, "pkg/mod.f"),
        ({"pkg/__init__.py": "", "pkg/mod.py": "def f(e, c): return e"}, "pkg.mod.f"),
        ({"pkg/mod.py": "from . import data\ndef f(e, c): return data.identity(e)",
          "pkg/data.py": "def identity(x): return x"}, "pkg/mod:f"),
    ],
)  # fmt: skip
def test_ways_to_name_and_write_a_handler(tmp_path: Path, files: dict[str, str], handler: str) -> None:
    """[R 1.2] [R 1.3] [R 1.4]"""
    with worker(tmp_path, files, handler) as w:
        assert w.wait_ready()["mode"] == "event"
        assert w.event([1]).json == [1]


def test_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """[R 2.1] [R 2.2] [R 2.3]"""
    monkeypatch.setenv("PLATFORM_SECRET", "must not be seen")
    code = """
    import os, sys, time
    def handler(event, context):
        return [dict(os.environ), os.getcwd(), sys.path[0], time.tzname[0], sys.argv, os.environ["PATH"]]
    """
    env = {"COLOR": "blue", "LANG": "de_DE.UTF-8"}
    with worker(tmp_path, code, env=env, cpu=1.5, memory_bytes=1 << 28) as w:
        found, cwd, first, zone, _, _ = w.event().json
    folder = str(tmp_path / "code")
    assert (cwd, first, zone) == (folder, folder, "UTC")
    assert found.pop("TMPDIR") == str(tmp_path / "tmp")
    assert found == {
        "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp", "LANG": "de_DE.UTF-8", "TZ": "UTC", "COLOR": "blue",
        "PYTHONPATH": folder, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "MKL_NUM_THREADS": "2",
        "NUMEXPR_NUM_THREADS": "2", "FUYUN_NAMESPACE": "default", "FUYUN_FUNCTION": "hello", "FUYUN_VERSION": "3",
        "FUYUN_INSTANCE": "i-1", "FUYUN_HANDLER": "app.handler", "FUYUN_MEMORY_BYTES": str(1 << 28),
        "FUYUN_TIMEOUT_S": "30.0",
    }  # fmt: skip


def test_layers(tmp_path: Path) -> None:
    """[R 2.1]: in order, after the standard library, with .pth files and the `python` folder."""
    for name, files in {
        "first": {"shared.py": "who = 'first'", "json.py": "1/0", "only.py": "who = 'only'"},
        "second": {"shared.py": "who = 'second'", "more.pth": "inside\n", "inside/nested.py": "who = 'nested'"},
        "third": {"python/deep.py": "who = 'deep'", "app.py": "1/0"},
    }.items():
        for path, text in files.items():
            target = tmp_path / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
    code = """
    import json, shared, only, nested, deep, subprocess, sys
    def handler(event, context):
        child = subprocess.run([sys.executable, "-c", "import only; print(only.who)"], capture_output=True, text=True)
        return [m.who for m in (shared, only, nested, deep)] + [child.stdout.strip(), "zlib" in sys.modules]
    """
    layers = [str(tmp_path / name) for name in ("first", "second", "third")]
    with worker(tmp_path, code, layers=layers) as w:
        found = w.event().json
    assert found[:4] == ["first", "only", "nested", "deep"]


def test_programs_of_layers(tmp_path: Path) -> None:
    """[R 2.6]: the first layer's come first, then the others', then the system's."""
    for name in ("first", "second"):
        for program in ("said", name):
            file = tmp_path / name / "bin" / program
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"#!/bin/sh\necho {name}\n")
            file.chmod(0o755)
    (tmp_path / "third").mkdir()
    code = """
    import os, subprocess
    def handler(event, context):
        return [subprocess.check_output(name, text=True).strip() for name in event] + [os.environ["PATH"]]
    """
    layers = [str(tmp_path / name) for name in ("first", "second", "third")]
    with worker(tmp_path, code, layers=layers, env={"PATH": "/usr/bin:/bin"}) as w:
        found = w.event(["said", "first", "second"]).json
    assert found == ["first", "first", "second", f"{layers[0]}/bin:{layers[1]}/bin:/usr/bin:/bin"]


def test_layer_that_is_not_there(tmp_path: Path) -> None:
    """[R 6.5]"""
    found = failure(tmp_path, "def handler(e): pass\n", layers=["/nowhere/layer"])
    assert found["code"] == "function_load_failed"
    assert "/nowhere/layer" in found["message"]


def test_nothing_else_can_be_imported(tmp_path: Path) -> None:
    """[R 2.5]"""
    code = """
    def handler(name, context):
        try:
            __import__(name)
        except ImportError:
            return False
        return True
    """
    with worker(tmp_path, code) as w:
        assert [w.event(name).json for name in ("msgspec", "fuyun.domain", "fuyun.base", "pip")] == [False] * 4
        assert w.event("fuyun.sdk").json is True


def test_ready_says_how_it_went(tmp_path: Path) -> None:
    """[R 12.2]"""
    with worker(tmp_path, "import time\ntime.sleep(0.02)\ndef handler(e): pass\n") as w:
        ready = w.wait_ready()
    assert set(ready) == {"mode", "style", "load_ms", "init_ms", "forkable", "reason", "hooks", "python"}
    assert ready["load_ms"] >= 20
    assert ready["init_ms"] < ready["load_ms"]
    assert (ready["mode"], ready["style"], ready["forkable"], ready["reason"]) == ("event", "inline", True, "")
