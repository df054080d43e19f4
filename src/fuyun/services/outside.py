"""What comes from systems of others and goes to them, put together."""

from __future__ import annotations

from fuyun.services.messaging import Path
from fuyun.services.tenants import Tenants
from fuyun.services.triggers.governing import Governing
from fuyun.services.webhooks import Webhooks


class Outside:
    """One per platform."""

    def __init__(self, tenants: Tenants, path: Path, governing: Governing) -> None:
        self.webhooks = Webhooks(path.invoker, path.acceptor, path.bindings, tenants, path.scope)
        governing.register("webhook", self.webhooks.times)
