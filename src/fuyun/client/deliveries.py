"""The part of the API that is about asynchronous invocations, their dead letters, and triggers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fuyun.client.calling import Caller
from fuyun.client.http import Request, path_of
from fuyun.domain.deliveries import Delivery
from fuyun.domain.triggers import Trigger
from fuyun.domain.wire import Wire


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """When an asynchronous invocation may run (`delay`: 90s, 2h; or `at`: a time as RFC 3339), and its key."""

    delay: str = ""
    at: str = ""
    key: str = ""

    @property
    def fields(self) -> dict[str, str]:
        """The header fields that say so."""
        named = {"Fuyun-Delay": self.delay, "Fuyun-Schedule-At": self.at, "Fuyun-Idempotency-Key": self.key}
        return {"Fuyun-Invocation-Type": "async"} | {name: value for name, value in named.items() if value}


class Accepted(Wire, frozen=True, kw_only=True):
    """An asynchronous invocation that is on the disk. `duplicate`: it was there already, under the same key."""

    id: str
    duplicate: bool = False


class Shown(Wire, frozen=True, kw_only=True):
    """A delivery with what is delivered, as long as that is kept."""

    delivery: Delivery
    kind: Literal["event", "call", ""] = ""
    payload: Any = None
    payload_base64: str = ""


class TriggerStatus(Wire, frozen=True, kw_only=True):
    """A trigger of a function, and how it stands. Times are wall-clock seconds."""

    function: str
    name: str
    kind: str
    trigger: Trigger
    paused: bool = False
    last_s: float | None = None
    next_s: float | None = None
    problem: str = ""
    lag_bytes: int | None = None
    since_s: float | None = None
    lag: int | None = None
    held: int | None = None
    age_s: float | None = None


class DeliveryCaller(Caller):
    """What `client.platform.Platform` inherits."""

    def invoke_later(self, function: str, payload: bytes, qualifier: str, when: When) -> Accepted:
        """Have the function run on a JSON payload; returns when that is on the platform's disk. BadRequest,
        QuotaExceeded, StorageFull."""
        query = {"qualifier": qualifier} if qualifier else {}
        path = path_of("namespaces", self.namespace, "functions", function, "invoke")
        return self._one(self._http.send(Request("POST", path, payload, query=query, headers=when.fields)), Accepted)

    def list_deliveries(self, target: str = "", state: str = "", after: str = "", limit: int = 100) -> list[Delivery]:
        """Deliveries that match, in the order in which they were accepted."""
        given = {"target": target, "state": state, "after": after, "limit": str(limit)}
        query = {name: value for name, value in given.items() if value}
        return self._items(self._send("GET", self._deliveries(), query=query), Delivery)[0]

    def get_delivery(self, id_: str) -> Shown:
        """NotFound when absent."""
        return self._one(self._send("GET", self._deliveries(id_)), Shown)

    def stop_delivery(self, id_: str) -> Delivery:
        """Stop one that waits or runs. NotFound, Conflict."""
        return self._one(self._send("POST", self._deliveries(id_, "stop")), Delivery)

    def redrive(self, target: str = "", ids: Sequence[str] = (), limit: int = 1000) -> int:
        """Let dead letters be delivered again; how many."""
        body = {"target": target, "ids": list(ids), "limit": limit}
        return int(self._dict(self._send("POST", self._dead("redrive"), body))["count"])

    def purge_deliveries(
        self, target: str = "", ids: Sequence[str] = (), finished: bool = False, limit: int = 1000
    ) -> int:
        """Delete dead letters, or all that is `finished`; how many."""
        body = {"target": target, "ids": list(ids), "limit": limit, "finished": finished}
        return int(self._dict(self._send("POST", self._dead("purge"), body))["count"])

    def list_trail(self, id_: str) -> list[Delivery]:
        """Everything that followed from an event or a delivery."""
        path = path_of("namespaces", self.namespace, "trail")
        return self._items(self._send("GET", path, query={"id": id_}), Delivery)[0]

    def list_triggers(self, function: str = "") -> list[TriggerStatus]:
        """Triggers of a function, or of all. NotFound when the function is absent."""
        path = path_of("namespaces", self.namespace, "triggers")
        answer = self._send("GET", path, query={"function": function} if function else {})
        return self._items(answer, TriggerStatus)[0]

    def pause_trigger(self, function: str, name: str, paused: bool) -> TriggerStatus:
        """Pause or resume a trigger. NotFound."""
        verb = "pause" if paused else "resume"
        path = path_of("namespaces", self.namespace, "functions", function, "triggers", name, verb)
        return self._one(self._send("POST", path), TriggerStatus)

    def _deliveries(self, *segments: str) -> str:
        return path_of("namespaces", self.namespace, "deliveries", *segments)

    def _dead(self, verb: str) -> str:
        return path_of("namespaces", self.namespace, "dead-letters", verb)
