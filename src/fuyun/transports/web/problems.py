"""Errors as RFC 9457 problem details: the one error shape of every surface."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any

import msgspec

from fuyun.domain.errors import FuyunError
from fuyun.transports.web.statuses import status_of

PROBLEM = "application/problem+json"


def problem(error: FuyunError, request_id: str) -> dict[str, Any]:
    """Problem details: type, title, status, code, detail, hint, request_id, and the error's own fields."""
    status = status_of(error)
    shown = {name: value for name, value in error.fields.items() if value is not None}
    return {
        **shown,
        "type": f"urn:fuyun:error:{error.code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": error.code,
        "detail": error.detail,
        "hint": error.hint,
        "request_id": request_id,
    }


def problem_headers(error: FuyunError) -> dict[str, str]:
    """Headers that belong to the error's status: Allow, Retry-After, WWW-Authenticate, ETag."""
    status = status_of(error)
    headers: dict[str, str] = {}
    if status == 405:
        headers["allow"] = ", ".join(error.fields.get("allowed", ()))
    if status in (429, 503):
        headers["retry-after"] = str(max(1, math.ceil(float(error.fields.get("retry_after_s", 1)))))
    if status == 401:
        headers["www-authenticate"] = 'Bearer realm="fuyun"'
    return headers


def problem_answer(error: FuyunError, request_id: str) -> tuple[int, dict[str, str], bytes]:
    """(status, headers without the content type, body) of the answer that reports `error`."""
    return status_of(error), problem_headers(error), msgspec.json.encode(problem(error, request_id), enc_hook=str)
