"""Requirements texts: what a function's dependencies may look like, and how a `pyproject.toml` becomes one."""

from __future__ import annotations

import re
import tomllib

from fuyun.domain.errors import BadRequest

#: Options of a requirements file that mean something without the folder it came from.
_OPTIONS = ("-i", "--index-url", "--extra-index-url", "--no-index", "--no-binary", "--only-binary")
_FILES = ("-r", "-c", "-e", "--requirement", "--constraint", "--editable")
#: Options of one requirement, after it.
_INLINE = ("--hash", "--config-setting", "--config-settings", "--global-option")
_LIMIT_CHARS = 256 * 1024
_COMMENT = re.compile(r"(^|\s)#.*$")
_LOCAL = re.compile(r"^(\.{1,2}(/|$)|/|~/|file:|[\w.-]+/)|@\s*(file:|\.{0,2}/)|\.(whl|zip|tar\.gz)$")


def lines_of(requirements: str) -> list[str]:
    """The requirements and options of a text, without comments and blank lines, continuations joined."""
    joined = re.sub(r"\\\r?\n", " ", requirements)
    stripped = (_COMMENT.sub("", line).strip() for line in joined.splitlines())
    return [line for line in stripped if line]


def check_requirements(requirements: str) -> str:
    """`requirements` without comments and blank lines, or BadRequest naming the line.

    Refused are lines that point at files beside the requirements file (`-r`, `-c`, `-e`, paths): the platform builds
    from the text alone.
    """
    if len(requirements) > _LIMIT_CHARS:
        raise BadRequest(
            f"the requirements are {len(requirements)} characters long",
            hint=f"keep them under {_LIMIT_CHARS} characters",
            path="requirements",
        )
    if "\0" in requirements:
        raise BadRequest("the requirements hold a NUL character", hint="send a text file", path="requirements")
    lines = lines_of(requirements)
    for line in lines:
        _check_line(line)
    return "".join(f"{line}\n" for line in lines)


def _check_line(line: str) -> None:
    if line.startswith("-"):
        option = re.split(r"[\s=]", line, maxsplit=1)[0]
        if option in _FILES or option[:2] in _FILES:
            raise BadRequest(
                f"requirements: {line!r} points at another file",
                hint="put all requirements into one file; local packages belong into the code folder",
                path="requirements",
            )
        if option not in _OPTIONS:
            raise BadRequest(
                f"requirements: the option {option!r} is not taken",
                hint=f"use one of {', '.join(_OPTIONS)}",
                path="requirements",
            )
        return
    requirement = line.split(";")[0].split(" --")[0].strip()
    if _LOCAL.search(requirement) and "://" not in requirement.replace("file://", ""):
        raise BadRequest(
            f"requirements: {line!r} is a local path",
            hint="name a package or an https:// address; local packages belong into the code folder",
            path="requirements",
        )
    for option in re.findall(r"\s(--[a-z-]+)", line):
        if option not in _INLINE:
            raise BadRequest(
                f"requirements: the option {option!r} is not taken after a requirement",
                hint=f"use one of {', '.join(_INLINE)}",
                path="requirements",
            )


def names_of(requirements: str) -> list[str]:
    """The packages a text names, in order, as written."""
    found = (re.match(r"[A-Za-z0-9][\w.-]*", line) for line in lines_of(requirements))
    return [match[0] for match in found if match]


def from_pyproject(text: str, source: str = "pyproject.toml") -> str:
    """The requirements text of `[project].dependencies`; "" when there are none. BadRequest names `source`.

    Only static metadata counts (PEP 621): the platform does not run a project's build backend to learn them.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise BadRequest(f"{source}: {exc}", hint="correct the TOML syntax", path=source) from exc
    project = document.get("project")
    if not isinstance(project, dict):
        if isinstance(document.get("tool"), dict) and "poetry" in document["tool"]:
            raise BadRequest(
                f"{source}: dependencies stand in [tool.poetry], not in [project]",
                hint="move them to [project].dependencies or export a requirements.txt",
                path=source,
            )
        return ""
    if "dependencies" in project.get("dynamic", ()):
        raise BadRequest(
            f"{source}: [project].dependencies is dynamic",
            hint="write the dependencies into [project].dependencies or a requirements.txt",
            path=source,
        )
    dependencies = project.get("dependencies", [])
    if not isinstance(dependencies, list) or not all(isinstance(item, str) for item in dependencies):
        raise BadRequest(
            f"{source}: [project].dependencies is not a list of texts",
            hint='write dependencies = ["requests>=2"]',
            path=source,
        )
    return check_requirements("\n".join(dependencies))
