"""What a bucket is configured with: read, replaced and dropped by S3's documents."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from fuyun.base import ids
from fuyun.domain.bucketrules import CorsRule, LifecycleRule, Notification, Redirect, RoutingRule, Website
from fuyun.domain.errors import BadRequest, NotFound, Unsupported
from fuyun.domain.objects import BUCKET_TAGS, Bucket, Versioning
from fuyun.transports.s3.answers import xml
from fuyun.transports.s3.calls import Answer, Call
from fuyun.transports.s3.documents import Node, malformed, parse
from fuyun.transports.s3.notifying import notification_document, notifications_of
from fuyun.transports.s3.objects import tag_set, tags_of

#: Who owns an object: the bucket's owner, whoever wrote it.
OWNERSHIP = "BucketOwnerEnforced"


def _read(call: Call) -> Bucket:
    return call.services.buckets.access(call.principal, "read", call.bucket)


async def _set(call: Call, what: str, status: int = 200, **changes: Any) -> Answer:
    await call.services.buckets.set_rules(
        call.principal, call.bucket, what, lambda rules: replace(rules, **changes), call.source
    )
    return Answer(status)


def _absent(call: Call, reason: str, what: str) -> NotFound:
    detail = f"bucket {call.bucket!r} has no {what}"
    return NotFound(detail, hint=f"put its {what} first", kind=what, bucket=call.bucket, reason=reason)


async def get_versioning(call: Call) -> Answer:
    """GetBucketVersioning."""
    return xml("VersioningConfiguration", {"Status": _read(call).versioning or None})


async def put_versioning(call: Call) -> Answer:
    """PutBucketVersioning."""
    node = parse(await call.document(), "VersioningConfiguration").only("Status", "MfaDelete")
    if node.get("MfaDelete", "Disabled") != "Disabled":
        raise BadRequest("MfaDelete is not supported", hint="leave it out", reason="NotImplemented")
    wanted: Versioning = "Enabled" if node.get("Status") == "Enabled" else "Suspended"
    if node.get("Status") != wanted:
        raise malformed("Status is Enabled or Suspended")
    await call.services.buckets.set_versioning(call.principal, call.bucket, wanted, call.source)
    return Answer()


async def get_cors(call: Call) -> Answer:
    """GetBucketCors."""
    rules = _read(call).rules.cors
    if not rules:
        raise _absent(call, "NoSuchCORSConfiguration", "CORS configuration")
    shown = [
        {
            "ID": rule.id or None,
            "AllowedMethod": rule.methods,
            "AllowedOrigin": rule.origins,
            "AllowedHeader": rule.headers,
            "ExposeHeader": rule.exposed,
            "MaxAgeSeconds": rule.max_age_s,
        }
        for rule in rules
    ]
    return xml("CORSConfiguration", {"CORSRule": shown})


async def put_cors(call: Call) -> Answer:
    """PutBucketCors."""
    node = parse(await call.document(), "CORSConfiguration").only("CORSRule")
    names = ("ID", "AllowedMethod", "AllowedOrigin", "AllowedHeader", "ExposeHeader", "MaxAgeSeconds")
    rules = tuple(
        CorsRule(
            id=rule.get("ID"), methods=rule.texts("AllowedMethod"), origins=rule.texts("AllowedOrigin"),
            headers=rule.texts("AllowedHeader"), exposed=rule.texts("ExposeHeader"),
            max_age_s=rule.number("MaxAgeSeconds") if rule.get("MaxAgeSeconds", "0") != "0" else None,
        )
        for rule in (found.only(*names) for found in node.all("CORSRule"))
    )  # fmt: skip
    if not rules:
        raise malformed("there is no CORSRule")
    return await _set(call, "cors", cors=rules)


async def delete_cors(call: Call) -> Answer:
    """DeleteBucketCors."""
    return await _set(call, "no cors", 204, cors=())


async def get_tags(call: Call) -> Answer:
    """GetBucketTagging."""
    tags = _read(call).rules.tags
    if not tags:
        raise _absent(call, "NoSuchTagSet", "tags")
    return xml("Tagging", tag_set(tags))


async def put_tags(call: Call) -> Answer:
    """PutBucketTagging."""
    return await _set(call, "tags", 204, tags=tags_of(parse(await call.document(), "Tagging"), BUCKET_TAGS))


async def delete_tags(call: Call) -> Answer:
    """DeleteBucketTagging."""
    return await _set(call, "no tags", 204, tags={})


async def get_website(call: Call) -> Answer:
    """GetBucketWebsite."""
    site = _read(call).rules.website
    if site is None:
        raise _absent(call, "NoSuchWebsiteConfiguration", "website")
    content: dict[str, Any] = {
        "RedirectAllRequestsTo": {"HostName": site.all_to.host, "Protocol": site.all_to.protocol or None}
        if site.all_to
        else None,
        "IndexDocument": {"Suffix": site.index} if site.index else None,
        "ErrorDocument": {"Key": site.error} if site.error else None,
        "RoutingRules": {"RoutingRule": [_route(route) for route in site.routes]} if site.routes else None,
    }
    return xml("WebsiteConfiguration", content)


def _route(route: RoutingRule) -> dict[str, Any]:
    to = route.redirect
    condition = {"KeyPrefixEquals": route.prefix or None, "HttpErrorCodeReturnedEquals": route.status or None}
    return {
        "Condition": condition if route.prefix or route.status else None,
        "Redirect": {
            "HostName": to.host or None,
            "HttpRedirectCode": to.status,
            "Protocol": to.protocol or None,
            "ReplaceKeyPrefixWith": to.key_prefix,
            "ReplaceKeyWith": to.key,
        },
    }


async def put_website(call: Call) -> Answer:
    """PutBucketWebsite."""
    node = parse(await call.document(), "WebsiteConfiguration")
    node.only("RedirectAllRequestsTo", "IndexDocument", "ErrorDocument", "RoutingRules")
    index, error, everything = (
        node.find("IndexDocument"),
        node.find("ErrorDocument"),
        node.find("RedirectAllRequestsTo"),
    )
    routes = [_route_of(route) for rules in node.all("RoutingRules") for route in rules.all("RoutingRule")]
    site = Website(
        index=index.get("Suffix") if index else "", error=error.get("Key") if error else "",
        all_to=Redirect(host=everything.get("HostName"), protocol=everything.get("Protocol")) if everything else None,
        routes=tuple(routes),
    )  # fmt: skip
    if bool(site.index) == bool(site.all_to) or "/" in site.index:
        raise BadRequest(
            "a website has an index document, without '/', or redirects all requests", hint="give one of the two",
            reason="InvalidArgument",
        )  # fmt: skip
    return await _set(call, "website", website=site)


def _route_of(node: Node) -> RoutingRule:
    node.only("Condition", "Redirect")
    condition, redirect = node.find("Condition"), node.find("Redirect")
    if redirect is None:
        raise malformed("a RoutingRule has no Redirect")
    status = redirect.number("HttpRedirectCode") or 301
    if status not in (301, 302, 303, 307, 308):
        raise BadRequest(f"{status} is no redirect", hint="301, 302, 303, 307 or 308", reason="InvalidRequest")
    key, prefix = redirect.find("ReplaceKeyWith"), redirect.find("ReplaceKeyPrefixWith")
    to = Redirect(
        host=redirect.get("HostName"), protocol=redirect.get("Protocol"), status=status,
        key=key.text if key else None, key_prefix=prefix.text if prefix else None,
    )  # fmt: skip
    return RoutingRule(
        prefix=condition.get("KeyPrefixEquals") if condition else "",
        status=condition.number("HttpErrorCodeReturnedEquals") if condition else 0,
        redirect=to,
    )


async def delete_website(call: Call) -> Answer:
    """DeleteBucketWebsite."""
    return await _set(call, "no website", 204, website=None)


async def get_lifecycle(call: Call) -> Answer:
    """GetBucketLifecycleConfiguration."""
    rules = _read(call).rules.lifecycle
    if not rules:
        raise _absent(call, "NoSuchLifecycleConfiguration", "lifecycle")
    return xml("LifecycleConfiguration", {"Rule": [_expiry(rule) for rule in rules]})


def _expiry(rule: LifecycleRule) -> dict[str, Any]:
    bounds = {
        "Prefix": rule.prefix or None,
        "Tag": [{"Key": name, "Value": value} for name, value in rule.tags.items()],
        "ObjectSizeGreaterThan": rule.larger_than_bytes,
        "ObjectSizeLessThan": rule.smaller_than_bytes,
    }
    given = [value for value in bounds.values() if value not in (None, [])]
    several = len(given) > 1 or len(rule.tags) > 1
    date = None
    if rule.date_s is not None:
        date = datetime.fromtimestamp(rule.date_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    expires = rule.days or date or rule.lone_markers
    noncurrent = {"NoncurrentDays": rule.noncurrent_days, "NewerNoncurrentVersions": rule.newer_noncurrent or None}
    return {
        "ID": rule.id or None,
        "Filter": {"And": bounds} if several else bounds if given else {"Prefix": ""},
        "Status": "Enabled" if rule.enabled else "Disabled",
        "Expiration": {
            "Days": rule.days or None,
            "Date": date,
            "ExpiredObjectDeleteMarker": True if rule.lone_markers else None,
        }
        if expires
        else None,
        "NoncurrentVersionExpiration": noncurrent if rule.noncurrent_days else None,
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": rule.upload_days} if rule.upload_days else None,
    }


async def put_lifecycle(call: Call) -> Answer:
    """PutBucketLifecycleConfiguration."""
    node = parse(await call.document(), "LifecycleConfiguration").only("Rule")
    rules = tuple(_expiry_of(rule) for rule in node.all("Rule"))
    if not rules:
        raise malformed("there is no Rule")
    return await _set(call, "lifecycle", lifecycle=rules)


def _expiry_of(node: Node) -> LifecycleRule:
    acts = ("Expiration", "NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload")
    node.only("ID", "Filter", "Prefix", "Status", *acts)
    if node.get("Status") not in ("Enabled", "Disabled"):
        raise malformed("Status is Enabled or Disabled")
    chosen = node.find("Filter")
    if chosen is None and node.find("Prefix") is None:
        raise malformed("a Rule has no Filter")
    names = ("Prefix", "Tag", "ObjectSizeGreaterThan", "ObjectSizeLessThan")
    if chosen is not None:
        chosen = (chosen.only("And", *names).find("And") or chosen).only("And", *names)
    bounds = chosen or node
    expires = node.find("Expiration")
    noncurrent, uploads = node.find("NoncurrentVersionExpiration"), node.find("AbortIncompleteMultipartUpload")
    if expires is not None:
        expires.only("Days", "Date", "ExpiredObjectDeleteMarker")
    if noncurrent is not None:
        noncurrent.only("NoncurrentDays", "NewerNoncurrentVersions")
    return LifecycleRule(
        id=node.get("ID") or ids.new_id(),
        enabled=node.get("Status") == "Enabled",
        prefix=bounds.get("Prefix"),
        tags={tag.get("Key"): tag.get("Value") for tag in bounds.all("Tag")},
        larger_than_bytes=_size(bounds, "ObjectSizeGreaterThan"),
        smaller_than_bytes=_size(bounds, "ObjectSizeLessThan"),
        days=expires.number("Days") if expires else 0,
        date_s=_midnight(expires.get("Date")) if expires and expires.find("Date") else None,
        lone_markers=expires.get("ExpiredObjectDeleteMarker") == "true" if expires else False,
        noncurrent_days=noncurrent.number("NoncurrentDays") if noncurrent else 0,
        newer_noncurrent=noncurrent.number("NewerNoncurrentVersions") if noncurrent else 0,
        upload_days=uploads.number("DaysAfterInitiation") if uploads else 0,
    )


def _size(node: Node, name: str) -> int | None:
    text = node.get(name)
    if text and (not text.isdigit() or len(text) > 15):
        raise malformed(f"{name} is {text[:40]!r}, no number of bytes")
    return int(text) if text else None


def _midnight(text: str) -> float:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise malformed(f"Date is {text[:40]!r}, no date") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


async def delete_lifecycle(call: Call) -> Answer:
    """DeleteBucketLifecycle."""
    return await _set(call, "no lifecycle", 204, lifecycle=())


async def get_nothing(call: Call) -> Answer:
    """GetBucketLogging, GetBucketAccelerateConfiguration: of a bucket that has none, as all here."""
    _read(call)
    return xml("BucketLoggingStatus" if "logging" in call.params else "AccelerateConfiguration", {})


async def get_payer(call: Call) -> Answer:
    """GetBucketRequestPayment."""
    _read(call)
    return xml("RequestPaymentConfiguration", {"Payer": "BucketOwner"})


async def get_ownership(call: Call) -> Answer:
    """GetBucketOwnershipControls: what S3's buckets have unless they are told otherwise."""
    _read(call)
    return xml("OwnershipControls", {"Rule": [{"ObjectOwnership": OWNERSHIP}]})


async def put_ownership(call: Call) -> Answer:
    """PutBucketOwnershipControls: only what is the case."""
    node = parse(await call.document(), "OwnershipControls").only("Rule")
    wanted = [rule.get("ObjectOwnership") for rule in node.all("Rule")]
    call.services.buckets.access(call.principal, "deploy", call.bucket)
    if wanted != [OWNERSHIP]:
        raise Unsupported("only the bucket's owner owns objects", hint=OWNERSHIP, reason="NotImplemented")
    return Answer()


async def get_notifications(call: Call) -> Answer:
    """GetBucketNotificationConfiguration."""
    return xml("NotificationConfiguration", notification_document(_read(call).rules.notifications))


async def put_notifications(call: Call) -> Answer:
    """PutBucketNotificationConfiguration."""
    found: tuple[Notification, ...] = notifications_of(parse(await call.document(), "NotificationConfiguration"))
    return await _set(call, "notifications", notifications=found)
