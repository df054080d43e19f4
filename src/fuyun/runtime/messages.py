"""What an order to the warden must hold; anything else is refused before a step of it is taken.

The platform is trusted, but what it passes on began as a stranger's: paths, names, numbers. The warden is the last that
can tell a wrong one, and must outlive it.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

#: Names a control group, among others.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
_MODES = ("ro", "rw", "dev")


class Malformed(ValueError):
    """No order; `str()` says which field is wrong, and how."""


def _is_id(value: object) -> bool:
    return type(value) is str and _ID.match(value) is not None and ".." not in value


def _is_text(value: object) -> bool:
    return type(value) is str and "\0" not in value


def _is_flag(value: object) -> bool:
    return type(value) is bool


def _is_object(value: object) -> bool:
    return type(value) is dict


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_path(value: object) -> bool:
    return _is_text(value) and str(value).startswith("/") and ".." not in str(value).split("/")


def _is_command(value: object) -> bool:
    return type(value) is list and bool(value) and all(map(_is_text, value))


def _is_environment(value: object) -> bool:
    return type(value) is dict and all(_is_text(one) for pair in value.items() for one in pair)


def _is_limits(value: object) -> bool:
    if type(value) is not dict or not {"memory", "cpu", "pids"} <= set(value):
        return False
    cpu = value["cpu"]
    whole = _is_size(value["memory"]) and _is_size(value["pids"]) and value["pids"] > 0
    return whole and type(cpu) in (int, float) and 0 < cpu < 100_000


def _is_plan(value: object) -> bool:
    if type(value) is not dict or not set(value) >= _PLAN:
        return False
    lists = all(type(value[name]) is list for name in ("binds", "links", "folders", "closed"))
    return (
        lists
        and all(
            type(one) is list and len(one) == 3 and _is_path(one[0]) and _is_path(one[1]) and one[2] in _MODES
            for one in value["binds"]
        )
        and all(type(one) is list and len(one) == 2 and _is_text(one[0]) and _is_path(one[1]) for one in value["links"])
        and all(map(_is_path, [*value["folders"], *value["closed"]]))
        and _is_environment(value["files"])
        and all(map(_is_path, value["files"]))
        and _is_flag(value["network"])
        and _is_size(value["tmp_bytes"])
    )


def _is_plan_or_none(value: object) -> bool:
    return value is None or _is_plan(value)


def _is_link_or_none(value: object) -> bool:
    if type(value) is not dict:
        return value is None
    port = value.get("listen", 1)
    linked = set(value) != {"listen"}
    return (
        type(port) is int
        and 0 < port < 65536
        and (
            not linked
            or (
                all(type(value.get(name)) is int and 0 <= value[name] < 2**32 for name in ("slot", "group"))
                and _is_text(value.get("address"))
            )
        )
    )


_PLAN = {"binds", "links", "folders", "closed", "files", "network", "tmp_bytes"}
#: op: how many descriptors it passes at least, and what its fields must be.
_ORDERS: dict[str, tuple[int, dict[str, Callable[[object], bool]]]] = {
    "zygote": (0, {"plan": _is_plan_or_none, "options": _is_object, "argv": _is_command, "path": _is_text,
                   "env": _is_environment}),
    "spawn": (2, {"zygote": _is_id, "limits": _is_limits}),
    "fork": (2, {"template": _is_id, "limits": _is_limits, "tmp_bytes": _is_size, "task": _is_object}),
    "limits": (0, {"limits": _is_limits}),
    "run": (1, {"plan": _is_plan_or_none, "argv": _is_command, "env": _is_environment, "cwd": _is_path,
                "limits": _is_limits}),
    "gate": (1, {}),
    "freeze": (0, {"frozen": _is_flag}),
    "kill": (0, {}),
    "stats": (0, {}),
}  # fmt: skip
#: Fields that orders may have.
_OPTIONAL = {"network": _is_link_or_none, "code": _is_path}
#: Those that make a process, and so need an id that nothing has.
_MAKERS = ("zygote", "spawn", "fork", "run")


def check(message: dict[str, Any], passed: int, known: Callable[[str], bool]) -> None:
    """Malformed unless it is an order as the warden's docstring lists them, with at least its number of descriptors.
    `known(id)` says whether a process has that id. Fields beyond those are let through."""
    op = message.get("op")
    if type(op) is not str or op not in _ORDERS:
        raise Malformed(f"op is {op!r:.80}, not one of {', '.join(sorted(_ORDERS))}")
    if not _is_id(message.get("id")):
        raise Malformed(f"{op}: id is {message.get('id')!r:.80}, not 1 to 64 letters, digits and _.-")
    least, fields = _ORDERS[op]
    for name, right in fields.items():
        if name not in message:
            raise Malformed(f"{op}: {name} is missing")
        if not right(message[name]):
            raise Malformed(f"{op}: {name} is {message[name]!r:.200}")
    for name, right in _OPTIONAL.items():
        if name in message and not right(message[name]):
            raise Malformed(f"{op}: {name} is {message[name]!r:.200}")
    if passed < least:
        raise Malformed(f"{op}: {passed} descriptors, it needs {least}")
    if op in _MAKERS and known(message["id"]):
        raise Malformed(f"{op}: {message['id']} is another process's id")
    for name in ("zygote", "template"):
        if name in fields and not known(message[name]):
            raise ProcessLookupError(3, f"{name} {message[name]} is not there any more")
