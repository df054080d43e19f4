"""Cross-origin answers by a bucket's rules. https://fetch.spec.whatwg.org/#http-cors-protocol"""

from __future__ import annotations

from fuyun.domain.bucketrules import CorsRule
from fuyun.domain.errors import Forbidden
from fuyun.domain.objects import Bucket
from fuyun.transports.s3.calls import Answer
from fuyun.transports.s3.signing import Head


def _fits(text: str, pattern: str) -> bool:
    head, star, tail = pattern.partition("*")
    if not star:
        return text == pattern
    return len(text) >= len(head) + len(tail) and text.startswith(head) and text.endswith(tail)


def _rule_of(bucket: Bucket, origin: str, method: str, headers: list[str]) -> CorsRule | None:
    for rule in bucket.rules.cors:
        if method not in rule.methods or not any(_fits(origin, pattern) for pattern in rule.origins):
            continue
        allowed = [pattern.lower() for pattern in rule.headers]
        if all(any(_fits(name, pattern) for pattern in allowed) for name in headers):
            return rule
    return None


def _headers(rule: CorsRule, origin: str) -> dict[str, str]:
    anyone = "*" in rule.origins
    headers = {
        "access-control-allow-origin": "*" if anyone else origin,
        "vary": "Origin, Access-Control-Request-Headers, Access-Control-Request-Method",
    }
    if not anyone:
        headers["access-control-allow-credentials"] = "true"
    if rule.exposed:
        headers["access-control-expose-headers"] = ", ".join(rule.exposed)
    return headers


def preflight(bucket: Bucket | None, head: Head) -> Answer:
    """The answer to what a browser asks before a request. Forbidden when no rule allows it."""
    origin, method = head.header("origin"), head.header("access-control-request-method")
    asked = [name.strip().lower() for name in head.header("access-control-request-headers").split(",") if name.strip()]
    rule = _rule_of(bucket, origin, method, asked) if bucket and origin and method else None
    if rule is None:
        raise Forbidden(
            "no CORS rule of this bucket allows the request", hint="put one that does", reason="AccessDenied"
        )
    headers = {**_headers(rule, origin), "access-control-allow-methods": ", ".join(rule.methods)}
    if asked:
        headers["access-control-allow-headers"] = ", ".join(asked)
    if rule.max_age_s is not None:
        headers["access-control-max-age"] = str(rule.max_age_s)
    return Answer(200, headers)


def answered(bucket: Bucket | None, head: Head) -> dict[str, str]:
    """Headers that let a browser's page read the answer; none where no rule allows it."""
    origin = head.header("origin")
    rule = _rule_of(bucket, origin, head.method, []) if bucket and origin else None
    return _headers(rule, origin) if rule else {}
