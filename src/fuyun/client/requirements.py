"""Dependencies as one requirements.txt text, wherever the project keeps them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from fuyun.domain.errors import BadRequest
from fuyun.domain.requirements import from_pyproject

#: Looked for in the code folder when the project file does not say.
DEFAULT_FILES = ("requirements.txt", "pyproject.toml")
MAX_INCLUDES = 20

_INCLUDE = re.compile(r"(?:-r|--requirement)[\s=]+(.+)")
_LOCAL = re.compile(r"(?:-e|--editable|-c|--constraint|-f|--find-links)\b|\.{1,2}/|/|file:|[\w.-]+\s*@\s*file:")


@dataclass(frozen=True, slots=True)
class Requirements:
    """`text` is a requirements.txt ("" for none); `inside` says that the code archive holds all it was made of."""

    text: str = ""
    inside: bool = True


def find_requirements(wanted: str | list[str] | bool | None, code: Path, base: Path) -> Requirements:
    """What `requirements:` means: a file relative to `base`, a list, False, or None (look in the code folder).

    BadRequest for a file that is missing or refers to what the platform cannot see (local paths, editable installs).
    """
    if wanted is False:
        return Requirements()
    if isinstance(wanted, list):
        for item in wanted:
            _refuse_local(item, "requirements")
        return Requirements("".join(f"{item}\n" for item in wanted), inside=not wanted)
    if isinstance(wanted, str):
        path = base / wanted
        if not path.is_file():
            raise BadRequest(f"requirements: {path} is not a file", hint="name a requirements.txt or a pyproject.toml")
        return _read(path, code)
    for name in DEFAULT_FILES:
        if (code / name).is_file():
            return _read(code / name, code)
    return Requirements()


def _read(path: Path, code: Path) -> Requirements:
    files: list[Path] = []
    text = _from_pyproject(path) if path.suffix == ".toml" else _from_text(path, files)
    root = code.resolve()
    inside = all(file.resolve().is_relative_to(root) for file in [path, *files])
    return Requirements(text, inside)


def _from_pyproject(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise BadRequest(f"requirements: {path} cannot be read: {exc}", hint="write it in UTF-8") from exc
    return from_pyproject(text, f"requirements: {path}")


def _from_text(path: Path, files: list[Path]) -> str:
    if len(files) >= MAX_INCLUDES:
        raise BadRequest(f"requirements: {path}: more than {MAX_INCLUDES} files include each other")
    files.append(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise BadRequest(f"requirements: {path} cannot be read: {exc}") from exc
    out: list[str] = []
    for number, line in enumerate(lines, 1):
        bare = re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip()
        include = _INCLUDE.match(bare)
        if include:
            other = path.parent / include[1].strip()
            if not other.is_file():
                raise BadRequest(f"requirements: {path}:{number}: {other} is not a file")
            out.append(_from_text(other, files))
        elif bare:
            _refuse_local(bare, f"{path}:{number}")
            out.append(f"{bare}\n")
    return "".join(out)


def _refuse_local(line: str, where: str) -> None:
    if _LOCAL.match(line):
        raise BadRequest(
            f"{where}: {line!r} refers to this machine, which the platform cannot see",
            hint="put that package into the code folder, or require it by name and version",
        )
