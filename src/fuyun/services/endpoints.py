"""HTTP endpoints of others as targets of events: made, confirmed, sent to.

Each attempt is signed anew under the event's id, so that the receiver knows it again. What fails is tried again as the
delivery says; an endpoint that answers 410 is gone for good. Changes take the principal that asks and the address it
asks from.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import msgspec
import structlog

from fuyun.base import clock, faults
from fuyun.domain.endpoints import ROTATION_S, EndpointSpec, EndpointView, HttpEndpoint, check_endpoint, view_of
from fuyun.domain.errors import BadRequest, EndpointFailed, FuyunError, NotFound, QuotaExceeded, Throttled, Unavailable
from fuyun.domain.events import Event, Target, structured, trail_of
from fuyun.domain.names import nearest
from fuyun.domain.tenants import AuditEntry, Principal
from fuyun.ports.endpoints import EndpointStore, Said, Sender
from fuyun.services.tenants import Tenants, entry_of

_log = structlog.get_logger("fuyun.endpoints")
#: An event as header fields and a body: CloudEvents' binary mode.
Binary = Callable[[Event], tuple[dict[str, str], bytes]]
#: Who asks, in the handshake.
_ORIGIN: Final = "fuyun"
#: Seconds that an endpoint may ask us to stay away for, at most.
_MOST_RETRY_S: Final = 86400.0
_GONE: Final = 410


class Endpoints:
    """One per platform."""

    def __init__(self, store: EndpointStore, sender: Sender, tenants: Tenants, binary: Binary) -> None:
        self._store = store
        self._sender = sender
        self._tenants = tenants
        self._binary = binary
        self._known: dict[tuple[str, str], HttpEndpoint] = {}
        self.sent: dict[tuple[str, str, str], int] = {}  # (namespace, endpoint, delivered | failed | gone) -> events
        tenants.on_namespace_deleted(self.forget)

    async def open(self) -> None:
        """Read which there are."""
        self._known = {(one.namespace, one.name): one for one in await self._store.list_endpoints()}

    async def close(self) -> None:
        """End all connections."""
        await self._sender.close()

    async def forget(self, namespace: str) -> None:
        """The namespace was deleted, and its endpoints with it."""
        for key in [key for key in self._known if key[0] == namespace]:
            del self._known[key]

    def is_gone(self, namespace: str, target: Target) -> bool:
        """Whether a target is an endpoint that said it wants nothing any more."""
        found = self._known.get((namespace, target.name)) if target.kind == "endpoint" else None
        return found is not None and found.state == "gone"

    # --- what there is

    def get(self, namespace: str, name: str) -> EndpointView:
        """NotFound names the nearest one there is."""
        return view_of(self._get(namespace, name))

    def _get(self, namespace: str, name: str) -> HttpEndpoint:
        found = self._known.get((namespace, name))
        if found is None:
            close = nearest(name, [known for space, known in self._known if space == namespace])
            raise NotFound(
                f"there is no endpoint {name!r}", kind="endpoint", name=name,
                hint=f"did you mean {close!r}?" if close else f"create it: fuyun endpoint create {name} URL",
            )  # fmt: skip
        return found

    async def list_endpoints(self, namespace: str) -> list[EndpointView]:
        """All of the namespace, by name. NotFound when it is absent."""
        await self._tenants.get_namespace(namespace)
        return [view_of(self._known[key]) for key in sorted(self._known) if key[0] == namespace]

    async def put(
        self, principal: Principal, namespace: str, name: str, spec: EndpointSpec, source: str = ""
    ) -> EndpointView:
        """Create an endpoint, or change it; one whose address is new is asked whether it wants events. BadRequest,
        QuotaExceeded. The secret is told of a new one, this once."""
        principal.require("deploy", namespace)
        check_endpoint(name, spec)
        before, now_s = self._known.get((namespace, name)), clock.wall_s()
        if before is None:
            most = self._tenants.quotas(namespace).endpoints
            if sum(key[0] == namespace for key in self._known) >= most:
                raise QuotaExceeded(
                    f"namespace {namespace!r} has {most} endpoints", quota="endpoints", limit=most,
                    hint="delete one, or raise the quota `endpoints`",
                )  # fmt: skip
            made = HttpEndpoint(
                namespace=namespace, name=name, spec=spec, created_s=now_s, rotated_s=now_s, salts=(_salt(),)
            )
        elif before.spec.url == spec.url:
            made = msgspec.structs.replace(before, spec=spec)
        else:
            made = msgspec.structs.replace(before, spec=spec, state="pending", problem="")
        await self._keep(made, entry_of(principal, namespace, "endpoint.put", name, source, spec.url))
        if made.state == "pending":
            made = await self._confirm(made)
        return view_of(made, self._secret(made, made.salts[0]) if before is None else "")

    async def confirm(self, principal: Principal, namespace: str, name: str, source: str = "") -> EndpointView:
        """Ask the endpoint (again) whether it wants events. NotFound."""
        principal.require("deploy", namespace)
        found = self._get(namespace, name)
        await self._keep(found, entry_of(principal, namespace, "endpoint.confirm", name, source))
        return view_of(await self._confirm(found))

    async def rotate(self, principal: Principal, namespace: str, name: str, source: str = "") -> EndpointView:
        """Give it another secret, told this once; the one before signs, too, for a day. NotFound."""
        principal.require("deploy", namespace)
        found = self._get(namespace, name)
        made = msgspec.structs.replace(found, salts=(_salt(), found.salts[0]), rotated_s=clock.wall_s())
        await self._keep(made, entry_of(principal, namespace, "endpoint.rotate", name, source))
        return view_of(made, self._secret(made, made.salts[0]))

    async def delete(self, principal: Principal, namespace: str, name: str, source: str = "") -> None:
        """What is on its way there becomes dead letters. NotFound."""
        principal.require("delete", namespace)
        self._get(namespace, name)
        await self._store.delete(namespace, name, entry_of(principal, namespace, "endpoint.delete", name, source))
        self._known.pop((namespace, name), None)
        for key in [key for key in self.sent if key[:2] == (namespace, name)]:
            del self.sent[key]

    async def _keep(self, endpoint: HttpEndpoint, entry: AuditEntry | None = None) -> None:
        await self._store.put(endpoint, entry)
        self._known[endpoint.namespace, endpoint.name] = endpoint

    # --- whether it wants to be sent to

    async def _confirm(self, endpoint: HttpEndpoint) -> HttpEndpoint:
        """The handshake. What it does not answer as it should is written down as its problem."""
        problem = ""
        try:
            asked = {**_about(endpoint), "webhook-request-origin": _ORIGIN}
            said = await self._sender.ask("OPTIONS", endpoint.spec.url, asked, b"", endpoint.spec.timeout_s)
            allowed = said.headers.get("webhook-allowed-origin", "")
            if said.status not in (200, 204):
                problem = f"it answered OPTIONS with {said.status}"
            elif allowed not in (_ORIGIN, "*"):
                problem = f"it answered OPTIONS with WebHook-Allowed-Origin: {allowed[:80]}" if allowed else (
                    "it answered OPTIONS without WebHook-Allowed-Origin"
                )  # fmt: skip
        except FuyunError as error:
            problem = error.detail
        current = self._known.get((endpoint.namespace, endpoint.name))
        if current is None or current.spec.url != endpoint.spec.url:  # changed meanwhile
            return current or endpoint
        made = msgspec.structs.replace(current, state="pending" if problem else "confirmed", problem=problem)
        await self._keep(made)
        return made

    # --- sending

    async def send(self, namespace: str, name: str, _qualifier: str, events: Sequence[Event]) -> None:
        """A `services.targets.Sender`. Unavailable while it is not confirmed; EndpointFailed, Throttled."""
        for event in events:
            await self._send(self._get(namespace, name), event)

    async def _send(self, endpoint: HttpEndpoint, event: Event) -> None:
        key = endpoint.namespace, endpoint.name
        if endpoint.state == "gone":
            raise BadRequest(
                f"endpoint {endpoint.name!r} is gone: it answered 410", hint="confirm it again, or delete it"
            )
        if endpoint.state == "pending":
            raise Unavailable(
                f"endpoint {endpoint.name!r} is not confirmed: {endpoint.problem}", retry_after_s=30,
                hint=f"fuyun endpoint confirm {endpoint.name}",
            )  # fmt: skip
        headers, body = self._message(endpoint, event)
        try:
            said = await self._sender.ask("POST", endpoint.spec.url, headers, body, endpoint.spec.timeout_s)
            faults.point("endpoints.after_send")
        except FuyunError:
            self._count(key, "failed")
            raise
        if 200 <= said.status < 300:
            self._count(key, "delivered")
            return
        if said.status == _GONE:
            self._count(key, "gone")
            if self._known.get(key) == endpoint:
                await self._keep(msgspec.structs.replace(endpoint, state="gone", problem="it answered 410 Gone"))
                _log.warning("an endpoint is gone", namespace=endpoint.namespace, endpoint=endpoint.name)
            raise BadRequest(f"endpoint {endpoint.name!r} answered 410: it wants nothing any more")
        self._count(key, "failed")
        retry_s = _retry_after_s(said)
        if said.status in (429, 503):
            raise Throttled(f"endpoint {endpoint.name!r} answered {said.status}", retry_after_s=retry_s)
        raise EndpointFailed(f"endpoint {endpoint.name!r} answered {said.status}", retry_after_s=retry_s)

    def _message(self, endpoint: HttpEndpoint, event: Event) -> tuple[dict[str, str], bytes]:
        """Header fields and body of one attempt."""
        if endpoint.spec.mode == "binary":
            told, body = self._binary(event)
        else:
            told, body = {"content-type": "application/cloudevents+json"}, structured(event)
        id_, at = trail_of(event.id), f"{clock.wall_s():.0f}"
        text = f"{id_}.{at}.".encode() + body
        recent = clock.wall_s() - endpoint.rotated_s < ROTATION_S
        signatures = [
            "v1," + base64.b64encode(hmac.digest(self._key(endpoint, salt), text, "sha256")).decode()
            for salt in (endpoint.salts if recent else endpoint.salts[:1])
        ]
        return {
            **told, **_about(endpoint), "webhook-id": id_, "webhook-timestamp": at,
            "webhook-signature": " ".join(signatures),
        }, body  # fmt: skip

    def _key(self, endpoint: HttpEndpoint, salt: str) -> bytes:
        return self._tenants.derived(f"endpoint {endpoint.namespace}/{endpoint.name} {salt}")

    def _secret(self, endpoint: HttpEndpoint, salt: str) -> str:
        return "whsec_" + base64.b64encode(self._key(endpoint, salt)).decode()

    def _count(self, key: tuple[str, str], how: str) -> None:
        self.sent[*key, how] = self.sent.get((*key, how), 0) + 1


def _salt() -> str:
    return secrets.token_hex(16)


def _about(endpoint: HttpEndpoint) -> Mapping[str, str]:
    return {"host": urlsplit(endpoint.spec.url).netloc, "user-agent": "fuyun"}


def _retry_after_s(said: Said) -> float:
    """What its Retry-After asks for, in seconds or as a time; 0 for nothing that can be read."""
    text = said.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return min(_MOST_RETRY_S, float(text))
    try:
        return min(_MOST_RETRY_S, max(0.0, parsedate_to_datetime(text).timestamp() - clock.wall_s()))
    except (ValueError, TypeError, OverflowError):
        return 0.0
