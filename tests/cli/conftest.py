"""The command line in this process, against a control API on a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fuyun.cli.main import main
from tests.client.api_server import ApiServer, serving

ARTIFACT = {"digest": "ab" * 32, "size_bytes": 2048}


def version(number: int = 0, function: str = "hello", **spec: Any) -> dict[str, Any]:
    """A version as the API sends it."""
    made = {"namespace": "default", "function": function, "number": number, "code": ARTIFACT, "created_s": 0.0}
    return made | {"spec": {"handler": "app.handler"} | spec}


@dataclass
class Ran:
    """What a command left behind; `raw` is stdout as bytes."""

    code: int
    out: str
    err: str
    raw: bytes


class Cli:
    """Runs commands."""

    def __init__(self, capfd: pytest.CaptureFixture[bytes]) -> None:
        self._capfd = capfd

    def __call__(self, *arguments: str) -> Ran:
        self._capfd.readouterr()
        code = main(arguments)
        out, err = self._capfd.readouterr()
        return Ran(code, out.decode(errors="replace"), err.decode(), out)


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with serving() as server:
        server.on("GET", "/info", {"version": "9", "gateway": "http://gw", "namespace": "*", "role": "admin"})
        yield server


@pytest.fixture
def cli(
    api: ApiServer, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Cli:
    """The command line, configured for the fake API, in an empty folder with a home of its own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.setenv("FUYUN_API", api.url)
    monkeypatch.setenv("FUYUN_KEY", "fk_id_secret")
    monkeypatch.setenv("TZ", "UTC")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return Cli(capfdbinary)
