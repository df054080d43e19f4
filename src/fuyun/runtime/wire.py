"""Frames between the platform and an instance, over one Unix stream socket.

A frame is a 12-byte little-endian header `length u32, kind u8, flags u8, reserved u16, stream u32` and `length` bytes
of payload. `stream` numbers an invocation on its connection (the platform counts from 1); 0 is the instance itself.
Both sides may interleave streams. Source of the numbers: `docs/contracts/runtime.md`, section "Frames".

Flow control: each direction of each stream starts with a window of `WINDOW` bytes of BODY (request) or CHUNK (answer)
payload; the receiver returns room with CREDIT. INVOKE and RESULT bodies do not count against the window.
"""

import struct

HEADER = struct.Struct("<IBBHI")
HEADER_SIZE = 12
WINDOW = 256 * 1024
#: A frame longer than this is a protocol violation (either side drops the connection).
MAX_FRAME = 64 * 1024 * 1024
#: Bytes to read at once.
RECEIVE = 64 * 1024
META = struct.Struct("<I")
#: run time in µs, CPU time in µs, peak resident memory in KiB; starts RESULT and END payloads.
USAGE = struct.Struct("<III")

END = 1  # flags: the body of this direction is complete with this frame

# platform -> instance
SPECIALIZE = 1  # JSON: what to become, see `runtime.worker.Task`
INVOKE = 2  # META length, JSON Head (ports/instances.py), body bytes; END when the body is complete
BODY = 3  # request body bytes
CREDIT = 4  # META: bytes of room returned (both directions use this kind)
CANCEL = 5  # the caller is gone
HOOK = 6  # JSON {"hook": "pre_stop" | "pre_freeze"}; answered by HOOKED

# instance -> platform
READY = 16  # JSON: {"init_ms", "load_ms", "mode", "forkable", "reason", ...}
FAILED = 17  # JSON Problem: start-up failed; the instance ends after it
RESULT = 18  # USAGE, META length, JSON [status, [[name, value]...]] (or length 0: 200, JSON), body
HEAD = 19  # JSON [status, [[name, value]...]]: a streamed answer begins
CHUNK = 20  # a piece of it
FINISH = 21  # USAGE: the streamed answer is complete
ERROR = 22  # USAGE, JSON Problem: {"code", "message", "error_type", "traceback": [..]}; code as in domain/errors.py
LOG = 23  # JSON {"s": "stdout"|"stderr"|"log", "l": level, "t": text}
EXITED = 25  # from a template: JSON {"instance", "status"}: how an instance forked from it ended (as waitpid says)
HOOKED = 24  # JSON {"ok": true} or Problem


def frame(kind: int, stream: int, payload: bytes = b"", flags: int = 0) -> bytes:
    """One frame as bytes."""
    return HEADER.pack(len(payload), kind, flags, 0, stream) + payload
