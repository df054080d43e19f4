"""Project files for tests, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuyun.client.project import Project, load_project
from fuyun.domain.errors import BadRequest

MINIMAL = "name: a\nfunctions:\n  f:\n    handler: app.handler\n    code: cart\n"


def make_folder(tmp_path: Path) -> Path:
    """A folder with a module to deploy."""
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
