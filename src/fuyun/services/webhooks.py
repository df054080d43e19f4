"""What other systems post to webhooks: checked, then accepted as a delivery, and answered once that is on the disk.

A sender that does not get its answer posts again; what was accepted is known by the sender's id for as long as the
trigger remembers it, and is not accepted twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import parse_qs

import msgspec
import structlog

from fuyun.base import clock, ids
from fuyun.base.tasks import Scope
from fuyun.decide import webhooks
from fuyun.decide.filters import View, compiled_text
from fuyun.domain.deliveries import Order
from fuyun.domain.errors import BadRequest, FuyunError, Internal, NotFound, Unauthenticated, Unavailable
from fuyun.domain.events import Event
from fuyun.domain.webhooks import WebhookTrigger
from fuyun.services.accepting import Acceptor
from fuyun.services.deferring import Acceptance
from fuyun.services.invoking import Flight, Invoker, Responder
from fuyun.services.orders import event_order, terms_of
from fuyun.services.requests import Request
from fuyun.services.routes import Route
from fuyun.services.tenants import Tenants
from fuyun.services.triggers.bindings import Binding, Bindings

_log = structlog.get_logger("fuyun.webhooks")

#: `(headers with lower-case names, body, now_s)`: the CloudEvents that a request carries. BadRequest.
ReadEvents = Callable[[Mapping[str, str], bytes, float], list[Event]]
_FORM: Final = "application/x-www-form-urlencoded"
_JSON: Final = [("content-type", "application/json")]
#: The handshake of CloudEvents' web hooks: who may send, and how often a minute.
#: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/http-webhook.md#4-abuse-protection
_ORIGIN: Final = "webhook-request-origin"
#: Seconds after which a sender is asked to try again: somebody has to do something first.
_LATER_S: Final = 60


class Webhooks:
    """One per platform. Implements `services.invoking.Invoker`: what is begun here is accepted, and answered with 202
    and its id."""

    def __init__(
        self, invoker: Invoker, acceptor: Acceptor, bindings: Bindings, tenants: Tenants, scope: Scope
    ) -> None:
        self._invoker = invoker
        self._acceptor = acceptor
        self._bindings = bindings
        self._tenants = tenants
        self._scope = scope
        self._read_events: ReadEvents | None = None
        self._known: dict[tuple[str, str, str], Binding] | None = None
        self._last_s: dict[tuple[str, str, str], float] = {}
        #: (namespace, function, trigger, accepted | repeated | ignored | answered | refused | failed) -> requests
        self.received: dict[tuple[str, str, str, str], int] = {}
        bindings.listen(self._forget)

    def read_by(self, read_events: ReadEvents) -> None:
        """Have CloudEvents that are posted read by `read_events`; without, they are bodies like others."""
        self._read_events = read_events

    def match(self, path: str) -> Route:
        """See `services.invoking.Invoker`."""
        return self._invoker.match(path)

    def resolve(self, namespace: str, function: str, qualifier: str) -> Route:
        """See `services.invoking.Invoker`."""
        return self._invoker.resolve(namespace, function, qualifier)

    def begin(self, route: Route, request: Request, body: bytes, end: bool, responder: Responder) -> Flight:
        """Take what was posted."""
        return Acceptance(self._take, route, request, body, end, responder)

    def times(self, binding: Binding) -> tuple[float | None, float | None]:
        """When something was last accepted. A `services.triggers.governing.Times`."""
        return self._last_s.get(binding.key), None

    def _forget(self) -> None:
        self._known = None

    def _binding(self, route: Route) -> Binding:
        if self._known is None:
            self._known = {binding.key: binding for binding in self._bindings.of("webhook")}
            self._last_s = {key: at_s for key, at_s in self._last_s.items() if key in self._known}
            self.received = {key: count for key, count in self.received.items() if key[:3] in self._known}
        found = self._known.get((route.namespace, route.function, route.webhook))
        if found is None:
            raise NotFound("nothing listens here any more", hint="`fuyun trigger list` shows what does", kind="trigger")
        return found

    def _take(self, acceptance: Acceptance, body: bytes) -> None:
        self._scope.start(self._answer(acceptance, body), "webhook")

    async def _answer(self, acceptance: Acceptance, body: bytes) -> None:
        route, request = acceptance.route, acceptance.request
        try:
            how = await self._receive(acceptance, self._binding(route), request, body)
        except FuyunError as error:
            how = "refused" if isinstance(error, (Unauthenticated, BadRequest)) else "failed"
            acceptance.fail(error)
        except Exception as error:
            how = "failed"
            _log.error("taking what was posted failed", function=route.function, exc_info=error)
            acceptance.fail(Internal("the platform failed to take this", hint="look into its log"))
        key = (route.namespace, route.function, route.webhook, how)
        self.received[key] = self.received.get(key, 0) + 1

    async def _receive(self, acceptance: Acceptance, binding: Binding, request: Request, body: bytes) -> str:
        trigger = binding.trigger.webhook
        assert trigger is not None
        headers = dict(request.headers)
        if request.method == "OPTIONS":
            acceptance.give(200, _handshake(headers), b"")
            return "answered"
        if binding.paused:
            raise Unavailable("this webhook is paused", hint="post it again later", retry_after_s=_LATER_S)
        now_s = clock.wall_s()
        webhooks.verify(trigger, await self._keys(binding, trigger), headers, body, now_s)
        posted = webhooks.read(trigger, headers, *_unwrapped(trigger, headers.get("content-type", ""), body))
        told = webhooks.challenge(trigger, headers, posted)
        if told is not None:
            acceptance.give(200, _JSON, told)
            return "answered"
        event, key = self._event(binding, trigger, headers, posted, now_s)
        wanted = binding.trigger.policy.filter
        if wanted is not None and not compiled_text(msgspec.json.encode(wanted))(View(event)):
            acceptance.give(200, _JSON, b'{"ignored":"the filter of the trigger does not take it"}')
            return "ignored"
        order = self._order(binding, trigger, event, key)
        found = await self._acceptor.accept(order)
        self._last_s[binding.key] = now_s
        acceptance.answer(found, found != order.id)
        return "accepted" if found == order.id else "repeated"

    async def _keys(self, binding: Binding, trigger: WebhookTrigger) -> list[bytes]:
        """What may have signed. Unavailable when a secret is not there, or not of its scheme: the sender is to come
        back; who owns the function is told why in the log."""
        try:
            values = await self._tenants.reveal(binding.namespace, trigger.secrets)
            return [webhooks.key_of(trigger, values[name]) for name in trigger.secrets]
        except (NotFound, ValueError) as error:
            _log.warning("a webhook has no secret that can be used", trigger=binding.origin, error=str(error))
            raise Unavailable(
                "this webhook is not set up: a secret of it is missing or not of its scheme",
                hint="set it with `fuyun secret set`; the platform's log names it", retry_after_s=_LATER_S,
            ) from error  # fmt: skip

    def _event(
        self, binding: Binding, trigger: WebhookTrigger, headers: Mapping[str, str], posted: webhooks.Posted,
        now_s: float,
    ) -> tuple[Event, str]:  # fmt: skip
        """What is handed on, and what it is known again by ("": nothing)."""
        media = headers.get("content-type", "").partition(";")[0].strip().lower()
        if self._read_events is not None and (media.startswith("application/cloudevents") or "ce-id" in headers):
            found = self._read_events(headers, posted.body, now_s)
            if len(found) != 1:
                raise BadRequest(f"a batch of {len(found)} events was posted", hint="post them one by one")
            event = msgspec.structs.replace(found[0], hops=0, trail="", raw=trigger.raw)
            return event, f"{event.source}\n{event.id}"
        event = Event(
            id=posted.id or ids.new_id(), type=posted.type, subject=posted.subject, time_s=now_s, data=posted.body,
            source=f"/{binding.namespace}/webhook/{binding.function}/{binding.name}",
            content_type=posted.content_type, raw=trigger.raw or not posted.is_json,
        )  # fmt: skip
        return event, posted.id

    def _order(self, binding: Binding, trigger: WebhookTrigger, event: Event, key: str) -> Order:
        terms = terms_of(self._invoker, binding.namespace, binding.target, binding.trigger.policy)
        known = hashlib.sha256(f"{binding.name}\n{key}".encode("utf-8", "surrogateescape")).hexdigest() if key else ""
        order = event_order(binding.namespace, binding.target, event, terms, origin=binding.origin, key=known)
        return msgspec.structs.replace(order, key_window_s=trigger.remember_s)


def _unwrapped(trigger: WebhookTrigger, content_type: str, body: bytes) -> tuple[str, bytes]:
    """Content type and body: of a form, the other of the two kinds that GitHub sends, the JSON that it holds."""
    if trigger.scheme == "github" and content_type.partition(";")[0].strip().lower() == _FORM:
        packed = parse_qs(body.decode("utf-8", "replace")).get("payload")
        if packed:
            return "application/json", packed[0].encode()
    return content_type, body


def _handshake(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """Whoever knows the secret may send: the origin that asks is let, at the rate that it asks for."""
    origin = headers.get(_ORIGIN, "")
    told = [("allow", "OPTIONS, POST")]
    if origin:
        told += [("webhook-allowed-origin", origin), ("webhook-allowed-rate", headers.get("webhook-request-rate", "*"))]
    return told
