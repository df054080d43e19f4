"""What may stand in `fuyun.yaml`: one table that the parser, the error messages and the JSON Schema are made from."""

from __future__ import annotations

from typing import Any

from fuyun.base.units import format_duration, format_size
from fuyun.client.brokerfields import BROKER_STRUCTS
from fuyun.client.field import Field
from fuyun.client.triggerfields import POLICY_FIELDS, TRIGGER_NAME, TRIGGER_STRUCTS, TRIGGERS
from fuyun.domain.functions import (
    Asynchronous,
    FunctionSpec,
    Hooks,
    Permissions,
    Provisioned,
    Readiness,
    WarmUp,
)
from fuyun.domain.runtimes import RUNTIMES

ASYNC_FIELDS = (
    Field("max_attempts", "integer", "attempts that may fail by the function's own fault; default 3"),
    Field("max_age", "duration", "how old an invocation may become until it is given up; default 6h", "max_age_s"),
    Field("on_success", "text", "target that is told of success: function:NAME, queue:NAME, topic:NAME, bus:NAME"),
    Field("on_failure", "text", "target that is told of what was given up"),
    Field("concurrency", "integer", "asynchronous invocations inside the function at once; default 10"),
)

NETWORK_FIELDS = (
    Field("allow", "names", "what may be reached: `HOST:PORT[/PROTOCOL]`, HOST an address, a network or a name",
          required=True),
)  # fmt: skip

PERMISSION_FIELDS = (
    Field("invoke", "names", "functions of the same namespace that it may call, by name; `*` for all"),
    Field("queues", "names", "queues that it may send to and receive from, by name; `*` for all"),
    Field("topics", "names", "topics that it may publish to, by name; `*` for all"),
    Field("streams", "names", "streams that it may append to and read, by name; `*` for all"),
    Field("tables", "names", "tables that it may read and change, by name; `*` for all"),
    Field("objects", "names", "buckets whose objects it may read and change, by name; `*` for all"),
    Field("buses", "names", "buses that it may publish to, by name; `*` for all"),
)

HOOK_FIELDS = (
    Field("handler", "text", "MODULE.CALLABLE to run; programs have none"),
    Field("timeout", "duration", "how long it may take"),
)

READINESS_FIELDS = (
    Field("path", "text", "path that is answered with a status below 400 once it is; default: that it listens"),
    Field("timeout", "duration", "how long its start may take", "timeout_s"),
)

WARM_UP_FIELDS = (
    Field("event", "json", "what the handler is called with"),
    Field("path", "text", "instead of an event: path that is fetched by GET"),
    Field("required", "flag", "whether the deployment fails when the call does; default true"),
)

PROVISIONED_FIELDS = (
    Field("schedule", "text", "when it begins, as in crontab: minute, hour, day, month, weekday", required=True),
    Field("duration", "duration", "how long it lasts", "duration_s", required=True),
    Field("instances", "integer", "instances kept warm meanwhile", required=True),
    Field("timezone", "text", "time zone of the schedule, such as Europe/Berlin; default UTC"),
)

