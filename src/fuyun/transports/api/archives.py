"""Code archives: a zip in, an artifact named by its content out."""

from __future__ import annotations

from contextlib import aclosing

from fuyun.domain.errors import NotFound, QuotaExceeded, StorageFull
from fuyun.domain.functions import Artifact
from fuyun.transports.api.calls import Answer, Call
from fuyun.transports.api.table import ZIP, Endpoint, Success, in_namespace


async def _upload(call: Call) -> Answer:
    async with aclosing(call.pieces(call.services.limits.upload_bytes)) as pieces:
        return Answer(await call.services.deployer.upload(call.namespace, pieces))


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/v1/namespaces/{namespace}/archives",
        run=_upload,
        summary="Store a zip of code; the same content is stored once",
        permission=in_namespace("deploy"),
        tag="functions",
        request_media=ZIP,
        raw_request=True,
        successes=(Success(body=Artifact, description="stored; `digest` is what a deployment names"),),
        errors=(NotFound, QuotaExceeded, StorageFull),
    ),
)
