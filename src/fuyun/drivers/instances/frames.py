"""What frames from an instance hold, and what is believed of it."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from fuyun.domain import errors
from fuyun.domain.errors import FuyunError


class Problem(msgspec.Struct):
    """What an instance says of a failure; unknown fields are ignored, sizes are capped by the frame."""

    code: str
    message: str = ""
    error_type: str = ""
    traceback: list[str] = []


#: Milliseconds that something took inside: no more than a month, so that no sum of them is infinite.
_Span = Annotated[float, msgspec.Meta(ge=0, le=31 * 86_400_000)]


class Ready(msgspec.Struct):
    """What an instance says when it has loaded its function."""

    load_ms: _Span = 0.0
    init_ms: _Span = 0.0
    mode: str = "event"
    forkable: bool = False
    reason: str = ""
    hooks: list[str] = []
    modules: list[str] = []  # imported from layers; of a zygote of layers: top-level names it has
    warmed: bool = False  # it has answered the warm-up call
    altered: str = ""  # what the load changed that an import may look at


class Exited(msgspec.Struct):
    """What a template says of an instance forked from it."""

    instance: str
    status: int


class Hooked(msgspec.Struct):
    """How a lifecycle hook went."""

    ok: bool = False


class LogFrame(msgspec.Struct):
    """A line of output."""

    s: str = "stdout"
    l: str = ""  # noqa: E741  (the wire's own name)
    t: str = ""


decode_head = msgspec.json.Decoder(tuple[int, list[tuple[str, str]]]).decode
decode_problem = msgspec.json.Decoder(Problem).decode
decode_ready = msgspec.json.Decoder(Ready).decode
decode_exited = msgspec.json.Decoder(Exited).decode
decode_hooked = msgspec.json.Decoder(Hooked).decode
decode_log = msgspec.json.Decoder(LogFrame).decode
_AUTHOR_ERRORS = {
    kind.code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.FunctionError)
}


def author_error(problem: Problem) -> FuyunError:
    """The typed error of a problem an instance told; codes it may not claim become `function_error`."""
    if problem.code == errors.BadRequest.code:
        return errors.BadRequest(problem.message[:10000] or "the payload is not valid")
    kind = _AUTHOR_ERRORS.get(problem.code, errors.FunctionError)
    if problem.error_type == "MemoryError":
        kind = errors.FunctionOutOfMemory
    fields: dict[str, Any] = {}
    if problem.error_type:
        fields["error_type"] = problem.error_type[:200]
    if problem.traceback:
        fields["traceback"] = [line[:2000] for line in problem.traceback[:200]]
    return kind(problem.message[:10000] or problem.code, **fields)
