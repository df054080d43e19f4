"""The control API as one ASGI application."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from fuyun.base.tasks import Scope
from fuyun.transports.api import (
    aliases,
    archives,
    audit,
    buckets,
    buses,
    deliveries,
    endpoints,
    functions,
    groups,
    health,
    info,
    invocations,
    invoke,
    keys,
    layers,
    logs,
    metrics,
    namespaces,
    node,
    queues,
    secrets,
    streams,
    tables,
    topics,
    triggers,
    versions,
)
from fuyun.transports.api.calls import Life, Limits, Services
from fuyun.transports.api.dispatch import Envelope, PathApp, no_route
from fuyun.transports.api.table import Endpoint

__all__ = ["ENDPOINTS", "Limits", "Services", "create_app"]

log = structlog.get_logger("fuyun.api")

#: Everything the API serves, in the order of the document.
ENDPOINTS: tuple[Endpoint, ...] = (
    *info.ENDPOINTS,
    *namespaces.ENDPOINTS,
    *keys.ENDPOINTS,
    *secrets.ENDPOINTS,
    *archives.ENDPOINTS,
    *layers.ENDPOINTS,
    *buses.ENDPOINTS,
    *streams.ENDPOINTS,
    *groups.ENDPOINTS,
    *tables.ENDPOINTS,
    *buckets.ENDPOINTS,
    *functions.ENDPOINTS,
    *versions.ENDPOINTS,
    *node.ENDPOINTS,
    *aliases.ENDPOINTS,
    *invoke.ENDPOINTS,
    *invocations.ENDPOINTS,
    *deliveries.ENDPOINTS,
    *triggers.ENDPOINTS,
    *logs.ENDPOINTS,
    *queues.ENDPOINTS,
    *topics.ENDPOINTS,
    *endpoints.ENDPOINTS,
    *audit.ENDPOINTS,
    *health.ENDPOINTS,
    *metrics.ENDPOINTS,
)


def create_app(services: Services) -> Starlette:
    """The application over `services`. Serve it with `server.ApiServer`."""
    scope = Scope("api-work", lambda exc: log.error("background work of the API failed", exc_info=exc))
    life = Life(scope)
    app = Starlette(routes=_routes(services, life), middleware=[Middleware(Envelope)])
    app.router.redirect_slashes = False
    app.router.default = _nothing_here
    app.state.life = life
    return app


def _routes(services: Services, life: Life) -> Sequence[BaseRoute]:
    by_path: dict[str, list[Endpoint]] = {}
    for endpoint in ENDPOINTS:
        by_path.setdefault(endpoint.path, []).append(endpoint)
    return [Route(path, PathApp(endpoints, services, life)) for path, endpoints in by_path.items()]


async def _nothing_here(scope: AsgiScope, receive: Receive, send: Send) -> None:
    raise no_route(scope["path"])
