"""What a deployment says and keeps of a version's warm-up call."""

from __future__ import annotations

from fuyun.decide import billing
from fuyun.domain.functions import Version
from fuyun.domain.invocations import Invocation, Waterfall
from fuyun.ports.instances import StartReport, WarmUpReport


def record_of(version: Version, start: StartReport, call: WarmUpReport) -> Invocation:
    """The record of the call; its attempt is 0, which no other has."""
    return Invocation(
        id=call.id, at_s=call.at_s, namespace=version.namespace, function=version.function, version=version.number,
        status="error" if call.error is not None else "ok", error=call.error.code if call.error is not None else "",
        http_status=call.http_status, attempt=0, start_kind=start.kind, instance=call.instance,
        waterfall=Waterfall(place=start.place_ms, start=start.start_ms, init=start.init_ms, run=call.run_ms),
        duration_ms=start.place_ms + start.start_ms + start.init_ms + call.run_ms, memory_peak_bytes=call.peak_bytes,
        cpu_s=call.cpu_us / 1e6, request_bytes=call.sent_bytes, response_bytes=call.answer_bytes,
        billed_gb_s=billing.call_gb_s(version.spec.memory_bytes, int(call.run_ms * 1000)),
    )  # fmt: skip


def said_of(call: WarmUpReport, required: bool) -> str:
    """The line about it, such as `warm-up call: answered in 12 ms`."""
    if call.error is None:
        return f"warm-up call: answered in {call.run_ms:.0f} ms"
    then = "" if required else "; deployed all the same (required: false)"
    return f"warm-up call: failed after {call.run_ms:.0f} ms: {call.error.code}: {call.error.detail}{then}"
