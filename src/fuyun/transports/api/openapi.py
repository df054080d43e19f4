"""The OpenAPI 3.1 document, generated from the rows that are served.

`python -m fuyun.transports.api.openapi` prints it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any

import msgspec

import fuyun
from fuyun.domain.errors import (
    BadRequest,
    Forbidden,
    FuyunError,
    Internal,
    NotAcceptable,
    PayloadTooLarge,
    RequestTimedOut,
    Unauthenticated,
    Unavailable,
)
from fuyun.transports.api.table import HEADERS, JSON, NDJSON, PATH_PARAMS, ZIP, Endpoint, Success
from fuyun.transports.web.problems import PROBLEM
from fuyun.transports.web.statuses import status_of

Json = dict[str, Any]

PROBLEM_SCHEMA: Json = {
    "title": "Problem",
    "description": "Problem details (RFC 9457). An error's own fields stand beside these.",
    "type": "object",
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "stable code of the error"},
        "detail": {"type": "string", "description": "what happened to what, and what was found"},
        "hint": {"type": "string", "description": "what to do next"},
        "request_id": {"type": "string", "description": "leads to the platform's log"},
    },
    "required": ["type", "title", "status", "code", "detail", "hint", "request_id"],
    "additionalProperties": True,
}

REQUEST_HEADERS = {
    "If-Match": 'do it only when the current revision is this one: `"3"`, or `*` for any',
    "If-None-Match": 'do it only when there is none yet (`*`); reading: answer 304 when the revision is still `"3"`',
    "Accept": "application/x-ndjson streams one JSON object a line",
    "Fuyun-Invocation-Type": "`async` answers 202 as soon as the invocation is on the disk; default `sync`",
    "Fuyun-Idempotency-Key": "1 to 200 characters; the same key within a day is the same asynchronous invocation",
    "Fuyun-Delay": "run an asynchronous invocation not before so long, as 90s or 2h",
    "Fuyun-Schedule-At": "run it not before this time, as RFC 3339 or seconds since the epoch",
}


#: Schemas of bodies that are no JSON.
#: Of permissions that do not ask for a key.
_SECURITY: dict[str, list[Json]] = {"open": [], "offered": [{}, {"key": []}]}
_RAW: dict[str, Json] = {ZIP: {"type": "string", "format": "binary"}}


def implied_errors(endpoint: Endpoint) -> Iterator[type[FuyunError]]:
    """The errors that follow from a row's path, query, body and permission, and those it names itself."""
    yield Internal
    if endpoint.names or endpoint.query is not None or endpoint.has_body:
        yield BadRequest
    if endpoint.permission.where != "open":
        yield Unauthenticated
        yield Unavailable  # the store is closed or held by another process
    if endpoint.permission.where in ("namespace", "platform"):
        yield Forbidden
    if endpoint.has_body:
        yield NotAcceptable
        yield PayloadTooLarge
        yield RequestTimedOut
    yield from endpoint.errors


def document(endpoints: Sequence[Endpoint]) -> Json:
    """The whole document."""
    types = list(_types(endpoints))
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    schema_of = {id(kind): schema for kind, schema in zip(types, schemas, strict=True)}
    paths: dict[str, Json] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, schema_of, components)
    for endpoint in endpoints:
        if endpoint.query is not None:  # stands as parameters, not as a body
            components.pop(_name_of(schema_of[id(endpoint.query)]), None)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Fuyun control API",
            "version": fuyun.__version__,
            "description": "Namespaces, functions, versions, aliases, invocations, logs. Errors are problem details.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(endpoint.tag for endpoint in endpoints)],
        "paths": paths,
        "components": {
            "schemas": {"Problem": PROBLEM_SCHEMA, **components},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "a key, fk_..."}},
        },
    }


def _name_of(reference: Json) -> str:
    return str(reference["$ref"]).rpartition("/")[2]


