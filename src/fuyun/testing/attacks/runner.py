"""The handler: makes attempts, each in a child process of its own, and tells how they ended."""

from __future__ import annotations

import errno
import json
import os
import select
import signal

from fuyun.testing.attacks.attempt import DONE, FENCED, NEVER, NOTHING, Attempt, Nothing, all_attempts, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: The longest an attempt may take.
_PATIENCE_MS = 10_000
_NEWNS, _NEWUTS, _NEWIPC, _PRIVATE = 0x00020000, 0x04000000, 0x08000000, 0x4000 | 1 << 18


def handler(event: dict[str, Any], context: object) -> dict[str, str]:
    """`{name: outcome}`. event: `facts`; `outside`: there is no sandbox, so leave out what would do harm; `only`: the
    names of those to try; `credential`: the invocation's own, where no context has it."""
    facts = {**event["facts"], "own": event.get("credential") or getattr(context, "credential", "")}
    outcomes = {}
    for one in all_attempts().values():
        if event.get("only") and one.name not in event["only"]:
            continue
        if event.get("outside") and one.outside == NEVER:
            continue
        fenced = bool(event.get("outside")) and one.outside == FENCED
        outcomes[one.name] = _in_child(one, facts, fenced)
    return outcomes


def _in_child(one: Attempt, facts: dict[str, Any], fenced: bool) -> str:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            os.write(writer, json.dumps(_outcome(one, facts, fenced)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    try:
        ready = select.poll()
        ready.register(reader, select.POLLIN | select.POLLHUP)
        told = os.read(reader, 4096) if ready.poll(_PATIENCE_MS) else b'"it hangs"'
    finally:
        os.close(reader)
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    if told:
        return str(json.loads(told))
    code = os.waitstatus_to_exitcode(status)
    return signal.Signals(-code).name if code < 0 else f"exit {code}"


def _outcome(one: Attempt, facts: dict[str, Any], fenced: bool) -> str:
    if fenced:
        try:
            syscall("unshare", _NEWNS | _NEWUTS | _NEWIPC)
            syscall("mount", None, b"/", None, _PRIVATE, None)
        except OSError:
            return "not tried"
    try:
        one.run(facts)
    except Nothing:
        return NOTHING
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except BaseException as error:
        return f"{type(error).__name__}: {error}"[:200]
    return DONE
