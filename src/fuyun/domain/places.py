"""What is wrong with a document, told with its place in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fuyun.base.units import format_duration
from fuyun.domain.errors import BadRequest
from fuyun.domain.names import check_qualifier


def require(ok: bool, path: str, detail: str, hint: str) -> None:
    """BadRequest about the place `path` unless `ok`."""
    if not ok:
        raise BadRequest(f"{path}: {detail}", hint=hint, path=path)


def checked(path: str, check: Callable[[Any], object], value: Any) -> None:
    """`check(value)`, its refusal told with the place."""
    try:
        check(value)
    except BadRequest as exc:
        raise BadRequest(f"{path}: {exc.detail}", hint=exc.hint, path=path) from exc


def check_seconds(path: str, seconds: float, low_s: float, high_s: float) -> None:
    """BadRequest unless `seconds` is from `low_s` to `high_s`."""
    require(
        low_s <= seconds <= high_s, path, f"{seconds:g} s is out of range",
        f"use {format_duration(low_s)} to {format_duration(high_s)}",
    )  # fmt: skip


def check_alias(path: str, alias: str) -> None:
    """BadRequest unless `alias` is empty or a qualifier."""
    if alias:
        try:
            check_qualifier(alias)
        except BadRequest as exc:
            raise BadRequest(f"{path}: {exc.detail}", hint="name an alias or a version", path=path) from exc