def _types(endpoints: Sequence[Endpoint]) -> Iterator[Any]:
    seen: set[int] = set()
    for endpoint in endpoints:
        bodies = [success.body for success in endpoint.successes] + [success.stream for success in endpoint.successes]
        for kind in (endpoint.query, endpoint.request, *bodies):
            if kind is not None and id(kind) not in seen:
                seen.add(id(kind))
                yield kind


def _operation(endpoint: Endpoint, schema_of: dict[int, Json], components: dict[str, Json]) -> Json:
    operation: Json = {
        "operationId": endpoint.operation_id,
        "summary": endpoint.summary,
        "tags": [endpoint.tag],
        "parameters": list(_parameters(endpoint, schema_of, components)),
        "responses": _responses(endpoint, schema_of),
        "security": _SECURITY.get(endpoint.permission.where, [{"key": []}]),
    }
    if endpoint.permission.action:
        operation["description"] = f"Needs a key that may {endpoint.permission.action}" + (
            " in the namespace." if endpoint.permission.where == "namespace" else " on the whole platform."
        )
    if endpoint.has_body:
        schema = (
            schema_of[id(endpoint.request)] if endpoint.request is not None else _RAW.get(endpoint.request_media, {})
        )
        required = endpoint.request is not None or endpoint.request_media != JSON
        operation["requestBody"] = {"required": required, "content": {endpoint.request_media: {"schema": schema}}}
    return operation


def _parameters(endpoint: Endpoint, schema_of: dict[int, Json], components: dict[str, Json]) -> Iterator[Json]:
    for name in endpoint.names:
        param = PATH_PARAMS[name]
        schema = {"type": "string", "pattern": f"^(?:{param.pattern})$"}
        text = param.description
        yield {
            "name": name,
            "in": "path",
            "required": True,
            "schema": schema,
            "description": text,
            "example": param.example,
        }
    if endpoint.query is not None:
        query = components[_name_of(schema_of[id(endpoint.query)])]
        properties, required = query["properties"], query.get("required", ())
        for name, schema in properties.items():
            inner = {key: value for key, value in schema.items() if key != "description"}
            yield {"name": name, "in": "query", "required": name in required, "schema": inner,
                   "description": schema.get("description", "")}  # fmt: skip
    for name in endpoint.request_headers:
        yield {"name": name, "in": "header", "required": False, "schema": {"type": "string"},
               "description": REQUEST_HEADERS[name]}  # fmt: skip


def _responses(endpoint: Endpoint, schema_of: dict[int, Json]) -> Json:
    responses: Json = {}
    for success in endpoint.successes:
        responses[str(success.status)] = _success(success, schema_of)
    for status in sorted({status_of(error) for error in implied_errors(endpoint)}):
        if str(status) in responses:
            raise ValueError(f"{endpoint.operation_id} has status {status} both as an error and as a success")
        codes = sorted({error.code for error in implied_errors(endpoint) if status_of(error) == status})
        names = ("Retry-After",) if status in (429, 503) else ()
        responses[str(status)] = {
            "description": f"{HTTPStatus(status).phrase}: {', '.join(codes)}",
            "headers": _headers(names),
            "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    return responses


def _success(success: Success, schema_of: dict[int, Json]) -> Json:
    answer: Json = {"description": success.description, "headers": _headers(success.headers)}
    if success.status in (204, 304):
        return answer
    content: Json = {}
    for media in success.media:
        kind = success.stream if media == NDJSON else success.body
        content[media] = {"schema": schema_of[id(kind)] if kind is not None and media != NDJSON else {}}
        if media == NDJSON and kind is not None:
            content[media]["schema"] = {"type": "string", "description": "one JSON object a line"}
            content[media]["x-line-schema"] = schema_of[id(kind)]
    answer["content"] = content
    return answer


def _headers(names: Sequence[str]) -> Json:
    described = {"Fuyun-Request-Id": "id of this request", **{name: HEADERS[name] for name in names}}
    return {name: {"description": text, "schema": {"type": "string"}} for name, text in described.items()}


def page() -> str:
    """The document as `docs/reference/openapi.json` holds it."""
    from fuyun.transports.api.app import ENDPOINTS

    return json.dumps(document(ENDPOINTS), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
