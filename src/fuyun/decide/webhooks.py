"""Whether what was posted to a webhook comes from whoever knows its secret, and what it says of itself.

HMAC is the standard library's; all comparisons take the same time whatever differs.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from fuyun.domain.errors import Unauthenticated
from fuyun.domain.webhooks import Scheme, WebhookTrigger, scheme_of

#: What secrets of Standard Webhooks begin with; the rest is base64.
STANDARD_PREFIX: Final = "whsec_"
_ODD: Final = re.compile(r"[^A-Za-z0-9._:/-]+")
#: Characters of what others call their things.
_MOST: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """What a request says of itself. `id` is "" when it names none that can be told again; `body` is what is handed on,
    `is_json` whether it can be read as JSON."""

    id: str = ""
    type: str
    subject: str = ""
    content_type: str
    body: bytes
    is_json: bool


def key_of(trigger: WebhookTrigger, secret: str) -> bytes:
    """What signs, from a secret's text. ValueError when it is no secret of that scheme."""
    if trigger.scheme != "standard":
        if not secret:
            raise ValueError("it is empty")
        return secret.encode()
    try:
        key = base64.b64decode(secret.removeprefix(STANDARD_PREFIX), validate=True)
    except ValueError as exc:
        raise ValueError("it is not base64, as Standard Webhooks wants it") from exc
    if not key:
        raise ValueError("it is empty")
    return key


def verify(
    trigger: WebhookTrigger, keys: Sequence[bytes], headers: Mapping[str, str], body: bytes, now_s: float
) -> None:
    """Return when `body` was signed with one of `keys`, at a time that may be. `headers` have lower-case names.
    Unauthenticated says what is missing or wrong, and nothing of the secret."""
    scheme = scheme_of(trigger)
    name = (trigger.header or scheme.signature).lower()
    value = headers.get(name)
    if value is None:
        raise _refused(f"the request has no field {name}", trigger)
    if not scheme.text:
        _verify_token(trigger, keys, name, value)
        return
    packed = [part.strip() for part in value.split(",")] if scheme.packed else []
    time = next((part[2:] for part in packed if part.startswith("t=")), "") if packed else headers.get(scheme.time, "")
    if scheme.time or scheme.packed:
        _check_time(trigger, name if scheme.packed else scheme.time, time, now_s)
    id_ = headers.get(scheme.id, "") if "{id}" in scheme.text else ""
    if "{id}" in scheme.text and not id_:
        raise _refused(f"the request has no field {scheme.id}", trigger)
    candidates = packed if scheme.packed else value.split() if scheme.many else [value.strip()]
    given = [one[len(scheme.prefix) :] for one in candidates if one.startswith(scheme.prefix)]
    if not given:
        raise _refused(f"{name} holds nothing that begins with {scheme.prefix!r}", trigger)
    before, _, after = scheme.text.format(id=id_, time=time, body="\0").partition("\0")
    text = before.encode("utf-8", "surrogateescape") + body + after.encode()
    if not _matches([_written(scheme, hmac.digest(key, text, "sha256")) for key in keys], given):
        raise _refused(
            f"the signature in {name} is not that of the body ({len(body)} bytes) under any of the webhook's "
            f"{len(keys)} secret(s)", trigger,
        )  # fmt: skip


def _verify_token(trigger: WebhookTrigger, keys: Sequence[bytes], name: str, value: str) -> None:
    if name == "authorization":
        scheme, _, value = value.partition(" ")
        if scheme.lower() != "bearer":
            raise _refused(f"authorization is of kind {scheme[:32]!r}, not Bearer", trigger)
    if not _matches([key.decode("utf-8", "surrogateescape") for key in keys], [value.strip()]):
        raise _refused(f"the token in {name} is none of the webhook's", trigger)


def _matches(known: Sequence[str], given: Iterable[str]) -> bool:
    """Whether one of `given` is one of `known`; all are compared, whichever it is."""
    found = False
    for one in given:
        for other in known:
            found |= hmac.compare_digest(
                one.encode("utf-8", "surrogateescape"), other.encode("utf-8", "surrogateescape")
            )
    return found


def _written(scheme: Scheme, digest: bytes) -> str:
    return base64.b64encode(digest).decode() if scheme.base64 else digest.hex()


def _check_time(trigger: WebhookTrigger, name: str, text: str, now_s: float) -> None:
    if not text:
        raise _refused(f"the request has no time in {name}", trigger)
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise _refused(f"{name}: {text[:32]!r} is no time in seconds", trigger)
    off_s = now_s - int(text)
    if abs(off_s) > trigger.tolerance_s:
        where = "old" if off_s > 0 else "ahead"
        raise _refused(f"it was signed {abs(off_s):.0f} s {where}; {trigger.tolerance_s:g} s are allowed", trigger)


def _refused(text: str, trigger: WebhookTrigger) -> Unauthenticated:
    return Unauthenticated(text, hint=f"sign as scheme {trigger.scheme!r} does, with the secret both sides know")


def read(trigger: WebhookTrigger, headers: Mapping[str, str], content_type: str, body: bytes) -> Posted:
    """What was posted says of itself. Never fails: what cannot be read is handed on as bytes."""
    scheme = scheme_of(trigger)
    media = content_type.partition(";")[0].strip().lower()
    told: Any = None
    is_json = media == "application/json" or media.endswith("+json") or not media
    if is_json:
        try:
            told = msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            is_json = False
    id_ = headers.get(scheme.id, "") if scheme.id else _at(told, scheme.id_path)
    if not id_ and scheme.text and (scheme.time or scheme.packed):
        id_ = hashlib.sha256(headers.get(scheme.signature, "").encode("utf-8", "surrogateescape")).hexdigest()
    kind = headers.get(scheme.kind, "").removesuffix(" Hook").lower().replace(" ", "_") if scheme.kind else ""
    named = [_at(told, path) for path in scheme.kind_paths]
    parts = [kind, *named] if scheme.kind else [next(filter(None, named), "")]
    words = [_ODD.sub("-", one)[:_MOST] for one in (scheme.type, *parts) if one]
    return Posted(
        id=id_ if len(id_) <= _MOST else hashlib.sha256(id_.encode("utf-8", "surrogateescape")).hexdigest(),
        type=".".join(words if any(parts) else [*words, "webhook.received"]),
        subject=_at(told, scheme.subject_path)[:_MOST], is_json=is_json,
        content_type=content_type or ("application/json" if is_json else "application/octet-stream"), body=body,
    )  # fmt: skip


def _at(told: Any, path: str) -> str:
    """The text at a path of members, "" when there is none."""
    for name in path.split(".") if path else ():
        told = told.get(name) if isinstance(told, dict) else None
    return told if path and isinstance(told, str) else ""


def challenge(trigger: WebhookTrigger, headers: Mapping[str, str], posted: Posted) -> bytes | None:
    """What answers a request that only asks whether somebody listens; None for one that tells something."""
    if trigger.scheme == "github" and headers.get("x-github-event") == "ping":
        return b'{"ping":true}'
    if trigger.scheme == "slack" and posted.type == "com.slack.url_verification":
        told = msgspec.json.decode(posted.body)
        return msgspec.json.encode({"challenge": told.get("challenge", "")})
    return None
