"""The only place that asks the machine for the time."""

from __future__ import annotations

import time
from collections.abc import Callable

#: Wall clock, seconds since the epoch as a float. Used for what people and disks see.
wall_s: Callable[[], float] = time.time

#: Monotonic clock, seconds as a float. Used for every duration, deadline and timeout.
mono_s: Callable[[], float] = time.monotonic

#: Monotonic clock, nanoseconds as an int. Used where a waterfall is measured.
mono_ns: Callable[[], int] = time.monotonic_ns
