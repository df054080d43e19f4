"""The part of the client that is about buses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from fuyun.client.calling import Caller
from fuyun.client.http import Request, path_of
from fuyun.domain.bus import Archived, Bus, Replay, Rule, TypeSeen


class BusesOfPlatform(Caller):
    """Buses of the namespace. Every method raises NotFound for a bus that is absent."""

    def list_buses(self) -> list[Bus]:
        """All, by name."""
        return self._all(self._buses(), Bus)

    def get_bus(self, bus: str) -> Bus:
        """One."""
        return self._one(self._send("GET", self._buses(bus)), Bus)

    def put_bus(self, bus: str, archive_s: float, description: str = "", *, new: bool = False) -> Bus:
        """Create it, or change it. With `new` PreconditionFailed when it is there already."""
        body = {"archive_s": archive_s, "description": description}
        headers = {"If-None-Match": "*"} if new else {}
        return self._one(self._send("PUT", self._buses(bus), body, headers=headers), Bus)

    def delete_bus(self, bus: str) -> None:
        """With its rules and its archive."""
        self._send("DELETE", self._buses(bus))

    def publish_event(self, bus: str, body: bytes, headers: Mapping[str, str]) -> list[str]:
        """Publish CloudEvents as any HTTP content mode has them; their ids. BadRequest for what is none."""
        media = headers.get("content-type", "application/json")
        rest = {name: value for name, value in headers.items() if name != "content-type"}
        answer = self._http.send(Request("POST", self._buses(bus, "events"), body, media, headers=rest))
        return [str(id_) for id_ in self._dict(answer)["ids"]]

    def list_rules(self, bus: str) -> list[Rule]:
        """All of a bus, by name."""
        return self._all(self._buses(bus, "rules"), Rule)

    def put_rule(self, bus: str, rule: str, wanted: Mapping[str, Any]) -> Rule:
        """Create or replace a rule: `wanted` has `target` and perhaps `filter`, `transform`, `enabled`, `description`.
        BadRequest names the part that is wrong."""
        return self._one(self._send("PUT", self._buses(bus, "rules", rule), dict(wanted)), Rule)

    def delete_rule(self, bus: str, rule: str) -> None:
        """NotFound when absent."""
        self._send("DELETE", self._buses(bus, "rules", rule))

    def list_types(self, bus: str) -> list[TypeSeen]:
        """Types of events that the bus has seen, by name."""
        return self._all(self._buses(bus, "types"), TypeSeen)

    def list_archive(self, bus: str, since_s: float, until_s: float, limit: int) -> list[Archived]:
        """The first `limit` events that arrived in that time."""
        query = {"since": repr(since_s), "until": repr(until_s), "limit": str(limit)}
        return self._items(self._send("GET", self._buses(bus, "archive"), query=query), Archived)[0]

    def list_replays(self, bus: str) -> list[Replay]:
        """The newest hundred, newest first."""
        return self._items(self._send("GET", self._buses(bus, "replays")), Replay)[0]

    def begin_replay(self, bus: str, since_s: float, until_s: float, target: str, filter_: Mapping[str, Any]) -> Replay:
        """Hand on a stretch of the archive again. Conflict for a bus without one."""
        body = {"since_s": since_s, "until_s": until_s, "target": target, "filter": dict(filter_)}
        return self._one(self._send("POST", self._buses(bus, "replays"), msgspec.to_builtins(body)), Replay)

    def stop_replay(self, bus: str, replay: str) -> Replay:
        """Conflict when it is over."""
        return self._one(self._send("DELETE", self._buses(bus, "replays", replay)), Replay)

    def _buses(self, *segments: str) -> str:
        return path_of("namespaces", self.namespace, "buses", *segments)
