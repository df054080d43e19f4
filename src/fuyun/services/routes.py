"""The routing table: which function and version a path or name means. In memory; rebuilt when the catalog changes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote

import structlog

from fuyun.decide import routing
from fuyun.domain.errors import BadRequest, Conflict, NotFound
from fuyun.domain.functions import Alias, Auth, Cors, FunctionSpec, HttpTrigger, Version
from fuyun.domain.names import LATEST, nearest
from fuyun.domain.triggers import Trigger, named
from fuyun.ports.catalog import Catalog

if TYPE_CHECKING:
    from fuyun.services.pools import Pool

_log = structlog.get_logger("fuyun.routes")
_PAGE = 1000


@dataclass
class Route:
    """Where a request goes before its version is chosen."""

    namespace: str
    function: str
    qualifier: str  # as asked: "$LATEST", "3" or an alias
    base: str  # the part of the path that named the function, without trailing slash; "" for a trigger on one path
    auth: Auth
    methods: frozenset[str]  # empty: any
    cors: Cors | None
    sticky_header: str  # lower-case header whose value pins the version, "" for none
    payload_bytes: int
    choices: list[tuple[float, Version]] = field(default_factory=list)  # (cumulative weight up to 100, version)
    pools: list[tuple[float, Pool]] = field(default_factory=list)  # the same with their pools, filled by the dispatcher
    turn: int = 0  # requests without a sticky key so far
    alias: str = ""  # the alias asked for, "" for a version
    webhook: str = ""  # the trigger whose address it is, "" for what calls the function itself

    def __post_init__(self) -> None:
        if self.qualifier != LATEST and not self.qualifier.isdigit():
            self.alias = self.qualifier

    @property
    def takes_websockets(self) -> bool:
        """Whether what answers here is a server, to which an upgraded connection can be passed."""
        return any(version.spec.is_server for _, version in self.choices)


@dataclass
class _Entry:
    versions: dict[int, Version]
    aliases: list[Alias]


class RouteTable:
    """All functions, ready to be looked up. `load` reads one function again; look-ups never wait."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._reading = asyncio.Lock()
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._routes: dict[tuple[str, str], dict[str, Route]] = {}
        self._bases: dict[str, Route] = {}
        self._exact: dict[str, Route] = {}
        self._prefixes: list[tuple[str, Route]] = []  # longest first

    async def open(self) -> None:
        """Read everything."""
        after = ""
        while True:
            page = await self._catalog.list_functions("*", after, _PAGE)
            for function in page:
                await self._read(function.namespace, function.name)
            if len(page) < _PAGE:
                break
            after = f"{page[-1].namespace}/{page[-1].name}"
        self._index()

    async def load(self, namespace: str, function: str) -> None:
        """Read one function again after it changed or went away. One after the other: what was read first could
        otherwise be stored last."""
        async with self._reading:
            await self._read(namespace, function)
            self._index()

    async def _read(self, namespace: str, function: str) -> None:
        key = (namespace, function)
        versions: dict[int, Version] = {}
        try:
            aliases = await self._catalog.list_aliases(namespace, function)
            after = -1
            while True:
                page = await self._catalog.list_versions(namespace, function, after, _PAGE)
                versions.update({version.number: version for version in page})
                if len(page) < _PAGE:
                    break
                after = page[-1].number
        except NotFound:
            self._entries.pop(key, None)
            self._routes.pop(key, None)
            return
        self._entries[key] = _Entry(versions, aliases)
        self._routes[key] = self._build(namespace, function, self._entries[key])

    def _build(self, namespace: str, function: str, entry: _Entry) -> dict[str, Route]:
        routes = {}
        for number, version in entry.versions.items():
            qualifier = LATEST if number == 0 else str(number)
            routes[qualifier] = _route(namespace, function, qualifier, [(100.0, version)], "")
        for alias in entry.aliases:
            choices = [
                (end, entry.versions[number])
                for end, number in routing.cumulate(alias.weights)
                if number in entry.versions
            ]
            if choices:
                choices[-1] = (100.0, choices[-1][1])
                routes[alias.name] = _route(namespace, function, alias.name, choices, alias.sticky_header.lower())
        return routes

    def _index(self) -> None:
        """Rebuild what depends on all functions: trigger paths. Cheap: a few thousand dictionary entries."""
        self._bases.clear()
        self._exact = {}
        prefixes: dict[str, Route] = {}
        for (namespace, function), entry in sorted(self._entries.items()):
            draft = entry.versions.get(0)
            for name, trigger in _addressed(draft.spec.triggers) if draft is not None else ():
                source = trigger.http or trigger.webhook
                if source is None:
                    continue
                target = self._routes[(namespace, function)].get(source.alias or LATEST)
                if target is None:
                    _log.warning(
                        "trigger names no alias or version", function=function, path=source.path, alias=source.alias
                    )
                    continue
                is_prefix = source.path.endswith("/*")
                table, path = (prefixes, source.path[:-2]) if is_prefix else (self._exact, source.path)
                if path in table:
                    _log.warning("two functions claim one path", path=source.path, loser=f"{namespace}/{function}")
                    continue
                table[path] = _trigger_route(target, trigger.http) if trigger.http else _webhook_route(target, name)
        self._prefixes = sorted(prefixes.items(), key=lambda item: -len(item[0]))

    # --- look-ups

    def match(self, path: str) -> Route:
        """The route of a gateway path; NotFound."""
        if path.startswith("/fn/"):
            slash = path.find("/", path.find("/", 4) + 1)
            base = path if slash < 0 else path[:slash]
            route = self._bases.get(base)
            return route if route is not None else self._match_name(base)
        found = self._exact.get(path)
        if found is not None:
            return found
        for prefix, route in self._prefixes:
            if path.startswith(prefix) and (len(path) == len(prefix) or path[len(prefix)] == "/"):
                return route
        raise NotFound(
            f"nothing answers at {path!r}",
            hint="call /fn/NAMESPACE/FUNCTION or a path a function's http trigger names; `fuyun fn list` shows them",
            kind="path",
            name=path,
        )

    def _match_name(self, base: str) -> Route:
        parts = unquote(base).split("/")
        if len(parts) != 4 or not parts[2] or not parts[3]:
            raise NotFound(
                f"{base!r} names no function", hint="write /fn/NAMESPACE/FUNCTION[:QUALIFIER]", kind="path", name=base
            )
        function, _, qualifier = parts[3].partition(":")
        found = self.resolve(parts[2], function, qualifier or LATEST)
        route = Route(
            found.namespace, found.function, found.qualifier, base, found.auth, found.methods, found.cors,
            found.sticky_header, found.payload_bytes, found.choices, found.pools,
        )  # fmt: skip
        if len(self._bases) > 10000:
            self._bases.clear()
        self._bases[base] = route
        return route

    def resolve(self, namespace: str, function: str, qualifier: str) -> Route:
        """The route of a name; NotFound, with its `namespace` and `function`. The words do not say whether the
        namespace exists."""
        routes = self._routes.get((namespace, function))
        if routes is None:
            raise NotFound(
                f"no function {namespace}/{function}",
                hint="`fuyun fn list` shows what there is; `fuyun deploy` adds it",
                kind="function",
                name=function,
                namespace=namespace,
                function=function,
            )
        route = routes.get(qualifier or LATEST)
        if route is None:
            close = nearest(qualifier, routes)
            raise NotFound(
                f"function {namespace}/{function} has no version or alias {qualifier!r}",
                hint=f"did you mean {close!r}?" if close else "`fuyun fn versions` and `fuyun alias list` show them",
                kind="qualifier",
                name=qualifier,
                namespace=namespace,
                function=function,
            )
        return route

    def check_triggers(self, namespace: str, function: str, spec: FunctionSpec) -> None:
        """Conflict when another function already answers one of the spec's trigger paths."""
        for trigger in spec.triggers:
            source = trigger.http or trigger.webhook
            if source is None:
                continue
            path = source.path
            table = dict(self._prefixes) if path.endswith("/*") else self._exact
            owner = table.get(path.removesuffix("/*"))
            if owner is not None and (owner.namespace, owner.function) != (namespace, function):
                whose = f"function {owner.function!r}" if owner.namespace == namespace else "another namespace"
                raise Conflict(f"the path {path!r} already belongs to {whose}", hint="choose another path", path=path)

    def drafts(self) -> list[tuple[str, str, FunctionSpec]]:
        """(namespace, function, spec) of every draft, in the order of their names."""
        return [(*key, entry.versions[0].spec) for key, entry in sorted(self._entries.items()) if 0 in entry.versions]

    def versions(self) -> dict[str, tuple[Version, bool]]:
        """version key -> (version, whether $LATEST or an alias sends traffic to it)."""
        found: dict[str, tuple[Version, bool]] = {}
        for key, entry in self._entries.items():
            pinned = {0}
            for alias in entry.aliases:
                pinned |= {weight.version for weight in alias.weights if weight.weight > 0}
            if entry.aliases or len(entry.versions) > 1:
                pinned -= set() if self._draft_has_trigger(key, entry) else {0}
            for number, version in entry.versions.items():
                found[version.key] = (version, number in pinned)
        return found

    @staticmethod
    def _draft_has_trigger(key: tuple[str, str], entry: _Entry) -> bool:
        """Whether the draft is what callers meet: no alias yet, or a trigger that names none."""
        draft = entry.versions.get(0)
        triggers = [t.http for t in draft.spec.triggers if t.http is not None] if draft is not None else []
        return not entry.aliases or any(not http.alias for http in triggers)

    def routes(self) -> list[Route]:
        """Every route there is, for the dispatcher to attach pools to."""
        named = [route for routes in self._routes.values() for route in routes.values()]
        return [*named, *self._exact.values(), *(route for _, route in self._prefixes)]


