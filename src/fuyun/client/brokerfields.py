"""What may stand in triggers of outside brokers in `fuyun.yaml`."""

from __future__ import annotations

from fuyun.client.field import Field
from fuyun.domain.triggers import MqttTrigger, NatsTrigger, RabbitmqTrigger, RedisTrigger

BROKER_FIELDS = (
    Field("secret", "text", "secret of the namespace that holds the password; of NATS without a user, the token"),
    Field("ca", "text", "secret that holds the certificates, PEM, that the broker's is signed by; default: the host's"),
    Field("alias", "text", "version or alias that serves it; default $LATEST"),
)

REDIS_FIELDS = (
    Field("url", "text", "redis://[USER@]HOST:PORT/DATABASE, or rediss:// for TLS", required=True),
    Field("stream", "text", "the stream whose entries it gets, as a JSON array of events"),
    Field("list", "text", "instead: the list whose elements it takes"),
    Field("group", "text", "a consumer group to share with others; default: one of its own"),
    Field("field", "text", "field of an entry that is the event's data; default: an object of all"),
    Field("pop", "choice", "end of the list that elements are taken from; default left", choices=("left", "right")),
    *BROKER_FIELDS,
)

RABBITMQ_FIELDS = (
    Field("url", "text", "amqp://[USER@]HOST:PORT/VHOST, or amqps:// for TLS", required=True),
    Field("queue", "text", "the queue whose messages it gets, as a JSON array of events", required=True),
    *BROKER_FIELDS,
)

NATS_FIELDS = (
    Field("url", "text", "nats://[USER@]HOST:PORT, or tls:// for TLS", required=True),
    Field("stream", "text", "the stream of JetStream whose messages it gets, as a JSON array of events", required=True),
    Field("subject", "text", "subject of the messages it takes, with * and >; default: all"),
    Field("consumer", "text", "a durable pull consumer to share with others; default: one of its own"),
    Field("ack_wait", "duration", "silence after which a message is given out again; default 30s", "ack_wait_s"),
    *BROKER_FIELDS,
)

MQTT_FIELDS = (
    Field("url", "text", "mqtt://[USER@]HOST:PORT, or mqtts:// for TLS", required=True),
    Field("topics", "names", "topics, with + and #, or $share/GROUP/TOPIC, whose messages it gets", required=True),
    Field("version", "choice", "of the protocol; default 5", choices=("5", "3.1.1")),
    Field("session", "duration", "how long the broker keeps messages for it while it is away; default 7d", "session_s"),
    *BROKER_FIELDS,
)

#: Kinds of triggers whose source is a broker, by name.
BROKER_TRIGGERS = (
    Field("redis", "object", "calls the function with entries of a stream, or elements of a list, of Redis",
          fields=REDIS_FIELDS),
    Field("rabbitmq", "object", "calls the function with messages of a queue of RabbitMQ", fields=RABBITMQ_FIELDS),
    Field("nats", "object", "calls the function with messages of a stream of NATS JetStream", fields=NATS_FIELDS),
    Field("mqtt", "object", "calls the function with messages of MQTT topics", fields=MQTT_FIELDS),
)  # fmt: skip

#: Struct each table must fit; a test compares them.
BROKER_STRUCTS = {
    REDIS_FIELDS: RedisTrigger,
    RABBITMQ_FIELDS: RabbitmqTrigger,
    NATS_FIELDS: NatsTrigger,
    MQTT_FIELDS: MqttTrigger,
}
