"""What may stand under `triggers` in `fuyun.yaml`, kind by kind."""

from __future__ import annotations

from fuyun.client.brokerfields import BROKER_TRIGGERS
from fuyun.client.field import Field
from fuyun.domain.logtriggers import LogTrigger
from fuyun.domain.postgres import ROW_OPERATIONS, PostgresTrigger
from fuyun.domain.triggers import (
    Cors,
    HttpTrigger,
    ObjectsTrigger,
    Policy,
    QueueTrigger,
    StreamTrigger,
    TableTrigger,
    TimerTrigger,
    TopicTrigger,
)
from fuyun.domain.webhooks import SCHEMES, WebhookTrigger

SCHEME_NAMES = tuple(SCHEMES)
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

WEBHOOK_FIELDS = (
    Field("path", "text", "path on the gateway where others post", required=True),
    Field("scheme", "choice", "how what is posted is signed; default `github`", choices=SCHEME_NAMES),
    Field("secrets", "names", "names of secrets of the namespace, any of which signs", required=True),
    Field("header", "text", "of scheme `token`: the field that holds the token; default `Authorization: Bearer`"),
    Field("tolerance", "duration", "how far a signed time may be from ours; default 5m", "tolerance_s"),
    Field("remember", "duration", "how long what was posted is known again by its id; default 3d", "remember_s"),
    Field("raw", "flag", "whether data is always the very bytes that came, as `data_base64`; default false"),
    Field("alias", "text", "version or alias that serves it; default $LATEST"),
)

POSTGRES_FIELDS = (
    Field("secret", "text", "name of the secret with the database's address, `postgresql://USER:PASSWORD@HOST/NAME`",
          required=True),
    Field("tables", "names", "tables whose changes it gets, `SCHEMA.NAME`; the schema is public unless it is said",
          required=True),
    Field("operations", "names", "which changes; default insert, update and delete", choices=ROW_OPERATIONS),
    Field("publication", "text", "a publication that is there already; default: one is made"),
    Field("alias", "text", "version or alias that serves it; default $LATEST"),
)  # fmt: skip

LOG_FIELDS = (
    Field("function", "text", "whose lines it gets; default: all other functions of the namespace"),
    Field("contains", "text", "what must stand in a line"),
    Field("pattern", "text", "a regular expression, as RE2 has them, that must match somewhere in a line"),
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
    Field("webhook", "object", "calls the function with what other systems post", fields=WEBHOOK_FIELDS),
    Field("postgres", "object", "calls the function with changes of tables of a PostgreSQL", fields=POSTGRES_FIELDS),
    Field("log", "object", "calls the function with lines that other functions log", fields=LOG_FIELDS),
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
    Field(
        "start",
        "text",
        "where a new trigger begins: start, end, or a time; of redis also id:ID, of nats sequence:NUMBER; where the "
        "source keeps its past",
    ),
    Field("dead_letter", "text", "target of events that are given up; default: the function's `async.on_failure`"),
)
TRIGGER_NAME = Field("name", "text", "what tells it from the others; default: its kind")

#: Struct each table must fit; a test compares them.
TRIGGER_STRUCTS = {
    HTTP_FIELDS: HttpTrigger,
    TIMER_FIELDS: TimerTrigger,
    STREAM_FIELDS: StreamTrigger,
    TABLE_FIELDS: TableTrigger,
    QUEUE_FIELDS: QueueTrigger,
    TOPIC_FIELDS: TopicTrigger,
    OBJECTS_FIELDS: ObjectsTrigger,
    WEBHOOK_FIELDS: WebhookTrigger,
    POSTGRES_FIELDS: PostgresTrigger,
    LOG_FIELDS: LogTrigger,
    POLICY_FIELDS: Policy,
    CORS_FIELDS: Cors,
}
