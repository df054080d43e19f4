"""How drivers check who a broker is, over TLS."""

from __future__ import annotations

import ssl

from fuyun.domain.errors import Unavailable
from fuyun.ports.brokers import Source


def context_of(source: Source) -> ssl.SSLContext | None:
    """The TLS that the source's address asks for; None for none. Unavailable when its certificates cannot be read."""
    if not source.address.secure:
        return None
    try:
        return ssl.create_default_context(cadata=source.authorities or None)
    except ssl.SSLError as exc:
        raise Unavailable(
            f"the secret {source.trigger.ca!r} holds no certificates: {exc}", hint="put them in as PEM"
        ) from exc
