"""The project file `fuyun.yaml`: read, checked, and turned into what the platform deploys.

Every problem of the file is reported at once, as `file:line: what is wrong; what to write instead`.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import yaml

from fuyun.client.fields import FUNCTION_FIELDS, PROJECT_FIELDS, STAGE_FIELDS
from fuyun.client.reading import WRONG, FieldReader
from fuyun.client.requirements import Requirements, find_requirements
from fuyun.client.yamlfile import Filling, Problems, Reader, Table, Text, Value, load_tree
from fuyun.domain.errors import BadRequest
from fuyun.domain.functions import FunctionSpec
from fuyun.domain.images import is_local
from fuyun.domain.names import check_name, nearest
from fuyun.domain.runtimes import (
    IMAGES,
    JAVA_MAIN,
    JAVAS,
    MODULES,
    NODE_SUFFIXES,
    NODES,
    PROGRAMS,
    SERVER_CONCURRENCY,
    SERVERS,
)
from fuyun.domain.specs import check_function_name, check_spec

FILE_NAMES = ("fuyun.yaml", "fuyun.yml")
#: The stage that `${stage}` names when none is chosen. It may have a section of its own.
DEFAULT_STAGE = "dev"

_HOOKS = ("initializer", "pre_freeze", "pre_stop")
_MERGED = ("env", "tags", "secrets")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectFunction:
    """One function of a project. `code` is an existing folder; of an image that is a path, that path, made or not."""

    name: str
    spec: FunctionSpec
    code: Path
    requirements: Requirements
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A checked project file. `namespace` is "" when the file names none."""

    file: Path
    name: str
    namespace: str
    stage: str
    functions: dict[str, ProjectFunction]

    def pick(self, names: list[str]) -> list[ProjectFunction]:
        """The functions called `names`, or all of them; BadRequest with the nearest name for one that is not there."""
        for name in names:
            if name not in self.functions:
                close = nearest(name, self.functions)
                raise BadRequest(
                    f"{self.file} has no function {name!r}" + (f"; did you mean {close!r}?" if close else ""),
                    hint=f"its functions are {', '.join(self.functions)}",
                )
        return [self.functions[name] for name in names] if names else list(self.functions.values())


def find_project_file(path: Path) -> Path:
    """The project file that `path` names: itself, or the one in that folder. BadRequest when there is none."""
    if path.is_file():
        return path
    for name in FILE_NAMES:
        if (path / name).is_file():
            return path / name
    where = "is not there" if not path.exists() else "holds no fuyun.yaml"
    raise BadRequest(f"{path} {where}", hint="name a folder with a fuyun.yaml, or make one: fuyun init NAME")


def load_project(path: Path, *, stage: str = "", env: Mapping[str, str] | None = None) -> Project:
    """Read the project at `path` (a file or its folder) for a stage. BadRequest lists every problem found."""
    file = find_project_file(path)
    root, problems = load_tree(file, str(file))
    if not isinstance(root, yaml.MappingNode):
        problems.add(1 if root is None else root.start_mark.line + 1, "a project file holds `name: value` lines")
        problems.raise_any()
        raise AssertionError("unreachable")
    filling = Filling(stage or DEFAULT_STAGE, os.environ if env is None else env)
    return _Loader(file, problems, filling).load(root, bool(stage))


def _is_server(found: Mapping[str, Any]) -> bool:
    """Whether the function's fields describe a server (`FunctionSpec.is_server`)."""
    runtime = found.get("runtime")
    if runtime in JAVAS:
        return str(found.get("handler", "")).endswith(JAVA_MAIN)
    return runtime in SERVERS or (runtime in IMAGES and found.get("protocol") != "custom")


