"""Triggers: what binds a source of events to a function, and the one policy that all kinds share.

A kind is a struct and a field of `Trigger`; what it adds to `fuyun.yaml` stands in `client/fields.py`, what runs it in
`services/triggers/`. The triggers of a function are those of its draft; the alias that one names says what serves it.
"""

from __future__ import annotations

from typing import Any, Literal

from fuyun.domain.errors import BadRequest
from fuyun.domain.logtriggers import LogTrigger
from fuyun.domain.postgres import PostgresTrigger
from fuyun.domain.webhooks import WebhookTrigger
from fuyun.domain.wire import Wire

Auth = Literal["public", "key"]
#: What happens to an object; a delete marker deletes it.
ObjectsEvent = Literal["created", "deleted"]
#: What a timer does about ticks that passed while the platform was down or the trigger paused.
Missed = Literal["skip", "last", "all"]
ListEnd = Literal["left", "right"]
MqttVersion = Literal["5", "3.1.1"]


class Cors(Wire, frozen=True, kw_only=True):
    """Cross-origin rules of one HTTP trigger. `["*"]` allows any; credentials then echo the origin."""

    allow_origins: tuple[str, ...] = ("*",)
    allow_methods: tuple[str, ...] = ("*",)
    allow_headers: tuple[str, ...] = ("*",)
    expose_headers: tuple[str, ...] = ()
    allow_credentials: bool = False
    max_age_s: int = 600


class HttpTrigger(Wire, frozen=True, kw_only=True):
    """Binds a path of the gateway to the function. `path` may end in `/*` to take everything below it."""

    path: str
    methods: tuple[str, ...] = ("ANY",)
    auth: Auth = "key"
    cors: Cors | None = None
    alias: str = ""  # qualifier that serves it; "" is $LATEST


class TimerTrigger(Wire, frozen=True, kw_only=True):
    """Calls the function at times; exactly one of `cron`, `every_s` and `at` says which. `cron` is read in `zone`,
    `at` is a time as RFC 3339. `payload`, any JSON, is the data of the event."""

    cron: str = ""
    zone: str = "UTC"
    every_s: float = 0.0
    at: str = ""
    missed: Missed = "last"
    payload: Any = None
    alias: str = ""  # qualifier that serves it; "" is $LATEST


class StreamTrigger(Wire, frozen=True, kw_only=True):
    """Calls the function with records of a stream, in order within each partition."""

    stream: str
    alias: str = ""  # qualifier that serves it; "" is $LATEST


class TableTrigger(Wire, frozen=True, kw_only=True):
    """Calls the function with changes of a table, those of one key in order."""

    table: str
    alias: str = ""  # qualifier that serves it; "" is $LATEST


class QueueTrigger(Wire, frozen=True, kw_only=True):
    """Calls the function with batches of a queue's messages, a JSON array of events, and acknowledges what it has done
    with. Messages of one group come one after the other."""

    queue: str
    alias: str = ""  # qualifier that serves it; "" is $LATEST


class TopicTrigger(Wire, frozen=True, kw_only=True):
    """Calls the function with each event that is published to a topic."""

    topic: str
    alias: str = ""  # qualifier that serves it; "" is $LATEST


class ObjectsTrigger(Wire, frozen=True, kw_only=True):
    """Calls the function with what happens to objects of a bucket whose keys begin and end so."""

    bucket: str
    prefix: str = ""
    suffix: str = ""
    events: tuple[ObjectsEvent, ...] = ("created",)
    alias: str = ""  # qualifier that serves it; "" is $LATEST


class BrokerTrigger(Wire, frozen=True, kw_only=True):
    """What triggers of brokers share: where the broker is, and who asks it.

    `secret` and `ca` are names of secrets of the namespace: the password (of NATS without a user: the token), and the
    certificates, PEM, that the broker's is to be signed by in place of the host's.
    """

    url: str
    secret: str = ""
    ca: str = ""
    alias: str = ""  # qualifier that serves it; "" is $LATEST


