"""The short-lived credentials of instances: `fc_<claims>.<tag>`, both base64url (RFC 4648 section 5) without padding.

The claims are a JSON object; the tag is HMAC-SHA-256 (RFC 2104) over the text before the dot, with a key derived from
the data directory's. Nothing is stored: what a credential allows is looked up when it is used.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode

import msgspec

from fuyun.base import clock
from fuyun.domain.errors import Unauthenticated
from fuyun.domain.functions import Wire

#: Longer ones are not looked at: names have at most 63 characters.
LONGEST = 1024
PREFIX = "fc_"
_PURPOSE = b"fuyun: credentials of functions, 1"
_HINT = "send the credential of the invocation that runs: `Authorization: Bearer` and `context.credential`"


class Claims(Wire, frozen=True, kw_only=True):
    """Whose it is, how deep its invocation stands below a request from outside, until when (epoch seconds)."""

    instance: str
    namespace: str
    function: str
    version: str  # its qualifier
    invocation: str  # the one it was given to
    depth: int
    exp: int
    hops: int = 0  # edges that lead to it; what it sends or emits goes on from there
    trail: str = ""  # id of the first event of its chain; "" where it begins one


class Credentials:
    """Issues and checks. Its `repr` shows nothing of the key."""

    def __init__(self, key: bytes, life_s: float) -> None:
        """`key`: the data directory's (`services.sealing.load_key`). `life_s`: from issue to expiry."""
        self._key = hmac.digest(key, _PURPOSE, "sha256")
        self.life_s = life_s

    def issue(self, claims: Claims) -> str:
        """The credential that says so."""
        text = PREFIX + _encode(msgspec.json.encode(claims))
        return f"{text}.{_encode(self._tag(text))}"

    def check(self, token: str, instance: str, *, expired: bool = False) -> Claims:
        """What it says, at the address of `instance`. Unauthenticated says what is wrong with it; with `expired`, that
        it expired is not."""
        if not token.startswith(PREFIX) or len(token) > LONGEST or not token.isascii():
            shown = "a key of the platform" if token.startswith("fk_") else "no credential of a function"
            raise Unauthenticated(f"what the request carries is {shown}", hint=_HINT)
        text, _, tag = token.partition(".")
        if not hmac.compare_digest(_encode(self._tag(text)), tag):
            raise Unauthenticated("the credential was changed, or made by another platform", hint=_HINT)
        claims = msgspec.json.decode(urlsafe_b64decode(text[len(PREFIX) :] + "=="), type=Claims)
        if claims.instance != instance:
            raise Unauthenticated("the credential is another instance's, and good at its address only", hint=_HINT)
        if claims.exp <= clock.wall_s() and not expired:
            raise Unauthenticated(
                f"the credential expired {clock.wall_s() - claims.exp:.0f} s ago",
                hint="while its invocation runs, POST /credential with it gives another; `fuyun.sdk` does that itself",
            )
        return claims

    def _tag(self, text: str) -> bytes:
        return hmac.digest(self._key, text.encode("ascii"), "sha256")


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
