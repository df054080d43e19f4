"""YAML as a tree that remembers its lines, with `${...}` filled in, and a list of everything wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from fuyun.domain.errors import BadRequest

#: A project file larger than this many values is refused; aliases of aliases can otherwise grow without end.
MAX_VALUES = 20_000
MAX_DEPTH = 30

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)\}")
_ENV = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)(?:(:-)(.*))?", re.DOTALL)


@dataclass(slots=True)
class Text:
    """A scalar. `kind` is YAML's: str, int, float, bool or null; `value` is as written, with `${...}` filled in;
    `broken` when that failed, which has been noted."""

    line: int
    value: str
    kind: str
    broken: bool = False


@dataclass(slots=True)
class Items:
    """A sequence."""

    line: int
    values: list[Value] = field(default_factory=list)


@dataclass(slots=True)
class Table:
    """A mapping with text keys. `lines` says where each key stands."""

    line: int
    values: dict[str, Value] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)


Value = Text | Items | Table


class Problems:
    """Everything wrong with one file, in the order found."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._found: list[tuple[int, str]] = []

    def add(self, line: int, text: str) -> None:
        """Note a problem; the same one at the same place once."""
        if (line, text) not in self._found:
            self._found.append((line, text))

    def __len__(self) -> int:
        return len(self._found)

    def raise_any(self) -> None:
        """BadRequest with one `file:line: text` per problem, if there is any."""
        if self._found:
            lines = [f"{self.file}:{line}: {text}" for line, text in sorted(self._found, key=lambda item: item[0])]
            raise BadRequest("\n".join(lines), hint="", problems=lines)


@dataclass(frozen=True, slots=True)
class Filling:
    """What `${...}` stands for. `lenient` leaves unset variables empty (sections that are not used)."""

    stage: str
    env: Mapping[str, str]
    lenient: bool = False

    def fill(self, text: str) -> tuple[str, list[str]]:
        """`text` with every reference replaced, and what could not be."""
        wrong: list[str] = []

        def one(found: re.Match[str]) -> str:
            name = found[1]
            if name is None:
                return "${"
            if name == "stage":
                return self.stage
            env = _ENV.fullmatch(name)
            if env is None:
                wrong.append(
                    f"${{{name}}} is not known; write ${{env:NAME}}, ${{env:NAME:-default}}, ${{stage}} or $${{"
                )
                return ""
            if env[1] in self.env and (self.env[env[1]] or not env[2]):
                return self.env[env[1]]
            if env[2]:
                return env[3]
            if self.lenient:
                return ""
            wrong.append(f"environment variable {env[1]} is not set; set it, or give a default: ${{env:{env[1]}:-...}}")
            return ""

        return _REFERENCE.sub(one, text), wrong


def load_tree(path: Path, shown: str) -> tuple[yaml.Node | None, Problems]:
    """The composed document of a file (None when it is empty), and its empty list of problems."""
    problems = Problems(shown)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as exc:
        raise BadRequest(f"{shown} is not UTF-8: byte {exc.start}", hint="save it as UTF-8") from exc
    except OSError as exc:
        raise BadRequest(f"{shown} cannot be read: {exc.strerror}", hint="check the path and its permissions") from exc
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader), problems
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        hint = "use spaces to indent" if "\\t" in str(exc.problem) else ""
        raise BadRequest(f"{shown}:{mark.line + 1 if mark else 1}: not YAML: {exc.problem}", hint=hint) from exc
    except yaml.YAMLError as exc:
        raise BadRequest(f"{shown}:1: not YAML: {exc}", hint="remove what is not text") from exc


class Reader:
    """Turns composed nodes into values, filling in references and noting what is wrong."""

    def __init__(self, problems: Problems, filling: Filling) -> None:
        self.problems = problems
        self._filling = filling
        self._count = 0

    def read(self, node: yaml.Node, depth: int = 0) -> Value:
        """The value of a node."""
        line = node.start_mark.line + 1
        self._count += 1
        if self._count > MAX_VALUES or depth > MAX_DEPTH:
            self.problems.add(line, f"more than {MAX_VALUES} values or {MAX_DEPTH} levels; a project file is smaller")
            self.problems.raise_any()
        if isinstance(node, yaml.ScalarNode):
            kind = str(node.tag).rpartition(":")[2]
            filled, wrong = self._filling.fill(node.value)
            for text in wrong:
                self.problems.add(line, text)
            return Text(line, filled, kind, bool(wrong))
        if isinstance(node, yaml.SequenceNode):
            return Items(line, [self.read(item, depth + 1) for item in node.value])
        table = Table(line)
        merged: list[Table] = []
        for key, value in self._pairs(node):
            if str(key.tag).endswith(":merge"):
                merged.extend(self._merged(value, depth))
                continue
            if key.value in table.values:
                self.problems.add(
                    key.start_mark.line + 1, f"{key.value!r} stands twice; it is at line {table.lines[key.value]} too"
                )
                continue
            table.values[key.value] = self.read(value, depth + 1)
            table.lines[key.value] = key.start_mark.line + 1
        for other in merged:
            for name, inherited in other.values.items():
                if name not in table.values:
                    table.values[name] = inherited
                    table.lines[name] = other.lines[name]
        return table

    def _pairs(self, node: yaml.Node) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                yield key, value
            else:
                self.problems.add(key.start_mark.line + 1, "a key must be a text; write NAME: value")

    def _merged(self, node: yaml.Node, depth: int) -> Iterator[Table]:
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for item in nodes:
            found = self.read(item, depth + 1)
            if isinstance(found, Table):
                yield found
            else:
                self.problems.add(found.line, "<< takes a map or a list of maps")
