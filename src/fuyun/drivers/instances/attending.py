"""The platform's address of an instance: its listener is asked of the warden, its credential comes with every call."""

from __future__ import annotations

import re
import socket
from functools import partial
from typing import Any

import msgspec

from fuyun.domain.deliveries import HOPS_FIELD, TRAIL_FIELD
from fuyun.domain.functions import Version
from fuyun.domain.inward import DEPTH_FIELD
from fuyun.drivers.instances.process import Process
from fuyun.ports.attending import Attendance, Attendant
from fuyun.ports.instances import Call, ReplySink

#: How a head tells its depth (`ports.instances.Head` as JSON). Quotes in what callers send are escaped there.
_DEPTH = f'["{DEPTH_FIELD}","'.encode()
_DIGITS = 3
_HOPS = re.compile(rf'\["{HOPS_FIELD}","(\d{{1,3}})"\]'.encode())
_TRAIL = re.compile(rf'\["{TRAIL_FIELD}",("(?:[^"\\]|\\.)*")\]'.encode())
#: Where a head tells its invocation (`runtime.heads`).
_ID = slice(len(b'{"id":"'), len(b'{"id":"') + 32)


def depth_of(head: bytes) -> int:
    """How deep a call stands below a request from outside; 0 where its head does not tell."""
    at = head.find(_DEPTH)
    if at < 0:
        return 0
    text = head[at + len(_DEPTH) : at + len(_DEPTH) + _DIGITS + 1].partition(b'"')[0]
    return int(text) if text.isdigit() and len(text) <= _DIGITS else 0


def chain_of(head: bytes) -> tuple[int, str]:
    """How many hops a call stands behind the first event of its trail, and that; (0, "") where its head does not
    tell."""
    hops, trail = _HOPS.search(head), _TRAIL.search(head)
    return int(hops[1]) if hops else 0, str(msgspec.json.decode(trail[1])) if trail else ""


def begin(attendant: Attendant | None, process: Process, version: Version) -> None:
    """Give a process that becomes an instance of `version` the address its permissions ask for. Unavailable."""
    if attendant is not None:
        process.attendance = attendant.attend(version, process.id, partial(_runs, process))


def _runs(process: Process, invocation: str) -> bool:
    return any(getattr(sink, "id", "") == invocation for sink in process.channel.streams.values())


def hand_out(process: Process) -> None:
    """From now on its calls come with a credential. It knows by then how calls reach it."""
    attendance, plain = process.attendance, process.invoke
    if attendance is None:
        return

    def invoke(head: bytes, body: bytes, end: bool, sink: ReplySink) -> Call:
        credential = attendance.credential(str(head[_ID], "ascii"), depth_of(head), *chain_of(head))
        return plain(b'%b,"credential":"%b"}' % (head[:-1], credential.encode()), body, end, sink)

    process.invoke = invoke


def order_of(process: Process) -> dict[str, Any] | None:
    """What the warden is to make in the network of the process: its link to the gate, and the listener."""
    attendance = process.attendance
    if attendance is None or not attendance.port:
        return process.link
    return {**(process.link or {}), "listen": attendance.port}


def variables(attendance: Attendance | None) -> dict[str, str]:
    """What its code finds in the environment."""
    return {"FUYUN_ENDPOINT": attendance.endpoint} if attendance is not None else {}


def take_listener(process: Process | None, listener: socket.socket | None) -> None:
    """The warden has made it; None: there was no descriptor left for it."""
    if listener is None:
        if process is not None:
            process.kill("no descriptors for the platform's address in it")
    elif process is None or process.attendance is None or process.gone:
        listener.close()
    else:
        process.attendance.listen(listener)