FUNCTION_FIELDS = (
    Field("description", "text", "what it is for, in a sentence"),
    Field("runtime", "choice", "what runs the code; python3 is the newest one found, custom the executable bootstrap",
          choices=RUNTIMES),
    Field("handler", "text", "MODULE.CALLABLE, or MODULE:APP for a WSGI or ASGI application; of wasm the module's "
          "file; of java CLASS::METHOD; to other programs just a text"),
    Field("code", "folder", "folder with the code, relative to this file", default="."),
    Field(
        "requirements",
        "requirements",
        "requirements.txt or pyproject.toml relative to this file, a list of requirements, or false for none; "
        "default: the requirements.txt or pyproject.toml in the code folder, if there is one",
    ),
    Field("memory", "size", "memory limit of an instance; beyond it the kernel ends the instance", "memory_bytes"),
    Field("timeout", "duration", "longest run of one invocation", "timeout_s"),
    Field("concurrency", "integer", "requests one instance serves at once; default of web: 80"),
    Field("min_instances", "integer", "instances kept warm"),
    Field("provisioned", "objects", "times at which more instances are kept warm", fields=PROVISIONED_FIELDS),
    Field("max_instances", "integer", "instances at most"),
    Field("freeze_after", "duration", "idle time after which an instance gets no CPU; 0 never", "freeze_after_s"),
    Field("idle_timeout", "duration", "how long an idle instance is kept", "idle_timeout_s"),
    Field("cpu", "number", "cores an instance may use at most"),
    Field("pids", "integer", "processes and threads an instance may have"),
    Field("tmp", "size", "size of the private /tmp", "tmp_bytes"),
    Field("payload", "size", "largest request body", "payload_bytes"),
    Field("output", "size", "largest buffered answer; streamed answers are not limited", "output_bytes"),
    Field("log", "size", "log text kept of one invocation", "log_bytes"),
    Field("isolation", "choice", "`sandbox`; `oci:RUNTIME` for an OCI runtime's; `process` for none at all",
          choices=("sandbox", "process", "oci:crun", "oci:runc", "oci:runsc", "oci:kata")),
    Field(
        "network", "network", "what it may reach: `none`, `internet` (public addresses), or `allow:` with a list of "
        "10.0.0.0/8:5432, 192.0.2.7:53/udp, api.example.com:443",
        choices=("none", "internet"), fields=NETWORK_FIELDS,
    ),
    Field("permissions", "object", "what it may ask of the platform at `FUYUN_ENDPOINT`", fields=PERMISSION_FIELDS),
    Field("async", "object", "what becomes of asynchronous invocations", "asynchronous", fields=ASYNC_FIELDS),
    Field("start", "choice", "how instances start; `auto` decides by what the import did",
          choices=("auto", "template", "blank", "plain")),
    Field("env", "mapping", "environment variables"),
    Field("secrets", "secrets", "secrets as environment variables: names, or ENV_NAME: secret-name"),
    Field("layers", "names", "layers mounted read-only, searched in this order: NAME:NUMBER, or NAME for the newest"),
    Field("image", "text", "runtime image: ./FOLDER (an OCI layout), ./ARCHIVE, or REGISTRY/NAME:TAG"),
    Field("protocol", "choice", "runtime image: the runtime its program is made for", choices=("web", "custom")),
    Field("command", "text", "runtime web: the command that starts the server; default: the executable `bootstrap`"),
    Field("readiness", "object", "runtime web: when the server is ready", fields=READINESS_FIELDS),
    Field("warm_up", "object", "a call made before a version takes traffic", fields=WARM_UP_FIELDS),
    Field("initializer", "hook", "run once when an instance starts", fields=HOOK_FIELDS),
    Field("pre_freeze", "hook", "run before an idle instance is frozen", fields=HOOK_FIELDS),
    Field("pre_stop", "hook", "run before an instance ends", fields=HOOK_FIELDS),
    Field("tags", "mapping", "labels for people and tools"),
    Field("triggers", "triggers", "what calls the function besides `fuyun invoke`", fields=TRIGGERS),
)  # fmt: skip

STAGE_FIELDS = (
    Field("namespace", "text", "namespace of this stage"),
    Field("functions", "functions", "what this stage changes, by function", fields=FUNCTION_FIELDS),
)

PROJECT_FIELDS = (
    Field("name", "text", "name of the project", required=True),
    Field("namespace", "text", "namespace to deploy to; default: the one of your configuration"),
    Field("functions", "functions", "the functions, by name", fields=FUNCTION_FIELDS, required=True),
    Field("stages", "stages", "overrides by stage; chosen by `fuyun deploy --stage NAME`", fields=STAGE_FIELDS),
)

_NAME = "^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"
_REFERENCE = {"type": "string", "pattern": r"\$\{"}
_SIZE = {"type": ["string", "integer"], "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*([kKmMgGtT]i?)?[bB]?\s*$|\$\{"}
_DURATION = {"type": ["string", "number"], "pattern": r"^\s*([0-9]+(\.[0-9]+)?\s*(ms|s|m|h|d|w)?\s*)+$|\$\{"}
_SCALAR = {"type": ["string", "number", "boolean"]}


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the project file, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "fuyun.yaml",
        "description": "A Fuyun project. Values may hold ${env:NAME}, ${env:NAME:-default} and ${stage}.",
        **_object(PROJECT_FIELDS, extensions=True),
        "$defs": {
            "function": _object(FUNCTION_FIELDS, defaults=_defaults()),
            "function-override": _object(FUNCTION_FIELDS, nullable=True),
        },
    }


