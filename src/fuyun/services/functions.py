"""Functions after they are deployed: listed, published, routed by aliases, rolled back, deleted.

Changes take the principal that asks and the address it asks from, check what it may do, are written in one transaction
with their audit entry, and have reached the routes when they return. Reads take no principal: whoever offers them
checks (`Principal.require`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fuyun.base import clock
from fuyun.domain.errors import BadRequest, Conflict, NotFound
from fuyun.domain.functions import Alias, Function, Version, Weight
from fuyun.domain.names import check_name, nearest
from fuyun.domain.specs import check_weights
from fuyun.domain.tenants import Principal
from fuyun.ports.catalog import Catalog
from fuyun.services.tenants import Tenants, entry_of

_PAGE = 500


class Functions:
    """One per platform."""

    def __init__(
        self,
        catalog: Catalog,
        tenants: Tenants,
        on_change: Callable[[str, str], Awaitable[None]],
        forget: Callable[[str], None],
    ) -> None:
        """`on_change(namespace, function)` brings the routes up to date; `forget(version_key)` drops what is kept warm
        of a version that will not serve again (`ports.instances.InstanceHost.forget`)."""
        self._catalog = catalog
        self._tenants = tenants
        self._on_change = on_change
        self._forget = forget

    # --- functions and versions ------------------------------------------------------------------------------------

    async def list_functions(self, namespace: str, after: str = "", limit: int = 100) -> list[Function]:
        """A page of functions by name. NotFound when the namespace is absent."""
        await self._tenants.get_namespace(namespace)
        return await self._catalog.list_functions(namespace, after, limit)

    async def get_function(self, namespace: str, function: str) -> Function:
        """NotFound names the nearest function there is."""
        try:
            return await self._catalog.get_function(namespace, function)
        except NotFound as exc:
            names = [item.name for item in await self._catalog.list_functions(namespace, limit=_PAGE)]
            close = nearest(function, names)
            raise NotFound(
                exc.detail, hint=f"did you mean {close!r}?" if close else exc.hint, kind="function", name=function
            ) from exc

    async def delete_function(self, principal: Principal, namespace: str, function: str, source: str = "") -> None:
        """Delete with all versions and aliases; its running instances end. NotFound when absent."""
        principal.require("delete", namespace)
        keys = [version.key for version in await self._all_versions(namespace, function)]
        entry = entry_of(principal, namespace, "function.delete", function, source)
        await self._catalog.delete_function(namespace, function, entry)
        await self._on_change(namespace, function)
        for key in keys:
            self._forget(key)

    async def list_versions(self, namespace: str, function: str, after: int = -1, limit: int = 100) -> list[Version]:
        """A page of versions, the draft first. NotFound when the function is absent."""
        return await self._catalog.list_versions(namespace, function, after, limit)

    async def get_version(self, namespace: str, function: str, number: int) -> Version:
        """Version `number` (0 is the draft). NotFound when absent."""
        return await self._catalog.get_version(namespace, function, number)

    async def publish(
        self, principal: Principal, namespace: str, function: str, description: str = "", source: str = ""
    ) -> Version:
        """Freeze the draft as the next version; an unchanged draft gives the version it already is. NotFound."""
        principal.require("deploy", namespace)
        version = await self._catalog.publish(
            namespace, function, description, clock.wall_s(),
            lambda made: entry_of(principal, namespace, "function.publish", function, source, made.qualifier),
        )  # fmt: skip
        await self._on_change(namespace, function)
        return version

    # --- aliases ---------------------------------------------------------------------------------------------------

    async def list_aliases(self, namespace: str, function: str) -> list[Alias]:
        """All of the function, by name. NotFound when it is absent."""
        return await self._catalog.list_aliases(namespace, function)

    async def get_alias(self, namespace: str, function: str, name: str) -> Alias:
        """NotFound names the nearest alias there is."""
        aliases = {alias.name: alias for alias in await self._catalog.list_aliases(namespace, function)}
        if name in aliases:
            return aliases[name]
        close = nearest(name, aliases)
        known = f"it has {', '.join(aliases)}" if aliases else "it has none"
        raise NotFound(
            f"function {namespace}/{function} has no alias {name!r}; {known}",
            hint=f"did you mean {close!r}?" if close else "set it: fuyun alias set",
            kind="alias",
            name=name,
        )

    async def set_alias(
        self,
        principal: Principal,
        namespace: str,
        function: str,
        name: str,
        weights: tuple[Weight, ...],
        sticky_header: str = "",
        expected_revision: int | None = None,
        source: str = "",
    ) -> Alias:
        """Create or move an alias; requests that arrive after it returned meet the new weights.

        `expected_revision` 0 means "must not exist", another one what it must be at (PreconditionFailed). BadRequest,
        NotFound for a function or version that is absent.
        """
        principal.require("deploy", namespace)
        check_name("alias", name)
        check_weights(weights)
        if sticky_header and not sticky_header.replace("-", "").isalnum():
            raise BadRequest(f"{sticky_header!r} is no header's name", hint="write x-user-id", path="sticky_header")
        alias = await self._catalog.put_alias(
            namespace,
            function,
            name,
            weights,
            clock.wall_s(),
            sticky_header=sticky_header.lower(),
            expected_revision=expected_revision,
            entry=entry_of(principal, namespace, "alias.set", function, source, f"{name} {written(weights)}"),
        )
        await self._on_change(namespace, function)
        return alias

    async def delete_alias(
        self,
        principal: Principal,
        namespace: str,
        function: str,
        name: str,
        expected_revision: int | None = None,
        source: str = "",
    ) -> None:
        """NotFound when absent, PreconditionFailed when it is not at `expected_revision`. Its versions stay."""
        principal.require("deploy", namespace)
        await self.get_alias(namespace, function, name)
        entry = entry_of(principal, namespace, "alias.delete", function, source, name)
        await self._catalog.delete_alias(namespace, function, name, expected_revision, entry)
        await self._on_change(namespace, function)

    async def rollback(
        self,
        principal: Principal,
        namespace: str,
        function: str,
        name: str,
        expected_revision: int | None = None,
        source: str = "",
    ) -> Alias:
        """Point the alias back at what it served before; once more undoes that.

        Conflict when it never served anything else; PreconditionFailed when it is not at `expected_revision`, or was
        moved by another hand meanwhile. NotFound.
        """
        principal.require("deploy", namespace)
        alias = await self.get_alias(namespace, function, name)
        if not alias.previous:
            raise Conflict(
                f"alias {name!r} of {namespace}/{function} has served nothing but {written(alias.weights)}",
                hint="name a version instead: fuyun alias set",
                alias=name,
            )
        detail = f"{name} {written(alias.weights)} -> {written(alias.previous)}"
        moved = await self._catalog.put_alias(
            namespace,
            function,
            name,
            alias.previous,
            clock.wall_s(),
            sticky_header=alias.sticky_header,
            expected_revision=alias.revision if expected_revision is None else expected_revision,
            entry=entry_of(principal, namespace, "alias.rollback", function, source, detail),
        )
        await self._on_change(namespace, function)
        return moved

    async def _all_versions(self, namespace: str, function: str) -> list[Version]:
        found: list[Version] = []
        after = -1
        while page := await self._catalog.list_versions(namespace, function, after, _PAGE):
            found += page
            after = page[-1].number
        return found


def written(weights: tuple[Weight, ...]) -> str:
    """Weights as the command line writes them: `3`, or `3=90 4=10`."""
    if len(weights) == 1:
        return str(weights[0].version or "$LATEST")
    return " ".join(f"{weight.version or '$LATEST'}={weight.weight:g}" for weight in weights)