def _route(namespace: str, function: str, qualifier: str, choices: list[tuple[float, Version]], sticky: str) -> Route:
    payload = max(version.spec.payload_bytes for _, version in choices)
    base = f"/fn/{namespace}/{function}" + (f":{qualifier}" if qualifier != LATEST else "")
    return Route(namespace, function, qualifier, base, "key", frozenset(), None, sticky, payload, choices)


def _addressed(triggers: tuple[Trigger, ...]) -> list[tuple[str, Trigger]]:
    """Triggers with their names; those that clash, which were deployed when they might, without."""
    try:
        return named(triggers)
    except BadRequest:
        return [("", trigger) for trigger in triggers if trigger.http is not None]


def _webhook_route(target: Route, name: str) -> Route:
    return Route(
        target.namespace, target.function, target.qualifier, "", "public", frozenset({"POST", "OPTIONS"}), None, "",
        target.payload_bytes, target.choices, target.pools, webhook=name,
    )  # fmt: skip


def _trigger_route(target: Route, http: HttpTrigger) -> Route:
    methods = frozenset() if "ANY" in http.methods else frozenset(method.upper() for method in http.methods)
    # A trigger that takes everything below a path is a prefix to the function, as a mount is to an application.
    base = http.path[:-2] if http.path.endswith("/*") else ""
    return Route(
        target.namespace, target.function, target.qualifier, base, http.auth, methods, http.cors,
        target.sticky_header, target.payload_bytes, target.choices, target.pools,
    )  # fmt: skip
