"""The rules a bucket keeps: who may read it from a browser (CORS), what expires, its website, what it tells of."""

from __future__ import annotations

from typing import Literal

from fuyun.domain.errors import BadRequest
from fuyun.domain.events import TargetText
from fuyun.domain.functions import Wire

#: Rules of one kind in a bucket at most. S3 allows 100 for CORS and 1000 for expiry.
MOST_RULES = 100
METHODS = ("GET", "PUT", "POST", "DELETE", "HEAD")


class CorsRule(Wire, frozen=True, kw_only=True, omit_defaults=True):
    """Origins that may ask by these methods. `*` stands for any text, once per origin or header."""

    id: str = ""
    origins: tuple[str, ...]
    methods: tuple[str, ...]
    headers: tuple[str, ...] = ()
    exposed: tuple[str, ...] = ()
    max_age_s: int | None = None


class LifecycleRule(Wire, frozen=True, kw_only=True, omit_defaults=True):
    """What goes without being asked to. Days count from when the object was written; 0 and None: never."""

    id: str = ""
    enabled: bool = True
    prefix: str = ""
    tags: dict[str, str] = {}
    larger_than_bytes: int | None = None
    smaller_than_bytes: int | None = None
    days: int = 0  # until the newest version goes
    date_s: float | None = None  # or all of them from this midnight on
    noncurrent_days: int = 0  # until a version goes that is not the newest any more
    newer_noncurrent: int = 0  # of which so many are kept
    lone_markers: bool = False  # delete markers that nothing is left behind
    upload_days: int = 0  # until an upload that was not completed is aborted


class Redirect(Wire, frozen=True, kw_only=True, omit_defaults=True):
    """Where a website sends a request; "" leaves that part of the address as it is."""

    host: str = ""
    protocol: str = ""
    status: int = 301
    key: str | None = None
    key_prefix: str | None = None


class RoutingRule(Wire, frozen=True, kw_only=True, omit_defaults=True):
    """A redirect for keys that begin with `prefix`, or for answers of status `status` (0: any)."""

    prefix: str = ""
    status: int = 0
    redirect: Redirect


class Website(Wire, frozen=True, kw_only=True, omit_defaults=True):
    """A bucket as a website. With `all_to` every request is redirected to that host."""

    index: str = ""
    error: str = ""
    all_to: Redirect | None = None
    routes: tuple[RoutingRule, ...] = ()


class Notification(Wire, frozen=True, kw_only=True, omit_defaults=True):
    """Events of keys with this prefix and suffix go to `target`. `events` are S3's names: `s3:ObjectCreated:*`.

    `address` is the ARN that the client gave, and gets back.
    """

    id: str
    kind: Literal["Topic", "Queue", "CloudFunction"]
    events: tuple[str, ...]
    prefix: str = ""
    suffix: str = ""
    target: TargetText
    address: str


class Rules(Wire, frozen=True, kw_only=True, omit_defaults=True):
    """All rules of a bucket."""

    cors: tuple[CorsRule, ...] = ()
    lifecycle: tuple[LifecycleRule, ...] = ()
    website: Website | None = None
    notifications: tuple[Notification, ...] = ()
    tags: dict[str, str] = {}


def check_rules(rules: Rules) -> Rules:
    """`rules` itself, or BadRequest naming the rule that cannot be."""
    for kind in ("cors", "lifecycle", "notifications"):
        count = len(getattr(rules, kind))
        if count > MOST_RULES:
            raise BadRequest(f"{count} {kind} rules; the most is {MOST_RULES}", reason="MalformedXML")
    for cors in rules.cors:
        _check_cors(cors)
    for rule in rules.lifecycle:
        _check_lifecycle(rule)
    named = [rule.id for rule in rules.lifecycle if rule.id]
    if len(set(named)) != len(named):
        raise BadRequest("two lifecycle rules have the same ID", hint="name each once", reason="InvalidArgument")
    return rules


def _check_cors(rule: CorsRule) -> None:
    unknown = [method for method in rule.methods if method not in METHODS]
    if unknown or not rule.methods or not rule.origins:
        found = f"method {unknown[0]!r}" if unknown else "no method or no origin"
        raise BadRequest(
            f"a CORS rule has {found}",
            hint=f"name origins, and methods of {', '.join(METHODS)}",
            reason="InvalidRequest",
        )
    for text in (*rule.origins, *rule.headers):
        if text.count("*") > 1:
            raise BadRequest(f"{text!r} has more than one '*'", hint="use one at most", reason="InvalidRequest")


def _check_lifecycle(rule: LifecycleRule) -> None:
    if len(rule.id) > 255:
        raise BadRequest("a lifecycle rule's ID is up to 255 characters", reason="InvalidArgument")
    if rule.days and rule.date_s is not None:
        raise BadRequest("a lifecycle rule has both Days and Date", hint="use one of them", reason="MalformedXML")
    if rule.date_s is not None and rule.date_s % 86400:
        raise BadRequest("'Date' must be at midnight GMT", reason="InvalidArgument")
    acts = (rule.days, rule.date_s is not None, rule.noncurrent_days, rule.lone_markers, rule.upload_days)
    if not any(acts):
        raise BadRequest("a lifecycle rule does nothing", hint="say what expires", reason="MalformedXML")
    if rule.lone_markers and rule.tags:
        raise BadRequest("delete markers have no tags", hint="leave tags or markers out", reason="InvalidRequest")
