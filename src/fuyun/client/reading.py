"""Fields of the project file turned into values of the domain, one function per kind of field."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import yaml

from fuyun.base.units import parse_duration, parse_size
from fuyun.client.field import Field
from fuyun.client.fields import POLICY_FIELDS, TRIGGER_NAME, TRIGGERS
from fuyun.client.yamlfile import Items, Problems, Table, Text, Value
from fuyun.domain.names import nearest

#: Returned for a value that cannot be used; its problem has been noted.
WRONG: Any = object()

_FLAGS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


class FieldReader:
    """Reads the tables of one file. `owner` in messages is what the field belongs to ("function 'hello'").

    `lines` remembers where each domain attribute came from: `memory_bytes`, `env.X`, `triggers[0].http.path` -> (line,
    field name as written).
    """

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self.lines: dict[str, tuple[int, str]] = {}

    def check_names(self, table: Table, fields: tuple[Field, ...], owner: str, extensions: bool = False) -> None:
        """Note every key that is no field, and every required field that is absent."""
        known = [field.name for field in fields]
        for name in table.values:
            if name in known or (extensions and name.startswith("x-")):
                continue
            close = nearest(name.lower().replace("-", "_"), known) or nearest(name, known)
            then = f"; did you mean {close!r}?" if close else f"; fields are {', '.join(known)}"
            self._problems.add(table.lines[name], f"{name!r} is not a field of {owner}{then}")

    def read_object(self, value: Value, fields: tuple[Field, ...], owner: str, prefix: str = "") -> dict[str, Any]:
        """Domain attribute -> value, of the fields that are given and right."""
        if not isinstance(value, Table):
            self._problems.add(value.line, f"{owner} takes `field: value` lines; fields are {_names(fields)}")
            return {}
        self.check_names(value, fields, owner)
        found: dict[str, Any] = {}
        for field in fields:
            if field.name not in value.values:
                if field.required:
                    self._problems.add(value.line, f"{owner} needs {field.name!r}: {field.doc}")
                continue
            given = value.values[field.name]
            self.lines[prefix + field.attribute] = (value.lines[field.name], field.name)
            read = self.read(given, field, f"{prefix}{field.attribute}")
            if read is not WRONG:
                found[field.attribute] = read
        return found

    def read(self, value: Value, field: Field, path: str) -> Any:
        """The value of one field, or WRONG."""
        if isinstance(value, Text) and value.broken:
            return WRONG
        if isinstance(value, Text) and value.kind == "null":
            self._problems.add(value.line, f"{field.name!r} has no value; write one, or remove the line")
            return WRONG
        readers: dict[str, Callable[[Value, Field, str], Any]] = {
            "names": self._names,
            "mapping": self._mapping,
            "secrets": self._secrets,
            "hook": self._hook,
            "switch": self._switch,
            "object": self._object,
            "objects": self._objects,
            "triggers": self._triggers,
            "requirements": self._requirements,
            "network": self._network,
            "json": self._json,
        }
        if field.kind in readers:
            return readers[field.kind](value, field, path)
        return self._scalar(value, field)

    def _wrong(self, line: int, text: str) -> Any:
        self._problems.add(line, text)
        return WRONG

    def _scalar(self, value: Value, field: Field) -> Any:
        if not isinstance(value, Text):
            return self._wrong(value.line, f"{field.name!r} takes one value, not {_shape(value)}")
        text = value.value.strip() if field.kind != "text" else value.value
        try:
            if field.kind == "size":
                return parse_size(text)
            if field.kind == "duration":
                return parse_duration(text)
            if field.kind == "integer":
                return int(text)
            if field.kind == "number":
                return float(text)
        except ValueError as exc:
            unit = {"integer": "a whole number", "number": "a number"}.get(field.kind)
            return self._wrong(value.line, f"{field.name}: {f'{text!r} is not {unit}' if unit else exc}")
        if field.kind == "flag":
            return _FLAGS.get(text.lower(), WRONG) if text.lower() in _FLAGS else self._flag(value, field)
        if field.kind == "choice" and text not in field.choices:
            close = nearest(text, field.choices)
            then = f"did you mean {close!r}?" if close else f"use one of {', '.join(field.choices)}"
            return self._wrong(value.line, f"{field.name}: {text!r} is not known; {then}")
        if field.kind in ("text", "folder") and not text:
            return self._wrong(value.line, f"{field.name!r} is empty; write a value, or remove the line")
        return text

    def _flag(self, value: Text, field: Field) -> Any:
        return self._wrong(value.line, f"{field.name}: {value.value!r} is neither true nor false")

    def _names(self, value: Value, field: Field, path: str) -> Any:
        values = [value] if isinstance(value, Text) else value.values if isinstance(value, Items) else None
        if values is None:
            return self._wrong(value.line, f"{field.name!r} takes a list, not {_shape(value)}")
        found: list[str] = []
        for item in values:
            if not isinstance(item, Text) or item.kind == "null" or not item.value:
                self._problems.add(item.line, f"{field.name!r} takes a list of names, not {_shape(item)}")
                continue
            name = item.value.upper() if field.choices and item.value.upper() in field.choices else item.value
            if field.choices and name not in field.choices:
                close = nearest(name.upper(), field.choices)
                then = f"did you mean {close!r}?" if close else f"use {', '.join(field.choices)}"
                self._problems.add(item.line, f"{field.name}: {item.value!r} is not known; {then}")
                continue
            found.append(name)
        return tuple(found)

    def _mapping(self, value: Value, field: Field, path: str) -> Any:
        if not isinstance(value, Table):
            return self._wrong(value.line, f"{field.name!r} takes NAME: value lines, not {_shape(value)}")
        found: dict[str, str] = {}
        for name, item in value.values.items():
            self.lines[f"{path}.{name}"] = (value.lines[name], f"{field.name}.{name}")
            if not isinstance(item, Text):
                self._problems.add(
                    item.line, f"{field.name}.{name} takes one value, not {_shape(item)}; put it in quotes"
                )
            else:
                found[name] = "" if item.kind == "null" else item.value
        return found

    def _secrets(self, value: Value, field: Field, path: str) -> Any:
        if isinstance(value, Table):
            found = self._mapping(value, field, path)
            for name in found:
                self.lines[f"env.{name}"] = self.lines[f"{path}.{name}"]
            return found
        names = self._names(value, field, path)
        if names is WRONG:
            return WRONG
        by_env = {name.upper().replace("-", "_").replace(".", "_"): name for name in names}
        for name in by_env:
            self.lines[f"env.{name}"] = (value.line, f"secrets.{name}")
        return by_env

    def _hook(self, value: Value, field: Field, path: str) -> Any:
        if isinstance(value, Text):
            handler = self._scalar(value, Field(field.name, "text", field.doc))
            return WRONG if handler is WRONG else {field.name: handler}
        found = self.read_object(value, field.fields, field.name, f"{path}.")
        names = {"handler": field.name, "timeout": f"{field.name}_timeout_s"}
        self.lines[f"hooks.{names['timeout']}"] = self.lines.get(f"{path}.timeout", (value.line, field.name))
        return {names[name]: item for name, item in found.items()}

    def _switch(self, value: Value, field: Field, path: str) -> Any:
        if isinstance(value, Text):
            on = self._scalar(value, Field(field.name, "flag", field.doc))
            return WRONG if on is WRONG else ({} if on else None)
        return self.read_object(value, field.fields, field.name, f"{path}.")

    def _network(self, value: Value, field: Field, path: str) -> Any:
        if isinstance(value, Text):
            return self._scalar(value, replace(field, kind="choice"))
        found = self.read_object(value, field.fields, field.name, f"{path}.")
        if isinstance(value, Table) and isinstance(entries := value.values.get("allow"), Items):
            for index, item in enumerate(entries.values):
                self.lines[f"{path}.allow[{index}]"] = (item.line, f"{field.name}.allow")
        return found or WRONG

    def _json(self, value: Value, field: Field, path: str) -> Any:
        """What JSON has: YAML's other values, such as dates, are text."""
        if isinstance(value, Table):
            items = {name: self._json(item, field, path) for name, item in value.values.items()}
            return WRONG if WRONG in items.values() else items
        if isinstance(value, Items):
            found = [self._json(item, field, path) for item in value.values]
            return WRONG if WRONG in found else found
        if value.broken:
            return WRONG
        if value.kind not in ("int", "float", "bool", "null"):
            return value.value
        read = yaml.safe_load(value.value)
        if isinstance(read, float) and not math.isfinite(read):
            return self._wrong(value.line, f"{field.name}: JSON has no {value.value}")
        return read

    def _object(self, value: Value, field: Field, path: str) -> Any:
        owner = f"trigger {field.name!r}" if field in TRIGGERS else repr(field.name)
        return self.read_object(value, field.fields, owner, f"{path}.")

    def _objects(self, value: Value, field: Field, path: str) -> Any:
        if not isinstance(value, Items):
            return self._wrong(value.line, f"{field.name!r} takes a list of maps with {_names(field.fields)}")
        found = []
        for index, item in enumerate(value.values):
            self.lines[f"{path}[{index}]"] = (item.line, field.name)
            found.append(self.read_object(item, field.fields, f"an item of {field.name!r}", f"{path}[{index}]."))
        return found

    def _triggers(self, value: Value, field: Field, path: str) -> Any:
        if not isinstance(value, Items):
            return self._wrong(value.line, f"{field.name!r} takes a list; write `- http: {{path: /...}}`")
        found: list[dict[str, Any]] = []
        for index, item in enumerate(value.values):
            kinds = [kind.name for kind in TRIGGERS]
            beside = {field.name for field in (TRIGGER_NAME, *POLICY_FIELDS)}
            given = [name for name in item.values if name not in beside] if isinstance(item, Table) else []
            if len(given) != 1:
                text = f"a trigger has exactly one kind ({', '.join(kinds)}); write `- http: {{path: /...}}`"
                self._problems.add(item.line, text)
                continue
            if given[0] not in kinds:
                close = nearest(given[0], kinds)
                then = f"did you mean {close!r}?" if close else f"kinds are {', '.join(kinds)}"
                self._problems.add(item.line, f"{given[0]!r} is no kind of trigger; {then}")
                continue
            self.lines[f"{path}[{index}]"] = (item.line, "triggers")
            every = (TRIGGER_NAME, *TRIGGERS, *POLICY_FIELDS)
            read = self.read_object(item, every, "a trigger", f"{path}[{index}].")
            policy = {field.attribute: read.pop(field.attribute) for field in POLICY_FIELDS if field.attribute in read}
            found.append({**read, **({"policy": policy} if policy else {})})
        return found

    def _requirements(self, value: Value, field: Field, path: str) -> Any:
        if isinstance(value, Items):
            names = self._names(value, field, path)
            return names if names is WRONG else list(names)
        text = self._scalar(value, Field(field.name, "text", field.doc))
        return False if isinstance(text, str) and text.lower() in ("false", "none", "no") else text


def _names(fields: tuple[Field, ...]) -> str:
    return ", ".join(field.name for field in fields)


def _shape(value: Value) -> str:
    if isinstance(value, Table):
        return "a map"
    if isinstance(value, Items):
        return "a list"
    return "nothing" if value.kind == "null" else repr(value.value)
