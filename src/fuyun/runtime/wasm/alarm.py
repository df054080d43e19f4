"""Cuts a module off at its deadline: a kernel timer whose end moves the engine's epoch.

The timer's thread is the C library's (SIGEV_THREAD of timer_create(2)); it exists from the first timer on, which is why
an alarm is made in the process that serves.
"""

from __future__ import annotations

import ctypes
from _thread import allocate_lock
from time import CLOCK_MONOTONIC, monotonic_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fuyun.runtime.wasm.engine import Library

_ABSOLUTE = 1  # TIMER_ABSTIME
_THREAD = 2  # SIGEV_THREAD
#: An end that found no room for its thread is tried again so soon.
_AGAIN_NS = 50_000_000
_RING = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Event(ctypes.Structure):
    """`struct sigevent`, 64 bytes."""

    _fields_ = [
        ("value", ctypes.c_void_p), ("signal", ctypes.c_int), ("notify", ctypes.c_int), ("function", _RING),
        ("attributes", ctypes.c_void_p), ("rest", ctypes.c_char * 32),
    ]  # fmt: skip


class _Times(ctypes.Structure):
    """`struct itimerspec`."""

    _fields_ = [(name, ctypes.c_long) for name in ("again_s", "again_ns", "at_s", "at_ns")]


class Alarm:
    """One per engine. `deadline_ns` (monotonic) is that of the call under way, 0 between calls."""

    def __init__(self, library: Library, engine: int) -> None:
        """OSError when the kernel gives no timer."""
        self.deadline_ns = 0
        self._lock = allocate_lock()  # between an end that comes late and the next call
        self._move = library.wasmtime_engine_increment_epoch
        self._engine = engine
        self._ring = _RING(self._on_end)
        self._timer = ctypes.c_void_p()
        self._times = _Times()
        self._none = _Times()
        c = ctypes.CDLL(None, use_errno=True)
        if not hasattr(c, "timer_create"):  # before version 2.34 of the GNU C library
            c = ctypes.CDLL("librt.so.1", use_errno=True)
        event = _Event(notify=_THREAD, function=self._ring)
        if c.timer_create(ctypes.c_int(CLOCK_MONOTONIC), ctypes.byref(event), ctypes.byref(self._timer)):
            raise OSError(ctypes.get_errno(), "timer_create failed")
        self._set = c.timer_settime
        self._set.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)

    def arm(self, deadline_ns: int) -> None:
        """The call that begins now may run until then."""
        times = self._times
        times.at_s, times.at_ns = divmod(deadline_ns, 1_000_000_000)
        times.again_ns = _AGAIN_NS
        with self._lock:
            self.deadline_ns = deadline_ns
        self._set(self._timer, _ABSOLUTE, ctypes.byref(times), None)

    def disarm(self) -> None:
        """The call has ended. An end that comes late finds no deadline, and does nothing."""
        with self._lock:
            self.deadline_ns = 0
        self._set(self._timer, 0, ctypes.byref(self._none), None)

    def _on_end(self, _: object) -> None:
        with self._lock:
            if self.deadline_ns and monotonic_ns() >= self.deadline_ns:
                self._move(self._engine)
