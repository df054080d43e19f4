"""The control API's server."""

from __future__ import annotations

from fuyun.transports.api.calls import Life
from fuyun.transports.web.serving import HttpServer


class ApiServer(HttpServer):
    """The control API on one address."""

    name, option = "the API", "--api-port"

    async def stop(self, timeout_s: float) -> None:
        """End streams, accept nothing new, let running requests finish for `timeout_s`, then cut them off."""
        life: Life = self.app.state.life
        life.close_streams()
        await super().stop(timeout_s)
        await life.scope.close()
