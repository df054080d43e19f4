"""Which driver speaks to which kind of broker. An idle platform loads none of them, nor their libraries."""

from __future__ import annotations

import logging
from typing import Final

from fuyun.ports.brokers import Broker

#: What the libraries log of broken connections, with tracebacks: a trigger tells it once, and in words.
_TALKATIVE: Final = ("aio_pika", "aiormq", "mqtt", "nats", "redis")


def broker_of(kind: str) -> Broker:
    """The driver of a kind of trigger. ImportError when its library is not installed."""
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    match kind:
        case "redis":
            from fuyun.drivers.brokers.redis import RedisBroker

            return RedisBroker()
        case "rabbitmq":
            from fuyun.drivers.brokers.rabbitmq import RabbitmqBroker

            return RabbitmqBroker()
        case "nats":
            from fuyun.drivers.brokers.nats import NatsBroker

            return NatsBroker()
        case "mqtt":
            from fuyun.drivers.brokers.mqtt import MqttBroker

            return MqttBroker()
    raise KeyError(kind)
