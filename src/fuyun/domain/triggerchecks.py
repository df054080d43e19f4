"""The rules that valid triggers keep, by kind."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from fuyun.base.units import format_duration
from fuyun.domain.brokers import MOST_THING, SCHEMES, address_of
from fuyun.domain.errors import BadRequest
from fuyun.domain.events import target_of
from fuyun.domain.filters import read_filter
from fuyun.domain.logtriggers import LogTrigger, check_log
from fuyun.domain.names import check_name, check_secret_name
from fuyun.domain.objects import check_bucket
from fuyun.domain.places import check_alias, check_seconds, checked, require
from fuyun.domain.postgres import PostgresTrigger, check_postgres
from fuyun.domain.schedules import check_schedule, check_timezone
from fuyun.domain.triggers import (
    KINDS,
    BrokerTrigger,
    HttpTrigger,
    MqttTrigger,
    NatsTrigger,
    ObjectsTrigger,
    Policy,
    QueueTrigger,
    RabbitmqTrigger,
    RedisTrigger,
    StreamTrigger,
    TableTrigger,
    TimerTrigger,
    TopicTrigger,
    Trigger,
    named,
)
from fuyun.domain.webhooks import MOST_SECRETS, WebhookTrigger, check_header

_PATH = re.compile(r"/[^\s?#\x00-\x1f\x7f]*")
_METHOD = re.compile(r"[A-Za-z]{1,20}")
#: Bytes of a timer's payload; it is part of the version.
_PAYLOAD_BYTES = 64 * 1024
#: A timer fires once a second at most.
_LEAST_EVERY_S, _MOST_EVERY_S = 1.0, 366 * 86400.0
MOST_TRIGGERS = 100
#: Kinds whose source keeps no past that a new trigger could begin in.
_FROM_NOW = ("postgres", "log")
#: Places to begin at beside start, end and times, by kind.
_PLACES = (("redis", re.compile(r"id:[0-9]{1,19}(-[0-9]{1,19})?")), ("nats", re.compile(r"sequence:[1-9][0-9]{0,18}")))
_NATS_NAME = re.compile(r"[^\s.*>/\\]*")


def check_triggers(triggers: tuple[Trigger, ...]) -> None:
    """BadRequest naming the first that is wrong, and how."""
    require(len(triggers) <= MOST_TRIGGERS, "triggers", f"{len(triggers)} triggers", f"use up to {MOST_TRIGGERS}")
    for index, trigger in enumerate(triggers):
        path = f"triggers[{index}]"
        kinds = [kind for kind in KINDS if getattr(trigger, kind) is not None]
        require(bool(kinds), path, "the trigger has no kind", f"add one of {', '.join(KINDS)}")
        require(len(kinds) == 1, path, f"the trigger has several kinds: {', '.join(kinds)}", "write one for each")
        if trigger.name:
            checked(f"{path}.name", lambda name: check_name("trigger", name), trigger.name)
        _CHECKS[kinds[0]](f"{path}.{kinds[0]}", getattr(trigger, kinds[0]))
        _check_policy(path, trigger.policy)
        _check_start(path, trigger)
    named(triggers)


def check_target(path: str, text: str) -> None:
    """BadRequest unless `text` is empty or names a target."""
    if text:
        checked(path, target_of, text)


def _check_policy(path: str, policy: Policy) -> None:
    if policy.filter is not None:
        checked(f"{path}.filter", read_filter, policy.filter)
    for name, value, low, high in (
        ("batch", policy.batch_size, 1, 10_000), ("parallelism", policy.parallelism, 1, 1000),
        ("max_attempts", policy.max_attempts, 1, 100),
    ):  # fmt: skip
        require(low <= value <= high, f"{path}.{name}", f"{value} is out of range", f"use {low} to {high}")
    for name, seconds, most in (("window", policy.batch_window_s, 300.0), ("max_age", policy.max_age_s, 14 * 86400.0)):
        require(
            0 <= seconds <= most,
            f"{path}.{name}",
            f"{seconds:g} s is out of range",
            f"use up to {format_duration(most)}",
        )
    check_target(f"{path}.dead_letter", policy.dead_letter)


def _check_start(path: str, trigger: Trigger) -> None:
    """Where it begins, if its source keeps a past at all."""
    start, kind = trigger.policy.start, trigger.kind
    require(
        start == "end" or kind not in _FROM_NOW, f"{path}.start",
        f"{start!r}: a trigger of kind {kind} begins when it is deployed", "leave start out",
    )  # fmt: skip
    keeps = kind not in ("rabbitmq", "mqtt") and not (trigger.redis is not None and trigger.redis.list)
    require(
        start == "end" or keeps, f"{path}.start", f"{start!r}, but the source of a {kind} trigger keeps no past",
        "leave it out: it begins with what is waiting",
    )  # fmt: skip
    if start in ("start", "end") or any(kind == only and form.fullmatch(start) for only, form in _PLACES):
        return
    checked(f"{path}.start", moment_s, start)


def moment_s(text: str) -> float:
    """A time as RFC 3339, in seconds since the epoch. BadRequest."""
    try:
        found = datetime.fromisoformat(text.strip())
        if found.tzinfo is None:
            raise ValueError("it has no zone")
        return found.timestamp()
    except (ValueError, OverflowError) as exc:
        raise BadRequest(f"{text[:64]!r} is no time: {exc}", hint="write 2026-12-24T18:00:00+01:00") from exc


def _check_path(path: str, text: str) -> None:
    require(
        _PATH.fullmatch(text) is not None and not text.startswith("/fn/"),
        f"{path}.path",
        f"{text!r} cannot be a trigger path",
        "start it with /, keep out of /fn/, and write spaces, ? and # as %20, %3F and %23",
    )


def _check_http(path: str, http: HttpTrigger) -> None:
    _check_path(path, http.path)
    require("*" not in http.path.removesuffix("/*"), f"{path}.path", "* only stands at the end", "end it with /*")
    require(bool(http.methods), f"{path}.methods", "no method", "name some, or ANY")
    for method in http.methods:
        require(
            _METHOD.fullmatch(method) is not None,
            f"{path}.methods",
            f"{method!r} is not a method",
            "use GET, POST, ANY",
        )
    check_alias(f"{path}.alias", http.alias)


def _check_timer(path: str, timer: TimerTrigger) -> None:
    given = [name for name, value in (("cron", timer.cron), ("every", timer.every_s), ("at", timer.at)) if value]
    require(
        len(given) == 1,
        path,
        f"it says {' and '.join(given) or 'nothing about when'}",
        "write one of cron, every and at",
    )
    if timer.cron:
        checked(f"{path}.cron", check_schedule, timer.cron)
    checked(f"{path}.zone", check_timezone, timer.zone)
    if timer.at:
        checked(f"{path}.at", moment_s, timer.at)
    require(
        not timer.every_s or _LEAST_EVERY_S <= timer.every_s <= _MOST_EVERY_S, f"{path}.every_s",
        f"{timer.every_s:g} s is out of range", f"use 1s to {format_duration(_MOST_EVERY_S)}",
    )  # fmt: skip
    size = len(msgspec.json.encode(timer.payload))
    require(size <= _PAYLOAD_BYTES, f"{path}.payload", f"it has {size} bytes", f"use {_PAYLOAD_BYTES} at most")
    check_alias(f"{path}.alias", timer.alias)


def _check_source(path: str, source: QueueTrigger | TopicTrigger | StreamTrigger | TableTrigger) -> None:
    kind = path.rpartition(".")[2]
    checked(f"{path}.{kind}", lambda name: check_name(kind, name), getattr(source, kind))
    check_alias(f"{path}.alias", source.alias)


def _check_objects(path: str, objects: ObjectsTrigger) -> None:
    checked(f"{path}.bucket", check_bucket, objects.bucket)
    for name, value in (("prefix", objects.prefix), ("suffix", objects.suffix)):
        require(len(value) <= 1024, f"{path}.{name}", f"it has {len(value)} characters", "no key has more than 1024")
    require(bool(objects.events), f"{path}.events", "it names none", "name created, deleted, or both")
    check_alias(f"{path}.alias", objects.alias)


def _check_webhook(path: str, webhook: WebhookTrigger) -> None:
    _check_path(path, webhook.path)
    require("*" not in webhook.path, f"{path}.path", "a webhook has one address", "leave out *")
    names = webhook.secrets
    require(
        1 <= len(names) <= MOST_SECRETS, f"{path}.secrets", f"it names {len(names)} secrets",
        f"name 1 to {MOST_SECRETS} of the namespace's; `fuyun secret set NAME` makes one",
    )  # fmt: skip
    for name in names:
        checked(f"{path}.secrets", check_secret_name, name)
    checked(f"{path}.header", lambda _: check_header(webhook), webhook.header)
    check_seconds(f"{path}.tolerance", webhook.tolerance_s, 1, 3600)
    check_seconds(f"{path}.remember", webhook.remember_s, 60, 14 * 86400)
    check_alias(f"{path}.alias", webhook.alias)


def _check_changes(path: str, postgres: PostgresTrigger) -> None:
    checked(f"{path}.secret", check_secret_name, postgres.secret)
    checked(path, check_postgres, postgres)
    check_alias(f"{path}.alias", postgres.alias)


def _check_logs(path: str, log: LogTrigger) -> None:
    checked(path, check_log, log)
    check_alias(f"{path}.alias", log.alias)


def _check_broker(path: str, source: BrokerTrigger) -> None:
    """What all brokers have in common, and then what is their own."""
    checked(f"{path}.url", lambda url: address_of(path.rpartition(".")[2], url), source.url)
    for name, secret in (("secret", source.secret), ("ca", source.ca)):
        if secret:
            checked(f"{path}.{name}", lambda secret: check_name("secret", secret), secret)
    check_alias(f"{path}.alias", source.alias)
    match source:
        case RedisTrigger():
            _check_redis(path, source)
        case RabbitmqTrigger():
            _check_thing(f"{path}.queue", source.queue, True, most=255)
        case NatsTrigger():
            _check_nats(path, source)
        case MqttTrigger():
            _check_mqtt(path, source)


def _check_thing(path: str, text: str, required: bool, most: int = MOST_THING) -> None:
    size = len(text.encode("utf-8", "surrogatepass"))
    require(bool(text) or not required, path, "it is empty", "name it as the broker does")
    require(size <= most, path, f"it has {size} bytes", f"no name there has more than {most}")
    require(text.isprintable(), path, f"{text[:64]!r} holds control characters", "name it as the broker does")


def _check_redis(path: str, redis: RedisTrigger) -> None:
    given = [name for name, value in (("stream", redis.stream), ("list", redis.list)) if value]
    require(len(given) == 1, path, f"it names {' and '.join(given) or 'neither'}", "name one of stream and list")
    for name in ("stream", "list", "group", "field"):
        _check_thing(f"{path}.{name}", getattr(redis, name), False)
    for name in ("group", "field"):
        require(
            not (redis.list and getattr(redis, name)), f"{path}.{name}", "a list has none", "leave it out"
        )  # fmt: skip
    database = address_of("redis", redis.url).path.strip("/")
    require(
        not database or (database.isdecimal() and len(database) < 6), f"{path}.url",
        f"{database[:64]!r} is no database", "end it with its number, as /0",
    )  # fmt: skip


def _check_nats(path: str, nats: NatsTrigger) -> None:
    for name, value, required in (("stream", nats.stream, True), ("consumer", nats.consumer, False)):
        _check_thing(f"{path}.{name}", value, required, most=255)
        require(
            _NATS_NAME.fullmatch(value) is not None, f"{path}.{name}", f"{value[:64]!r} cannot be a name in JetStream",
            "use no spaces, dots, slashes, * and >",
        )  # fmt: skip
    _check_thing(f"{path}.subject", nats.subject, False)
    tokens = nats.subject.split(".") if nats.subject else []
    well = all(
        token and not re.search(r"\s", token) and (token in ("*", ">") or not re.search(r"[*>]", token))
        for token in tokens
    )
    require(
        well and ">" not in tokens[:-1], f"{path}.subject", f"{nats.subject[:64]!r} is no subject",
        "write orders.*.placed, or orders.>",
    )  # fmt: skip
    require(1 <= nats.ack_wait_s <= 3600, f"{path}.ack_wait", f"{nats.ack_wait_s:g} s is out of range", "use 1s to 1h")


def _check_mqtt(path: str, mqtt: MqttTrigger) -> None:
    require(1 <= len(mqtt.topics) <= 100, f"{path}.topics", f"{len(mqtt.topics)} topics", "name 1 to 100")
    for topic in mqtt.topics:
        _check_thing(f"{path}.topics", topic, True)
        levels = topic.split("/")
        shared = levels[0] == "$share"
        wild = levels[2:] if shared else levels
        require(
            all(level in ("+", "#") or not re.search(r"[+#]", level) for level in wild) and "#" not in wild[:-1],
            f"{path}.topics", f"{topic[:64]!r} is no topic filter", "+ stands for one level, # for all from there on",
        )  # fmt: skip
        require(
            not shared or (len(levels) > 2 and bool(levels[1]) and not re.search(r"[+#]", levels[1])),
            f"{path}.topics", f"{topic[:64]!r} is no shared subscription", "write $share/GROUP/FILTER",
        )  # fmt: skip
    require(
        60 <= mqtt.session_s <= 366 * 86400.0, f"{path}.session", f"{mqtt.session_s:g} s is out of range",
        "use 1m to 366d",
    )  # fmt: skip
    checked(f"{path}.url", _no_path, address_of("mqtt", mqtt.url).path)


def _no_path(path: str) -> None:
    if path not in ("", "/"):
        raise BadRequest(f"its address has a path, {path[:64]!r}", hint="name topics under `topics`")


_CHECKS: dict[str, Callable[[str, Any], None]] = {
    "http": _check_http, "timer": _check_timer, "queue": _check_source, "topic": _check_source,
    "stream": _check_source, "table": _check_source, "objects": _check_objects, "webhook": _check_webhook,
    "postgres": _check_changes, "log": _check_logs, **dict.fromkeys(SCHEMES, _check_broker),
}  # fmt: skip