class _Loader:
    def __init__(self, file: Path, problems: Problems, filling: Filling) -> None:
        self._file = file
        self._problems = problems
        self._filling = filling
        self._fields = FieldReader(problems)

    def load(self, root: yaml.MappingNode, stage_asked: bool) -> Project:
        stages = [value for key, value in root.value if key.value == "stages"]
        root.value = [(key, value) for key, value in root.value if key.value != "stages" or value is stages[0]]
        kept = [(key, value) for key, value in root.value if key.value != "stages"]
        top = Reader(self._problems, self._filling).read(
            yaml.MappingNode(root.tag, kept, root.start_mark, root.end_mark)
        )
        assert isinstance(top, Table)
        self._fields.check_names(top, PROJECT_FIELDS, "a project", extensions=True)
        functions = top.values.get("functions")
        overrides = self._stage(stages, stage_asked, functions.values if isinstance(functions, Table) else ())
        name = self._name(top, "name", "project")
        if "name" not in top.values:
            self._problems.add(top.line, "a project needs 'name': write `name: my-project`")
        namespace = self._name(top, "namespace", "namespace")
        if overrides is not None and "namespace" in overrides.values:
            namespace = self._name(overrides, "namespace", "namespace")
        found = self._functions(top, overrides)
        self._problems.raise_any()
        return Project(file=self._file, name=name, namespace=namespace, stage=self._filling.stage, functions=found)

    def _name(self, table: Table, field: str, kind: str) -> str:
        value = table.values.get(field)
        if value is None:
            return ""
        if not isinstance(value, Text) or value.kind == "null":
            self._problems.add(table.lines[field], f"{field!r} takes a name")
            return ""
        try:
            return check_name(kind, value.value)
        except BadRequest as exc:
            self._problems.add(table.lines[field], f"{exc.detail}; {exc.hint}")
            return ""

    def _stage(self, stages: list[yaml.Node], asked: bool, names: Collection[str]) -> Table | None:
        """The chosen stage's section; the names of the other sections' fields and functions are checked as well."""
        chosen: Table | None = None
        known: list[str] = []
        for key, value in stages[0].value if stages and isinstance(stages[0], yaml.MappingNode) else []:
            stage, line = str(key.value), key.start_mark.line + 1
            known.append(stage)
            filling = self._filling if stage == self._filling.stage else Filling(stage, self._filling.env, lenient=True)
            section = Reader(self._problems, filling).read(value)
            if not isinstance(section, Table):
                self._problems.add(line, f"stage {stage!r} takes namespace: and functions:")
                continue
            self._fields.check_names(section, STAGE_FIELDS, f"stage {stage!r}")
            functions = section.values.get("functions")
            if isinstance(functions, Table):
                self._check_overrides(functions, names, stage)
            if stage == self._filling.stage:
                chosen = section
        if stages and not isinstance(stages[0], yaml.MappingNode):
            self._problems.add(stages[0].start_mark.line + 1, "'stages' takes one section per stage")
        if asked and self._filling.stage not in known:
            close = nearest(self._filling.stage, known)
            then = f"did you mean {close!r}?" if close else f"stages are {', '.join(known) or 'none'}"
            line = stages[0].start_mark.line if stages else 1
            self._problems.add(line, f"stage {self._filling.stage!r} is not in this file; {then}")
        return chosen

    def _check_overrides(self, functions: Table, names: Collection[str], stage: str) -> None:
        """A stage may change only functions that exist; the chosen one's fields are checked where they are merged."""
        for name, override in functions.values.items():
            if name not in names:
                close = nearest(name, names)
                then = f"; did you mean {close!r}?" if close else "; a stage changes functions, it does not add any"
                self._problems.add(functions.lines[name], f"there is no function {name!r}{then}")
            elif isinstance(override, Table) and stage != self._filling.stage:
                self._fields.check_names(override, FUNCTION_FIELDS, f"function {name!r} of stage {stage!r}")

    def _functions(self, top: Table, overrides: Table | None) -> dict[str, ProjectFunction]:
        table = top.values.get("functions")
        if not isinstance(table, Table) or not table.values:
            self._problems.add(
                top.lines.get("functions", top.line), "a project needs 'functions': write `functions: {hello: {...}}`"
            )
            return {}
        changes = overrides.values.get("functions") if overrides is not None else None
        if changes is not None and not isinstance(changes, Table):
            self._problems.add(changes.line, "'functions' of a stage takes NAME: {field: value}")
        by_name = changes if isinstance(changes, Table) else Table(0)
        found = {}
        for name, value in table.values.items():
            function = self._function(name, value, table.lines[name], by_name.values.get(name))
            if function is not None:
                found[name] = function
        return found

    def _function(self, name: str, value: Value, line: int, change: Value | None) -> ProjectFunction | None:
        owner = f"function {name!r}"
        try:
            check_function_name(name)
        except BadRequest as exc:
            self._problems.add(line, f"{exc.detail}; {exc.hint}")
        if isinstance(value, Text) and value.kind == "null":
            value = Table(line)
        if isinstance(value, Table) and change is not None:
            value = self._overridden(value, change, owner)
        self._fields.lines = {}
        before = len(self._problems)
        found = self._fields.read_object(value, FUNCTION_FIELDS, owner)
        code = self._folder(found.pop("code", "."), line)
        wanted = found.pop("requirements", None)
        if wanted is None and found.get("runtime") in (*NODES, *JAVAS, *IMAGES):
            wanted = False  # a requirements.txt in the folder is for something else
        asked_line = self._fields.lines.get("requirements", (line, ""))[0]
        requirements = Requirements()
        if code is not None and wanted is not WRONG:
            try:
                requirements = find_requirements(wanted, code, self._file.parent)
            except BadRequest as exc:
                self._problems.add(asked_line, exc.detail + (f"; {exc.hint}" if exc.hint else ""))
        spec = self._spec(found, line) if len(self._problems) == before else None
        if spec is not None and spec.runtime in IMAGES and is_local(spec.image):
            code = self._file.parent / spec.image
        if spec is None or code is None:
            return None
        self._check_handler(spec, code, line, requirements)
        return ProjectFunction(name=name, spec=spec, code=code, requirements=requirements, line=line)

    def _overridden(self, value: Table, change: Value, owner: str) -> Table:
        if not isinstance(change, Table):
            self._problems.add(change.line, f"{owner} of a stage takes `field: value` lines")
            return value
        merged = Table(value.line, dict(value.values), dict(value.lines))
        for name, item in change.values.items():
            if isinstance(item, Text) and item.kind == "null":
                merged.values.pop(name, None)
                merged.lines.pop(name, None)
                continue
            before = merged.values.get(name)
            if name in _MERGED and isinstance(before, Table) and isinstance(item, Table):
                item = Table(item.line, before.values | item.values, before.lines | item.lines)
            merged.values[name] = item
            merged.lines[name] = change.lines[name]
        return merged

    def _folder(self, text: str, line: int) -> Path | None:
        line = self._fields.lines.get("code", (line, ""))[0]
        folder = self._file.parent / text
        if folder.is_dir():
            return folder
        found = "is a file" if folder.exists() else "does not exist"
        self._problems.add(line, f"code: {folder} {found}; name the folder that holds the code, relative to this file")
        return None

    def _spec(self, found: dict[str, Any], line: int) -> FunctionSpec | None:
        hooks: dict[str, Any] = {}
        for name in _HOOKS:
            if name in found:
                hook = found.pop(name)
                hooks.update(hook)
                self._fields.lines.setdefault(f"hooks.{name}", self._fields.lines[name])
                if name not in hook and found.get("runtime") not in PROGRAMS:
                    place, _ = self._fields.lines[f"hooks.{name}"]
                    self._problems.add(place, f"{name} needs 'handler': MODULE.CALLABLE to run")
        for trigger in found.get("triggers", []):
            cors = trigger.get("http", {}).get("cors")
            if isinstance(cors, dict) and "max_age_s" in cors:
                cors["max_age_s"] = int(cors["max_age_s"])
        if _is_server(found):
            found.setdefault("concurrency", SERVER_CONCURRENCY)
        try:
            return check_spec(msgspec.convert({**found, "hooks": hooks}, FunctionSpec))
        except BadRequest as exc:
            path = str(exc.fields.get("path", ""))
            place, name = self._place(path, line)
            text = exc.detail.removeprefix(f"{path}: ")
            self._problems.add(place, f"{name or path}: {text}" + (f"; {exc.hint}" if exc.hint else ""))
        except msgspec.ValidationError as exc:
            self._problems.add(line, f"{exc}")
        return None

    def _place(self, path: str, line: int) -> tuple[int, str]:
        while path:
            if path in self._fields.lines:
                return self._fields.lines[path]
            path = path.rpartition(".")[0]
        return line, ""

    def _check_handler(self, spec: FunctionSpec, code: Path, line: int, requirements: Requirements) -> None:
        """A handler's module is in the code folder, unless dependencies or layers may bring it."""
        if spec.runtime in MODULES:
            self._check_module(spec.handler, code, line)
            return
        if spec.runtime in PROGRAMS:
            if spec.runtime == "custom" and not spec.layers:
                self._check_bootstrap(code, line)
            return
        if requirements.text or spec.layers:
            return
        if spec.runtime in NODES:
            self._check_export(spec, code, line)
            return
        module = spec.handler.replace(":", ".").rpartition(".")[0].replace("/", ".")
        base = code.joinpath(*module.split("."))
        if base.is_dir() or base.with_name(base.name + ".py").is_file() or list(base.parent.glob(f"{base.name}.*.so")):
            return
        place, _ = self._fields.lines.get("handler", (line, ""))
        close = nearest(module, sorted(path.stem for path in code.glob("*.py")))
        then = f"did you mean {close!r}?" if close else "write MODULE.CALLABLE of a file in the code folder"
        self._problems.add(place, f"handler: {spec.handler!r}: there is no module {module!r} in {code}; {then}")

    def _check_module(self, handler: str, code: Path, line: int) -> None:
        if (code / handler).is_file():
            return
        place, _ = self._fields.lines.get("handler", (line, ""))
        found = sorted(str(path.relative_to(code)) for path in code.rglob("*.wa[st]*"))
        close = nearest(handler, found)
        then = f"did you mean {close!r}?" if close else f"it holds {', '.join(found[:5]) or 'no module'}"
        self._problems.add(place, f"handler: there is no {handler} in {code}; {then}")

    def _check_export(self, spec: FunctionSpec, code: Path, line: int) -> None:
        """A Node handler's file is in the code folder."""
        file = spec.handler.partition(":")[0] if ":" in spec.handler else spec.handler.rpartition(".")[0]
        names = [f"{base}{suffix}" for base in (file, f"{file}/index") for suffix in NODE_SUFFIXES]
        if any((code / name).is_file() for name in names):
            return
        place, _ = self._fields.lines.get("handler", (line, ""))
        close = nearest(file, sorted(path.stem for path in code.iterdir() if path.suffix in NODE_SUFFIXES))
        then = f"did you mean {close!r}?" if close else "write FILE.EXPORT of a file in the code folder"
        self._problems.add(place, f"handler: {spec.handler!r}: there is no {file}.js, .mjs or .cjs in {code}; {then}")

    def _check_bootstrap(self, code: Path, line: int) -> None:
        """A custom function's program is there and can be executed, unless layers may bring it."""
        path = code / "bootstrap"
        if path.is_file() and os.access(path, os.X_OK):
            return
        place, _ = self._fields.lines.get("runtime", (line, ""))
        found = f"{path} is not executable; run chmod +x {path}"
        missing = f"there is no {path}; runtime custom starts an executable of that name"
        self._problems.add(place, f"runtime: {found if path.is_file() else missing}")
