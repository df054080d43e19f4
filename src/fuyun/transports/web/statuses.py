"""Which HTTP status an error has. The only table of its kind."""

from __future__ import annotations

from fuyun.domain.errors import FuyunError

#: Error code -> HTTP status. A test checks that every code of the error tree has its row.
STATUSES: dict[str, int] = {
    "error": 500,
    "caller_error": 400,
    "bad_request": 400,
    "unauthenticated": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "conflict": 409,
    "precondition_failed": 412,
    "payload_too_large": 413,
    "unsupported_media_type": 415,
    "target_too_long": 414,
    "head_too_large": 431,
    "request_timed_out": 408,
    "expectation_failed": 417,
    "unsupported": 501,
    "http_version_unsupported": 505,
    "loop_detected": 508,
    "quota_exceeded": 403,
    "throttled": 429,
    "function_error": 502,
    "function_raised": 502,
    "function_timed_out": 504,
    "function_out_of_memory": 502,
    "function_exited": 502,
    "function_load_failed": 502,
    "handler_missing": 502,
    "function_init_failed": 502,
    "response_too_large": 502,
    "bad_response": 502,
    "endpoint_failed": 502,
    "protocol_violated": 502,
    "build_failed": 422,
    "operator_error": 500,
    "host_unable": 500,
    "storage_full": 507,
    "schema_too_new": 500,
    "platform_error": 500,
    "unavailable": 503,
    "instance_lost": 503,
    "internal": 500,
}


def status_of(error: FuyunError | type[FuyunError]) -> int:
    """The HTTP status of an error or of a class of errors; a code without a row is our bug: 500."""
    return STATUSES.get(error.code, 500)