class RedisTrigger(BrokerTrigger, frozen=True, kw_only=True):
    """Calls the function with entries of a Redis stream, as a consumer of a group, or with elements that it takes from
    the end `pop` of a list. Exactly one of `stream` and `list` is set. `group` is one to share with other consumers;
    "" is the trigger's own. `field` is the one that holds the data; "" makes an object of all."""

    stream: str = ""
    list: str = ""
    group: str = ""
    field: str = ""
    pop: ListEnd = "left"


class RabbitmqTrigger(BrokerTrigger, frozen=True, kw_only=True):
    """Calls the function with messages of a queue of RabbitMQ, which exists already."""

    queue: str


class NatsTrigger(BrokerTrigger, frozen=True, kw_only=True):
    """Calls the function with messages of a JetStream stream, which exists already. `subject` is what it takes of it;
    "" is everything. `consumer` is a durable pull consumer that exists already; "" is one of the trigger's own, which
    waits for `ack_wait_s` until it gives a message out again whose holder is silent."""

    stream: str
    subject: str = ""
    consumer: str = ""
    ack_wait_s: float = 30.0


class MqttTrigger(BrokerTrigger, frozen=True, kw_only=True):
    """Calls the function with messages of topics, by a session that the broker keeps while nobody is connected for up
    to `session_s`. `topics` are filters with `+` and `#`, also shared ones: `$share/GROUP/FILTER`."""

    topics: tuple[str, ...]
    version: MqttVersion = "5"
    session_s: float = 7 * 86400.0


class Policy(Wire, frozen=True, kw_only=True):
    """How what a source gives reaches the function. A source that hands on events one by one has no batches; one that
    keeps no past has no start position."""

    filter: Any = None  # `domain.filters`; null takes everything
    batch_size: int = 10
    batch_window_s: float = 0.0  # how long a batch that is not full may wait for more
    parallelism: int = 1  # batches inside the function at once; per partition where the source has them
    max_attempts: int = 3
    max_age_s: float = 6 * 3600.0
    bisect: bool = False  # a batch that fails is halved until what fails stands alone
    start: str = "end"  # where a new trigger begins: start, end, a time as RFC 3339, id:ID, or sequence:NUMBER
    dead_letter: str = ""  # target of what is given up; "" keeps it with the function's own


class Trigger(Wire, frozen=True, kw_only=True):
    """One trigger of a function; exactly one of its kinds is set. `name` tells it from the others: its state (paused,
    position) goes with it."""

    name: str = ""
    http: HttpTrigger | None = None
    timer: TimerTrigger | None = None
    stream: StreamTrigger | None = None
    table: TableTrigger | None = None
    queue: QueueTrigger | None = None
    topic: TopicTrigger | None = None
    objects: ObjectsTrigger | None = None
    webhook: WebhookTrigger | None = None
    postgres: PostgresTrigger | None = None
    log: LogTrigger | None = None
    redis: RedisTrigger | None = None
    rabbitmq: RabbitmqTrigger | None = None
    nats: NatsTrigger | None = None
    mqtt: MqttTrigger | None = None
    policy: Policy = Policy()

    @property
    def kind(self) -> str:
        """Which of `KINDS` is set; "" for none."""
        return next((kind for kind in KINDS if getattr(self, kind) is not None), "")


#: Every kind of trigger: the fields of `Trigger` of which exactly one is set.
KINDS: tuple[str, ...] = tuple(name for name in Trigger.__struct_fields__ if name not in ("name", "policy"))


def named(triggers: tuple[Trigger, ...]) -> list[tuple[str, Trigger]]:
    """Each trigger with its name: its own, or its kind, numbered from the second of a kind on. BadRequest for one that
    stands twice."""
    found: dict[str, Trigger] = {}
    counts: dict[str, int] = {}
    for trigger in triggers:
        kind = trigger.kind
        counts[kind] = counts.get(kind, 0) + 1
        name = trigger.name or (kind if counts[kind] == 1 else f"{kind}-{counts[kind]}")
        if name in found:
            raise BadRequest(
                f"two triggers are called {name!r}", hint="give each trigger a name of its own", path="triggers"
            )
        found[name] = trigger
    return list(found.items())
