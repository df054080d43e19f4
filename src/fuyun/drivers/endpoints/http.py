"""`ports.endpoints.Sender` over httpcore, whose network it is given: every connection goes to an address that was
checked, whatever the name says a moment later; TLS is still for the name."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from fuyun.domain.errors import EndpointFailed, FuyunError
from fuyun.ports.endpoints import Said

if TYPE_CHECKING:
    import httpcore

#: Connections in all, and idle ones that are kept, for so many seconds.
_MOST, _KEPT, _KEPT_S = 100, 20, 30.0
#: Seconds until a connection is there.
_CONNECT_S: Final = 5.0


class HttpSender:
    """See `ports.endpoints.Sender`. httpcore is loaded by the first request."""

    def __init__(self, reach: Callable[[str, int], Awaitable[str]], context: ssl.SSLContext | None = None) -> None:
        """`reach(host, port)`: the address to connect to; Forbidden. `context`: whom TLS trusts, the host's own list
        unless it is given."""
        self._reach = reach
        self._context = context
        self._pool: httpcore.AsyncConnectionPool | None = None

    async def ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Said:
        """See `ports.endpoints.Sender.ask`."""
        import httpcore

        if self._pool is None:
            self._pool = _pool(self._reach, self._context or ssl.create_default_context())
        told = {"connect": min(_CONNECT_S, timeout_s), "read": timeout_s, "write": timeout_s, "pool": timeout_s}
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._pool.stream(
                    method, url, headers=list(headers.items()), content=body, extensions={"timeout": told}
                ) as answer,
            ):
                fields = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}
                return Said(status=answer.status, headers=fields)
        except FuyunError:
            raise
        except TimeoutError as exc:
            raise EndpointFailed(f"no answer within {timeout_s:g} s") from exc
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, OSError, ValueError) as exc:
            raise EndpointFailed(f"{type(exc).__name__}: {exc}"[:500]) from exc

    async def close(self) -> None:
        """See `ports.endpoints.Sender.close`."""
        if self._pool is not None:
            await self._pool.aclose()
            self._pool = None


def _pool(reach: Callable[[str, int], Awaitable[str]], context: ssl.SSLContext) -> httpcore.AsyncConnectionPool:
    import httpcore

    inner = httpcore.AnyIOBackend()

    class Checked(httpcore.AsyncNetworkBackend):
        async def connect_tcp(
            self, host: str, port: int, timeout: float | None = None, local_address: str | None = None,
            socket_options: Iterable[Any] | None = None,
        ) -> httpcore.AsyncNetworkStream:  # fmt: skip
            address = await reach(host, port)
            return await inner.connect_tcp(address, port, timeout, local_address, socket_options)

        async def sleep(self, seconds: float) -> None:
            await asyncio.sleep(seconds)

    return httpcore.AsyncConnectionPool(
        ssl_context=context, max_connections=_MOST, max_keepalive_connections=_KEPT, keepalive_expiry=_KEPT_S,
        network_backend=Checked(),
    )  # fmt: skip
