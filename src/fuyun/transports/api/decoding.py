"""From bytes and query strings to structs; what does not fit is told where, and what would."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import inspect
from starlette.requests import Request

from fuyun.domain.errors import BadRequest, NotAcceptable
from fuyun.domain.names import nearest


def check_media(request: Request, wanted: str) -> None:
    """NotAcceptable (415) unless the request's body says it is `wanted`; a request that says nothing passes, and where
    anything is wanted (`*/*`) every request."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given and wanted not in (given, "*/*"):
        raise NotAcceptable(f"the body is {given!r}, this route takes {wanted}", hint=f"send content-type: {wanted}")


def decode_json(data: bytes, kind: Any) -> Any:
    """`data` as `kind`, else BadRequest that names the place and, for an unknown field, the nearest known one."""
    if not data:
        raise BadRequest("the request has no body", hint="send a JSON object")
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as exc:
        raise _invalid(str(exc), "body", kind) from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise BadRequest(f"the body is not JSON: {exc}", hint="send UTF-8 encoded JSON") from exc


def decode_query(request: Request, kind: Any) -> Any:
    """The query string as `kind`, else BadRequest. Each parameter may stand once."""
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in found:
            raise BadRequest(f"query parameter {name!r} stands twice", hint="give it once", path=name)
        found[name] = value
    try:
        return msgspec.convert(found, kind, strict=False)
    except msgspec.ValidationError as exc:
        raise _invalid(str(exc), "query", kind) from exc


def _invalid(text: str, where: str, kind: Any) -> BadRequest:
    """The error for a value that msgspec refused with `text`, such as "Expected `int`, got `str` - at `$.limit`"."""
    message, _, place = text.partition(" - at `$")
    path = place.rstrip("`").lstrip(".")
    hint = f"see /v1/openapi.json for what the {where} may hold"
    if "unknown field `" in message:
        name = message.split("`")[1]
        known = _fields(kind, path)
        close = nearest(name, known)
        path = f"{path}.{name}" if path else name
        message = f"unknown field {name!r}"
        if close or known:
            hint = f"did you mean {close!r}?" if close else f"known fields: {', '.join(known)}"
    return BadRequest(f"{where}: {message}" + (f" at {path}" if path else ""), hint=hint, path=path)


def _fields(kind: Any, path: str) -> list[str]:
    """Names of the fields of the struct at `path` (`spec.triggers[0].http`) below `kind`."""
    found: Any = inspect.type_info(kind)
    for step in filter(None, path.replace("[", ".[").split(".")):
        found = _below(found, step)
    struct = next((option for option in _options(found) if isinstance(option, inspect.StructType)), None)
    return [] if struct is None else [field.encode_name for field in struct.fields]


def _below(kind: Any, step: str) -> Any:
    for option in _options(kind):
        if step.startswith("["):
            inner = getattr(option, "item_type", None) or getattr(option, "value_type", None)
            if inner is not None:
                return inner
        elif isinstance(option, inspect.StructType):
            for field in option.fields:
                if field.encode_name == step:
                    return field.type
    return None


def _options(kind: Any) -> tuple[Any, ...]:
    return kind.types if isinstance(kind, inspect.UnionType) else (kind,)
