"""What may stand in `fuyun.yaml`: one table that the parser, the error messages and the JSON Schema are made from."""

from __future__ import annotations

from typing import Any

from fuyun.base.units import format_duration, format_size
from fuyun.client.brokerfields import BROKER_STRUCTS, BROKER_TRIGGERS
from fuyun.client.field import Field
from fuyun.domain.functions import (
    Asynchronous,
    Cors,
    FunctionSpec,
    Hooks,
    HttpTrigger,
    Permissions,
    Provisioned,
    Readiness,
    WarmUp,
)
from fuyun.domain.runtimes import RUNTIMES
from fuyun.domain.triggers import Policy, QueueTrigger, StreamTrigger, TableTrigger, TimerTrigger, TopicTrigger

METHODS = ("ANY", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

CORS_FIELDS = (
    Field("allow_origins", "names", "origins that may call; `*` is any"),
    Field("allow_methods", "names", "methods that may be used; `*` is any"),
    Field("allow_headers", "names", "request headers that may be sent; `*` is any"),
    Field("expose_headers", "names", "response headers a page may read"),
    Field("allow_credentials", "flag", "whether cookies and authorization may be sent along"),
    Field("max_age", "duration", "how long a browser may remember the answer to a preflight", "max_age_s"),
)

HTTP_FIELDS = (
    Field("path", "text", "path on the gateway; ends in `/*` to take everything below it", required=True),
    Field("methods", "names", "methods it takes; ANY is all of them", choices=METHODS),
    Field("auth", "choice", "`key` asks for a Fuyun key, `public` opens it to everyone", choices=("key", "public")),
    Field("cors", "switch", "cross-origin rules; `true` lets any origin in", fields=CORS_FIELDS),
    Field("alias", "text", "version or alias that serves it; default $LATEST"),
)

TIMER_FIELDS = (
    Field("cron", "text", "when, as in crontab: minute, hour, day, month, weekday"),
    Field("zone", "text", "time zone of `cron`, such as Europe/Berlin; default UTC"),
    Field("every", "duration", "instead: how often", "every_s"),
    Field("at", "text", "instead: once, at this time, as 2026-12-24T18:00:00+01:00"),
    Field("missed", "choice", "what becomes of times that passed while nothing could run; default `last`: the last one",
          choices=("skip", "last", "all")),
    Field("payload", "json", "data of the event"),
    Field("alias", "text", "version or alias that serves it; default $LATEST"),
)  # fmt: skip

STREAM_FIELDS = (
    Field("stream", "text", "the stream whose records it gets, as a JSON array of events", required=True),
    Field("alias", "text", "version or alias that serves it; default $LATEST"),
)

TABLE_FIELDS = (
    Field("table", "text", "the table whose changes it gets, as a JSON array of events", required=True),
    Field("alias", "text", "version or alias that serves it; default $LATEST"),
)

QUEUE_FIELDS = (
    Field("queue", "text", "the queue whose messages it gets, as a JSON array of events", required=True),
    Field("alias", "text", "version or alias that serves it; default $LATEST"),
)

TOPIC_FIELDS = (
    Field("topic", "text", "the topic whose events it gets, one by one", required=True),
    Field("alias", "text", "version or alias that serves it; default $LATEST"),
)

OBJECTS_FIELDS = (
    Field("bucket", "text", "the bucket whose objects' events it gets, one by one", required=True),
    Field("prefix", "text", "how keys begin; default: any"),
    Field("suffix", "text", "how keys end; default: any"),
    Field("events", "names", "what happens to objects; default `created`", choices=("created", "deleted")),
    Field("alias", "text", "version or alias that serves it; default $LATEST"),
)

#: Trigger kinds by name.
TRIGGERS = (
    Field("http", "object", "binds a path of the gateway to the function", fields=HTTP_FIELDS),
    Field("timer", "object", "calls the function at times", fields=TIMER_FIELDS),
    Field("stream", "object", "calls the function with records of a stream", fields=STREAM_FIELDS),
    Field("table", "object", "calls the function with changes of a table", fields=TABLE_FIELDS),
    Field("queue", "object", "calls the function with messages of a queue", fields=QUEUE_FIELDS),
    Field("topic", "object", "calls the function with what is published to a topic", fields=TOPIC_FIELDS),
    Field("objects", "object", "calls the function with what happens to objects", fields=OBJECTS_FIELDS),
    *BROKER_TRIGGERS,
)

#: What every trigger may have beside its kind.
POLICY_FIELDS = (
    Field("filter", "json", "which events it takes, in the filter language; default all"),
    Field("batch", "integer", "events handed over together at most, where the source has batches", "batch_size"),
    Field("window", "duration", "how long a batch that is not full may wait for more", "batch_window_s"),
    Field("parallelism", "integer", "batches inside the function at once; of a stream, per partition"),
    Field("max_attempts", "integer", "attempts that may fail by the function's own fault"),
    Field("max_age", "duration", "how old an event may become until it is given up", "max_age_s"),
    Field("bisect", "flag", "whether a batch that fails is halved until what fails stands alone"),
    Field("start", "text", "where a new trigger begins: start, end, or a time; of redis also id:ID, of nats "
          "sequence:NUMBER; where the source keeps its past"),
    Field("dead_letter", "text", "target of events that are given up; default: the function's `async.on_failure`"),
)  # fmt: skip
TRIGGER_NAME = Field("name", "text", "what tells it from the others; default: its kind")

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
    FUNCTION_FIELDS: FunctionSpec,
    HTTP_FIELDS: HttpTrigger,
    TIMER_FIELDS: TimerTrigger,
    STREAM_FIELDS: StreamTrigger,
    TABLE_FIELDS: TableTrigger,
    QUEUE_FIELDS: QueueTrigger,
    TOPIC_FIELDS: TopicTrigger,
    **BROKER_STRUCTS,
    POLICY_FIELDS: Policy,
    ASYNC_FIELDS: Asynchronous,
    CORS_FIELDS: Cors,
    PROVISIONED_FIELDS: Provisioned,
    READINESS_FIELDS: Readiness,
    WARM_UP_FIELDS: WarmUp,
    PERMISSION_FIELDS: Permissions,
}
HOOKS = tuple(name for name in Hooks.__struct_fields__ if not name.endswith("_s"))
