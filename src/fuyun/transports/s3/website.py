"""Buckets as websites, at `BUCKET.s3-website.DOMAIN`: no signature, no XML.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/WebsiteHosting.html
"""

from __future__ import annotations

from html import escape
from http import HTTPStatus
from urllib.parse import quote, unquote

from fuyun.domain.bucketrules import Redirect, Website
from fuyun.domain.errors import FuyunError, MethodNotAllowed, NotFound
from fuyun.domain.objects import Bucket, Object
from fuyun.transports.s3.answers import described
from fuyun.transports.s3.asking import check_read, range_of
from fuyun.transports.s3.calls import Answer, Services
from fuyun.transports.s3.errors import code_of
from fuyun.transports.s3.signing import Head


async def serve(services: Services, name: str, head: Head) -> Answer:
    """The page that is asked for, a redirect, or the website's page for an error."""
    if head.method not in ("GET", "HEAD"):
        raise MethodNotAllowed(f"a website has no {head.method}", allowed=["GET", "HEAD"], reason="MethodNotAllowed")
    bucket = services.buckets.access(None, "read objects", name)
    site = bucket.rules.website
    if site is None:
        raise NotFound(
            f"bucket {name!r} is no website", hint="put its website configuration", reason="NoSuchWebsiteConfiguration"
        )
    key = unquote(head.path)[1:]
    if site.all_to is not None:
        return _redirect(head, key, site.all_to, "")
    page = key + site.index if not key or key.endswith("/") else key
    if (early := _route(head, site, key, 0)) is not None:
        return early
    try:
        found = await services.objects.get(None, name, page)
        if found.marker:
            raise NotFound(f"there is no {page!r}", reason="NoSuchKey")
        return await _page(services, bucket, found, head)
    except FuyunError as error:
        status = code_of(error)[1]
        if status in (412, 416) or status >= 500:
            raise
        return await _failed(services, bucket, site, head, key, error)


async def _page(services: Services, bucket: Bucket, found: Object, head: Head, status: int = 200) -> Answer:
    headers = described(bucket, found)
    to = headers.pop("x-amz-website-redirect-location", "")
    if to:
        return Answer(301, {"location": to, "content-length": "0"})
    span = None
    if status == 200:
        if not check_read(head, found):
            return Answer(304, {"etag": headers["etag"]})
        span = range_of(head.header("range"), found.size_bytes)
    start, end = span or (0, found.size_bytes)
    headers["content-length"] = str(end - start)
    if span is not None:
        headers["content-range"] = f"bytes {start}-{end - 1}/{found.size_bytes}"
        status = 206
    return Answer(status, headers, services.objects.read(found, start, end))


async def _failed(services: Services, bucket: Bucket, site: Website, head: Head, key: str, error: FuyunError) -> Answer:
    code, status = code_of(error)
    if status == 404 and key and not key.endswith("/"):
        try:  # a folder without its slash
            await services.objects.get(None, bucket.name, f"{key}/{site.index}")
            return Answer(302, {"location": f"/{quote(key)}/", "content-length": "0"})
        except NotFound:
            pass
    if (late := _route(head, site, key, status)) is not None:
        return late
    if site.error:
        try:
            return await _page(
                services, bucket, await services.objects.get(None, bucket.name, site.error), head, status
            )
        except NotFound:
            pass
    phrase = HTTPStatus(status).phrase
    body = (
        f"<!doctype html><html><head><title>{status} {phrase}</title></head><body><h1>{status} {phrase}</h1>"
        f"<ul><li>Code: {code}</li><li>Message: {escape(error.detail)}</li></ul></body></html>\n"
    ).encode()
    headers = {"content-type": "text/html; charset=utf-8", "content-length": str(len(body))}
    return Answer(status, headers, body)


def _route(head: Head, site: Website, key: str, status: int) -> Answer | None:
    for route in site.routes:
        if route.status == status and key.startswith(route.prefix):
            return _redirect(head, key, route.redirect, route.prefix)
    return None


def _redirect(head: Head, key: str, to: Redirect, prefix: str) -> Answer:
    if to.key is not None:
        key = to.key
    elif to.key_prefix is not None:
        key = to.key_prefix + key.removeprefix(prefix)
    host = to.host or head.header("host")
    return Answer(to.status, {"location": f"{to.protocol or 'http'}://{host}/{quote(key)}", "content-length": "0"})
