"""What a namespace and a function may use: admission on the invoke path, checks when something is added.

Concurrency is counted in `Gate`s owned by the services (one per namespace, one per function); a request passes both or
none. Quotas of things that are kept are checked against what the caller counted.
"""

from __future__ import annotations

from typing import Literal

from fuyun.domain.errors import Internal, QuotaExceeded, Throttled
from fuyun.domain.tenants import Quotas

Refusal = Literal["namespace_concurrency", "function_concurrency"]

_EXPLAINED: dict[str, tuple[str, str]] = {
    "namespace_concurrency": (
        "the namespace has {limit} requests inside functions, as many as it may",
        "retry after {retry:g} s, or raise the namespace's `concurrency` quota",
    ),
    "function_concurrency": (
        "{limit} requests run or wait in this function, as many as it may hold",
        "retry after {retry:g} s, or raise the function's `max_instances` or `concurrency`",
    ),
}


class Gate:
    """Counts what is inside against a limit. `limit` may be changed at any time; nothing inside is thrown out."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0


def admit(namespace: Gate, function: Gate) -> Refusal | None:
    """Count one request into both gates, or into neither and say which one is full."""
    if namespace.used >= namespace.limit:
        return "namespace_concurrency"
    if function.used >= function.limit:
        return "function_concurrency"
    namespace.used += 1
    function.used += 1
    return None


def release(namespace: Gate, function: Gate) -> None:
    """Take one admitted request out of both gates. Internal when none is inside."""
    if namespace.used <= 0 or function.used <= 0:
        raise Internal(
            f"released more requests than were admitted ({namespace.used} in the namespace, {function.used} in the"
            " function)",
            hint="this is a bug in the invoke path; report it with the request id",
        )
    namespace.used -= 1
    function.used -= 1


def throttled(refusal: Refusal, limit: float, retry_after_s: float = 1.0) -> Throttled:
    """The error for a refusal. Fields `retry_after_s`, `limit`, `reason`."""
    detail, hint = _EXPLAINED[refusal]
    return Throttled(
        detail.format(limit=f"{limit:g}"),
        hint=hint.format(retry=retry_after_s),
        retry_after_s=retry_after_s,
        limit=limit,
        reason=refusal,
    )


def room(quotas: Quotas, instances: int, memory_bytes: int, each_bytes: int, most: int) -> int:
    """How many more instances may start now.

    instances, memory_bytes: what the namespace runs, and the sum of its limits. each_bytes: the limit of one more.
    most: what else bounds it, such as `max_instances` less the function's own.
    """
    by_memory = (quotas.memory_bytes - memory_bytes) // each_bytes
    return max(0, min(most, quotas.instances - instances, by_memory))


def check_functions(quotas: Quotas, existing: int) -> None:
    """QuotaExceeded when one more function is one too many."""
    if existing + 1 > quotas.functions:
        raise _exceeded("functions", quotas.functions, f"the namespace has {existing} functions", "delete one")


def check_storage(quotas: Quotas, used_bytes: int, adding_bytes: int) -> None:
    """QuotaExceeded when `adding_bytes` more code and layers do not fit. Adding nothing always fits."""
    if adding_bytes > 0 and used_bytes + adding_bytes > quotas.storage_bytes:
        found = f"{adding_bytes} bytes do not fit beside the {used_bytes} stored"
        raise _exceeded("storage_bytes", quotas.storage_bytes, found, "delete functions or make the code smaller")


def check_queues(quotas: Quotas, existing: int) -> None:
    """QuotaExceeded when one more queue is one too many."""
    if existing + 1 > quotas.queues:
        raise _exceeded("queues", quotas.queues, f"the namespace has {existing} queues", "delete one")


def check_messages(quotas: Quotas, messages: int, bytes_: int) -> None:
    """QuotaExceeded when the namespace's queues may not hold that much."""
    if messages > quotas.queue_messages:
        found = f"its queues would hold {messages} messages"
        raise _exceeded("queue_messages", quotas.queue_messages, found, "receive and acknowledge some")
    if bytes_ > quotas.queue_bytes:
        found = f"the messages would have {bytes_} bytes"
        raise _exceeded("queue_bytes", quotas.queue_bytes, found, "receive and acknowledge some")


def check_topics(quotas: Quotas, existing: int) -> None:
    """QuotaExceeded when one more topic is one too many."""
    if existing + 1 > quotas.topics:
        raise _exceeded("topics", quotas.topics, f"the namespace has {existing} topics", "delete one")


def check_buses(quotas: Quotas, existing: int) -> None:
    """QuotaExceeded when one more bus is one too many."""
    if existing + 1 > quotas.buses:
        raise _exceeded("buses", quotas.buses, f"the namespace has {existing} buses", "delete one")


def _exceeded(quota: str, limit: int, found: str, remedy: str) -> QuotaExceeded:
    return QuotaExceeded(
        f"quota {quota!r} of {limit} is used up: {found}",
        hint=f"{remedy}, or ask an admin to raise the quota",
        quota=quota,
        limit=limit,
    )
