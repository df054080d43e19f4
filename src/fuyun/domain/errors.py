"""The error tree, on one page, split by who must act.

Every error has a stable `code`, says whether a retry may help (`retryable`), and carries `detail` (what happened to
what, and what was found), `hint` (what to do next) and JSON-able `fields`. HTTP statuses live in
`transports/web/statuses.py`, CLI exit codes in `cli/exits.py`; nothing else maps errors.
"""

from __future__ import annotations

from typing import Any, ClassVar


class FuyunError(Exception):
    """Base of every error that crosses a layer. `str(error)` is its detail."""

    code: ClassVar[str] = "error"
    actor: ClassVar[str] = "platform"
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str, *, hint: str = "", **fields: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        self.fields = fields


# --- the caller must act -------------------------------------------------------------------------------------------


class CallerError(FuyunError):
    """The request is at fault; the same request fails again."""

    code = "caller_error"
    actor = "caller"


class BadRequest(CallerError):
    """Malformed or invalid input. Fields: `path` of the offending value where known."""

    code = "bad_request"


class Unauthenticated(CallerError):
    """No key, or one that is not known (any more)."""

    code = "unauthenticated"


class Forbidden(CallerError):
    """The key is known but may not do this."""

    code = "forbidden"


class NotFound(CallerError):
    """The named thing does not exist in this namespace. Fields: `kind`, `name`."""

    code = "not_found"


class MethodNotAllowed(CallerError):
    """The route exists, not for this method. Fields: `allowed`."""

    code = "method_not_allowed"


class NotAcceptable(CallerError):
    """The request's media type is not one this route takes."""

    code = "unsupported_media_type"


class Conflict(CallerError):
    """It exists already, or something else changed it meanwhile (compare-and-set)."""

    code = "conflict"


class PreconditionFailed(CallerError):
    """`If-Match` named another revision than the current one. Fields: `etag`."""

    code = "precondition_failed"


class PayloadTooLarge(CallerError):
    """The request body is over the limit. Fields: `limit_bytes`."""

    code = "payload_too_large"


class TargetTooLong(CallerError):
    """The request target (path and query) is over the limit. Fields: `limit_bytes`."""

    code = "target_too_long"


class HeadTooLarge(CallerError):
    """Request line and headers together are over the limit. Fields: `limit_bytes`."""

    code = "head_too_large"


class RequestTimedOut(CallerError):
    """The client did not finish sending its request in time. Fields: `timeout_s`."""

    code = "request_timed_out"
    retryable = True


class ExpectationFailed(CallerError):
    """`Expect` asked for something other than 100-continue."""

    code = "expectation_failed"


class Unsupported(CallerError):
    """A method, transfer coding or protocol upgrade that is not implemented here."""

    code = "unsupported"


class VersionUnsupported(CallerError):
    """An HTTP version other than 1.0 and 1.1."""

    code = "http_version_unsupported"


class LoopDetected(CallerError):
    """Functions call each other too deep, or in a circle. Fields: `depth`."""

    code = "loop_detected"


class QuotaExceeded(CallerError):
    """A quota of the namespace is used up. Fields: `quota`, `limit`."""

    code = "quota_exceeded"


class Throttled(CallerError):
    """More concurrency or rate than allowed. Fields: `retry_after_s`."""

    code = "throttled"
    retryable = True


# --- the author of the function must act ---------------------------------------------------------------------------


class FunctionError(FuyunError):
    """The function is at fault. Fields may hold `error_type`, `traceback` (the author's frames only)."""

    code = "function_error"
    actor = "author"


class FunctionRaised(FunctionError):
    """The handler raised."""

    code = "function_raised"


class FunctionTimedOut(FunctionError):
    """The handler did not answer within its timeout. Fields: `timeout_s`."""

    code = "function_timed_out"


class FunctionOutOfMemory(FunctionError):
    """The kernel killed the instance for passing its memory limit. Fields: `limit_bytes`."""

    code = "function_out_of_memory"


class FunctionExited(FunctionError):
    """The instance's process ended before it answered. Fields: `exit_code` or `signal` where known."""

    code = "function_exited"


class FunctionLoadFailed(FunctionError):
    """The handler's module cannot be imported (syntax error, import error, error at module level)."""

    code = "function_load_failed"


class HandlerMissing(FunctionError):
    """The module was imported but has no such callable. Fields: `handler`."""

    code = "handler_missing"


class FunctionInitFailed(FunctionError):
    """The initializer hook raised, or start-up passed its time limit."""

    code = "function_init_failed"


class EndpointFailed(FunctionError):
    """An HTTP endpoint that events are sent to answered with an error, or not at all. Fields: `retry_after_s`."""

    code = "endpoint_failed"


class ResponseTooLarge(FunctionError):
    """The result is over the output limit. Fields: `limit_bytes`, `size_bytes`."""

    code = "response_too_large"


class BadResponse(FunctionError):
    """The result is not JSON, text, bytes, an iterator or an HTTP response."""

    code = "bad_response"


class ProtocolViolated(FunctionError):
    """Code inside the instance broke the instance protocol (garbage frames, closed socket)."""

    code = "protocol_violated"


class BuildFailed(FunctionError):
    """Dependencies could not be resolved or built. Fields: `log` (its last lines)."""

    code = "build_failed"


# --- the operator must act -----------------------------------------------------------------------------------------


class OperatorError(FuyunError):
    """The host or its configuration is at fault."""

    code = "operator_error"
    actor = "operator"


class HostUnable(OperatorError):
    """The host cannot give what was asked for. Fields: `feature`."""

    code = "host_unable"


class StorageFull(OperatorError):
    """The data directory's disk is full or read-only; accepted work is kept, new work is refused."""

    code = "storage_full"
    retryable = True


class SchemaTooNew(OperatorError):
    """The data directory was written by a newer Fuyun."""

    code = "schema_too_new"


# --- we must act ---------------------------------------------------------------------------------------------------


class PlatformError(FuyunError):
    """Fuyun is at fault."""

    code = "platform_error"


class Unavailable(PlatformError):
    """No instance could be had in time, or the platform is draining. Fields: `retry_after_s`."""

    code = "unavailable"
    retryable = True


class InstanceLost(PlatformError):
    """The instance vanished under the request for a reason outside the function (killed, warden restarted)."""

    code = "instance_lost"
    retryable = True


class Internal(PlatformError):
    """A bug. The request id leads to the log."""

    code = "internal"