def _defaults() -> dict[str, Any]:
    spec = FunctionSpec()
    found: dict[str, Any] = {}
    for field in FUNCTION_FIELDS:
        if field.kind in ("hook", "object") or not hasattr(spec, field.attribute):
            continue
        value = getattr(spec, field.attribute)
        if field.kind == "size":
            value = format_size(value)
        elif field.kind == "duration":
            value = format_duration(value)
        found[field.name] = list(value) if isinstance(value, tuple) else value
    return found


def default_text(field: Field) -> str:
    """The default of a function's field as it would be written, "" when there is none."""
    value = _defaults().get(field.name, field.default)
    return "" if value in (None, "", {}, [], ()) else str(value)


def _object(
    fields: tuple[Field, ...],
    *,
    extensions: bool = False,
    nullable: bool = False,
    defaults: dict[str, Any] | None = None,
) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for field in fields:
        schema = _schema(field)
        if nullable:
            schema = {"anyOf": [schema, {"type": "null"}]}
        default = (defaults or {}).get(field.name, field.default)
        properties[field.name] = {"description": field.doc, **schema} | (
            {} if default is None else {"default": default}
        )
    found: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    if extensions:
        found["patternProperties"] = {"^x-": {}}
    required = [field.name for field in fields if field.required]
    if required and not nullable:
        found["required"] = required
    return found


def _schema(field: Field) -> dict[str, Any]:
    item: dict[str, Any] = {"type": "string"}
    if field.choices and field.kind == "names":
        item = {"enum": list(field.choices)}
    simple: dict[str, dict[str, Any]] = {
        "text": {"type": "string"},
        "flag": {"anyOf": [{"type": "boolean"}, _REFERENCE]},
        "size": _SIZE,
        "duration": _DURATION,
        "integer": {"anyOf": [{"type": "integer"}, _REFERENCE]},
        "number": {"anyOf": [{"type": "number"}, _REFERENCE]},
        "names": {"type": "array", "items": item},
        "mapping": {"type": "object", "additionalProperties": _SCALAR},
        "choice": {"anyOf": [{"enum": list(field.choices)}, _REFERENCE]},
        "folder": {"type": "string"},
        "json": {},
        "requirements": {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, {"const": False}]
        },
        "secrets": {
            "anyOf": [
                {"type": "array", "items": {"type": "string"}},
                {"type": "object", "additionalProperties": {"type": "string"}},
            ]
        },
    }
    if field.kind in simple:
        return simple[field.kind]
    if field.kind == "network":
        return {"anyOf": [{"enum": list(field.choices)}, _REFERENCE, _object(field.fields)]}
    if field.kind == "hook":
        return {"anyOf": [{"type": "string"}, _object(field.fields)]}
    if field.kind == "switch":
        return {"anyOf": [{"type": "boolean"}, _object(field.fields)]}
    if field.kind == "triggers":
        item = _object((TRIGGER_NAME, *field.fields, *POLICY_FIELDS))
        return {"type": "array", "items": {**item, "oneOf": [{"required": [kind.name]} for kind in field.fields]}}
    if field.kind == "objects":
        return {"type": "array", "items": _object(field.fields)}
    if field.kind == "object":
        return _object(field.fields)
    if field.kind == "stages":
        stage = _object(STAGE_FIELDS)
        names = {"$ref": "#/$defs/function-override"}
        stage["properties"]["functions"]["additionalProperties"] = names
        return {"type": "object", "propertyNames": {"pattern": _NAME}, "additionalProperties": stage}
    return {"type": "object", "propertyNames": {"pattern": _NAME}, "additionalProperties": {"$ref": "#/$defs/function"}}


#: Struct each table must fit; a test compares them.
STRUCTS = {
    **TRIGGER_STRUCTS,
    FUNCTION_FIELDS: FunctionSpec,
    **BROKER_STRUCTS,
    ASYNC_FIELDS: Asynchronous,
    PROVISIONED_FIELDS: Provisioned,
    READINESS_FIELDS: Readiness,
    WARM_UP_FIELDS: WarmUp,
    PERMISSION_FIELDS: Permissions,
}
HOOKS = tuple(name for name in Hooks.__struct_fields__ if not name.endswith("_s"))
