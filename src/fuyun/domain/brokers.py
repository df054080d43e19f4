"""Outside brokers: their addresses, and what messages of theirs are as events."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from fuyun.domain.errors import BadRequest
from fuyun.domain.events import HOPS, TRAIL, Event
from fuyun.domain.triggers import BrokerTrigger, MqttTrigger, NatsTrigger, RabbitmqTrigger, RedisTrigger, Trigger

#: Kinds of triggers whose source is a broker, and the schemes of its address.
SCHEMES: Final[Mapping[str, tuple[str, ...]]] = {
    "redis": ("redis", "rediss"), "rabbitmq": ("amqp", "amqps"), "nats": ("nats", "tls"), "mqtt": ("mqtt", "mqtts"),
}  # fmt: skip
#: Schemes that mean TLS.
SECURE: Final = frozenset(("rediss", "amqps", "tls", "mqtts"))
PORTS: Final[Mapping[str, int]] = {
    "redis": 6379, "rediss": 6379, "amqp": 5672, "amqps": 5671, "nats": 4222, "tls": 4222, "mqtt": 1883, "mqtts": 8883,
}  # fmt: skip
#: What stands in place of a password.
HIDDEN: Final = "***"
#: Characters of an address, and of the name of a thing inside a broker.
MOST_URL: Final = 2048
MOST_THING: Final = 512

_URL = re.compile(
    r"(?P<scheme>[a-z]+)://(?:(?P<user>[^:@/?#\s]*)(?::(?P<password>[^@/?#\s]*))?@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?(?P<path>/[^?#\s]*)?"
)
_NO_NAME = re.compile(r"[^a-z0-9]")
#: Attributes of an event that no property of a message replaces: CloudEvents 1.0, "Context Attributes".
_TAKEN: Final = frozenset(
    ("specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "data", "database64",
     HOPS, TRAIL)
)  # fmt: skip
_decode_raw = msgspec.json.Decoder(msgspec.Raw).decode


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """A broker's address, read. Texts are as they stood: `user`, `password` and `path` (which begins with /, or is
    empty) may hold percent signs."""

    scheme: str
    host: str
    port: int
    user: str = ""
    password: str = ""
    path: str = ""

    def __repr__(self) -> str:
        """Without the password."""
        return f"Address({self.shown!r})"

    @property
    def secure(self) -> bool:
        """Whether it is spoken to over TLS."""
        return self.scheme in SECURE

    @property
    def bare_host(self) -> str:
        """The host without the brackets of IPv6."""
        return self.host.strip("[]")

    @property
    def shown(self) -> str:
        """The address without who asks."""
        return f"{self.scheme}://{self.host}:{self.port}{self.path}"


def address_of(kind: str, url: str) -> Address:
    """The address that `url` is, for triggers of `kind`. BadRequest, which does not repeat a password."""
    schemes = SCHEMES[kind]
    found = _URL.fullmatch(url) if len(url) <= MOST_URL else None
    if found is None or found["scheme"] not in schemes:
        raise BadRequest(
            f"{hidden(url)[:120]!r} is no address of {kind}",
            hint=f"write {schemes[0]}://USER@HOST:PORT, {schemes[1]}:// for TLS; write signs that mean something "
            "in addresses as percent codes, or name a secret that holds the password",
            path="url",
        )  # fmt: skip
    port = int(found["port"] or PORTS[found["scheme"]])
    if not 0 < port < 65536:
        raise BadRequest(f"port {port} does not exist", hint="use 1 to 65535", path="url")
    return Address(
        scheme=found["scheme"], host=found["host"], port=port, user=found["user"] or "",
        password=found["password"] or "", path=found["path"] or "",
    )  # fmt: skip


def hidden(url: str) -> str:
    """`url` with `HIDDEN` in place of its password. Also for what is no address: up to the last @ nothing is shown
    behind the first colon."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        scheme, rest = "", url
    who, at, where = rest.rpartition("@")
    user, colon, _ = who.partition(":")
    return f"{scheme}{mark}{user}{colon}{HIDDEN if colon else ''}{at}{where}"


def source_of(trigger: Trigger) -> BrokerTrigger | None:
    """What it says about its broker; None for triggers of other kinds."""
    found = getattr(trigger, trigger.kind, None) if trigger.kind in SCHEMES else None
    return found if isinstance(found, BrokerTrigger) else None


def masked(trigger: Trigger) -> Trigger:
    """The trigger as it may be shown: without the password in its address."""
    source = source_of(trigger)
    if source is None or hidden(source.url) == source.url:
        return trigger
    changed: Trigger = msgspec.structs.replace(
        trigger, **{trigger.kind: msgspec.structs.replace(source, url=hidden(source.url))}
    )
    return changed


def thing_of(source: BrokerTrigger) -> str:
    """What of the broker it reads: `stream orders`, say."""
    match source:
        case RedisTrigger():
            return f"stream {source.stream}" if source.stream else f"list {source.list}"
        case RabbitmqTrigger():
            return f"queue {source.queue}"
        case NatsTrigger():
            return f"stream {source.stream}"
        case MqttTrigger():
            return f"topics {' '.join(source.topics)}"
    raise TypeError(type(source).__name__)


def attributes_of(properties: Mapping[str, str]) -> dict[str, str]:
    """Properties of a message as extension attributes: names in lower case without what is neither letter nor digit,
    cut to 20 characters (CloudEvents 1.0, "Naming Conventions"). Of names that become one, the first holds; one that
    an event has already, or that has no letter or digit, is left out."""
    found: dict[str, str] = {}
    for name, value in properties.items():
        made = _NO_NAME.sub("", name.lower())[:20]
        if made and made not in _TAKEN:
            found.setdefault(made, value)
    return found


def message_event(
    *, id: str, source: str, type: str, subject: str, time_s: float, body: bytes, content_type: str = "",
    properties: Mapping[str, str] | None = None,
) -> Event:  # fmt: skip
    """The event that a message of a broker is: its data is JSON where the body is, else bytes of `content_type`."""
    names_json = "json" in content_type.lower()
    if _is_json(body):
        media = content_type if names_json else "application/json"
    else:
        media = "application/octet-stream" if names_json or not content_type else content_type
    return Event(
        id=id, source=source, type=type, subject=subject, time_s=time_s, content_type=media, data=body,
        extensions=attributes_of(properties or {}),
    )  # fmt: skip


def _is_json(body: bytes) -> bool:
    try:
        body.decode()  # what is decoded as raw is not looked into: bytes that are no UTF-8 would stay in a text
        _decode_raw(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
