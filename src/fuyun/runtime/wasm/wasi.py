"""WASI preview 1 for a module that has arguments, an environment, three streams, clocks and randomness; nothing else.

There are no files and no sockets: calls about them are answered as for descriptors that are not open. Names, types and
numbers: `wasi_snapshot_preview1.witx` of the WebAssembly/WASI repository.
"""

from __future__ import annotations

import ctypes
import os
import struct
import time
from ctypes import c_uint64, memmove, string_at

from fuyun.runtime.wasm.engine import CALLBACK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional, Union

    from fuyun.runtime.wasm.engine import Library

MODULE = "wasi_snapshot_preview1"
_BADF, _FAULT, _INVAL, _NOSYS, _NOTSUP, _SPIPE = 8, 21, 28, 52, 58, 70
_LOW = 0xFFFFFFFF
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")
_FDSTAT = struct.Struct("<BxHxxxxQQ")
#: What may be done with a stream: read, write, and wait for it.
_READ, _WRITE, _WAIT = 1 << 1, 1 << 6, 1 << 27
_CLOCKS = (time.CLOCK_REALTIME, time.CLOCK_MONOTONIC, time.CLOCK_PROCESS_CPUTIME_ID, time.CLOCK_THREAD_CPUTIME_ID)
_SUBSCRIPTION_BYTES, _EVENT_BYTES = 48, 32
_EVENT = struct.Struct("<QHBxxxxxQHxxxxxx")
#: (descriptor, event type) of what can be waited for: 1 is to read, 2 to write.
_STREAMS = ((0, 1), (1, 2), (2, 2))
#: Subscriptions looked at in one call, vectors of one read or write: bounds of this implementation.
_MOST = 1024


class Errno(Exception):
    """A call that fails: `code` is what the module gets."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Stop(Exception):
    """A call that ends the module."""


class Exit(Stop):
    """`proc_exit`."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class TooLarge(Stop):
    """Its standard output is over the limit."""


class Guest:
    """What one run of a module is given, and what it leaves. `stderr` gets its standard error as it is written."""

    __slots__ = ("arguments", "environment", "input", "limit_bytes", "output", "position", "stderr", "written")

    def __init__(
        self,
        arguments: list[bytes],
        environment: list[bytes],
        body: bytes,
        limit_bytes: int,
        stderr: Callable[[bytes], None],
    ) -> None:
        """`environment` as NAME=value; no item holds a NUL."""
        self.arguments = arguments
        self.environment = environment
        self.input = body
        self.position = 0
        self.output: list[bytes] = []
        self.written = 0
        self.limit_bytes = limit_bytes
        self.stderr = stderr


class Host:
    """The functions a module imports. One per engine; `guest`, `context` and `deadline_ns` are those of the run under
    way, `memory` its exported memory once it is known."""

    def __init__(self, library: Library) -> None:
        self.guest: Optional[Guest] = None
        self.context = 0
        self.deadline_ns = 0
        self.memory = ctypes.create_string_buffer(24)
        self.has_memory = False
        self.stopped: Optional[BaseException] = None  # why a call ended the module
        self._library = library
        self._kept: list[object] = []

    def define(self, linker: int, names: set[str]) -> None:
        """Give a linker those of `names` that WASI has."""
        library = self._library
        module = MODULE.encode()
        for name in sorted(names & FUNCTIONS.keys()):
            letters, action = FUNCTIONS[name]
            callback = CALLBACK(self._callback(letters, action))
            self._kept.append(callback)
            kind = library.function_type(letters, "" if name == "proc_exit" else "i")
            text = name.encode()
            library.check(
                library.wasmtime_linker_define_func_unchecked(
                    linker, module, len(module), text, len(text), kind, callback, None, None
                )
            )
            library.wasm_functype_delete(kind)

    def _callback(self, letters: str, action: Union[int, Callable[..., int]]) -> Callable[..., int]:
        masks = tuple(_LOW if letter == "i" else _LOW << 32 | _LOW for letter in letters)
        cells: Any = c_uint64 * (2 * max(1, len(letters)))
        host = self

        def callback(_env: object, _caller: object, raw: int, _count: int) -> int:
            values = cells.from_address(raw)
            try:
                if isinstance(action, int):
                    code = action
                else:
                    code = action(host, *[value & mask for value, mask in zip(values[::2], masks)])
            except Errno as error:
                code = error.code
            except BaseException as exc:  # it must not pass through the module's frames
                host.stopped = exc
                return int(host._library.wasmtime_trap_new(b"stopped", 7))
            values[0] = code
            return 0

        return callback

    # --- the module's memory

    def _at(self, pointer: int, size: int) -> int:
        """The address of `size` bytes at `pointer`, which all belong to the module."""
        if not self.has_memory or pointer + size > self._library.wasmtime_memory_data_size(self.context, self.memory):
            raise Errno(_FAULT)
        return int(self._library.wasmtime_memory_data(self.context, self.memory)) + pointer

    def _store(self, pointer: int, data: bytes) -> None:
        memmove(self._at(pointer, len(data)), data, len(data))

    def _vectors(self, pointer: int, count: int) -> list[tuple[int, int]]:
        if count > _MOST:
            raise Errno(_INVAL)
        data = string_at(self._at(pointer, 8 * count), 8 * count)
        return list(struct.iter_unpack("<II", data))

    @property
    def _run(self) -> Guest:
        assert self.guest is not None
        return self.guest

    # --- arguments and environment

    def _sizes(self, items: list[bytes], count: int, size: int) -> int:
        self._store(count, _U32.pack(len(items)))
        self._store(size, _U32.pack(sum(map(len, items)) + len(items)))
        return 0

    def _list(self, items: list[bytes], pointers: int, text: int) -> int:
        places, data = [], bytearray()
        for item in items:
            places.append(text + len(data))
            data += item + b"\0"
        self._store(pointers, struct.pack(f"<{len(places)}I", *(place & _LOW for place in places)))
        self._store(text, bytes(data))
        return 0

    def args_sizes_get(self, count: int, size: int) -> int:
        return self._sizes(self._run.arguments, count, size)

    def args_get(self, pointers: int, text: int) -> int:
        return self._list(self._run.arguments, pointers, text)

    def environ_sizes_get(self, count: int, size: int) -> int:
        return self._sizes(self._run.environment, count, size)

    def environ_get(self, pointers: int, text: int) -> int:
        return self._list(self._run.environment, pointers, text)

    # --- streams

    def fd_read(self, descriptor: int, vectors: int, count: int, read: int) -> int:
        if descriptor != 0:
            raise Errno(_BADF)
        guest, total = self._run, 0
        for pointer, size in self._vectors(vectors, count):
            piece = guest.input[guest.position : guest.position + size]
            self._store(pointer, piece)
            guest.position += len(piece)
            total += len(piece)
            if len(piece) < size:
                break
        self._store(read, _U32.pack(total))
        return 0

    def fd_write(self, descriptor: int, vectors: int, count: int, written: int) -> int:
        if descriptor not in (1, 2):
            raise Errno(_BADF)
        guest, total = self._run, 0
        for pointer, size in self._vectors(vectors, count):
            total += size
            if descriptor == 1:
                guest.written += size
                if guest.written > guest.limit_bytes:
                    raise TooLarge
            if size:
                data = string_at(self._at(pointer, size), size)
                if descriptor == 1:
                    guest.output.append(data)
                else:
                    guest.stderr(data)
        self._store(written, _U32.pack(total & _LOW))
        return 0

    def fd_fdstat_get(self, descriptor: int, status: int) -> int:
        rights = _known(descriptor)
        self._store(status, _FDSTAT.pack(0, 0, rights | _WAIT, 0))
        return 0

    def fd_filestat_get(self, descriptor: int, status: int) -> int:
        _known(descriptor)
        self._store(status, bytes(64))
        return 0

    def no_place(self, descriptor: int, *_: int) -> int:
        """Streams have no position."""
        _known(descriptor)
        return _SPIPE

    def nothing(self, descriptor: int, *_: int) -> int:
        """What does nothing to a stream."""
        _known(descriptor)
        return 0

    # --- time, randomness, the process

    def clock_res_get(self, clock: int, at: int) -> int:
        self._store(at, _U64.pack(max(1, int(time.clock_getres(_clock(clock)) * 1e9))))
        return 0

    def clock_time_get(self, clock: int, _precision: int, at: int) -> int:
        self._store(at, _U64.pack(time.clock_gettime_ns(_clock(clock))))
        return 0

    def random_get(self, at: int, size: int) -> int:
        memmove(self._at(at, size), os.urandom(size), size)
        return 0

    def sched_yield(self) -> int:
        os.sched_yield()
        return 0

    def proc_exit(self, status: int) -> int:
        raise Exit(status)

    def poll_oneoff(self, subscriptions: int, events: int, count: int, stored: int) -> int:
        """Streams are always ready; without one, wait for the earliest clock, at most until the run's deadline."""
        if not 0 < count <= _MOST:
            raise Errno(_INVAL)
        data = string_at(self._at(subscriptions, count * _SUBSCRIPTION_BYTES), count * _SUBSCRIPTION_BYTES)
        ready, clocks = [], []
        for start in range(0, len(data), _SUBSCRIPTION_BYTES):
            (user,), kind = _U64.unpack_from(data, start), data[start + 8]
            if kind == 0:
                clock, after_ns, _, flags = struct.unpack_from("<I4xQQH", data, start + 16)
                now_ns = time.clock_gettime_ns(_clock(clock))
                clocks.append((after_ns - now_ns if flags & 1 else after_ns, user))
            elif kind in (1, 2):
                (descriptor,) = _U32.unpack_from(data, start + 16)
                code = 0 if (descriptor, kind) in _STREAMS else _BADF
                room = len(self._run.input) - self._run.position if kind == 1 else 65536
                ready.append(_EVENT.pack(user, code, kind, room, 0))
            else:
                raise Errno(_INVAL)
        if not ready:
            wait_ns = max(0, min(clocks)[0])
            time.sleep(max(0, min(wait_ns, self.deadline_ns - time.monotonic_ns())) / 1e9)
            ready = [_EVENT.pack(user, 0, 0, 0, 0) for after_ns, user in clocks if after_ns <= wait_ns]
        self._store(events, b"".join(ready))
        self._store(stored, _U32.pack(len(ready)))
        return 0


def _known(descriptor: int) -> int:
    """What may be done with a descriptor that is open."""
    if descriptor > 2:
        raise Errno(_BADF)
    return _READ if descriptor == 0 else _WRITE


def _clock(number: int) -> int:
    if number >= len(_CLOCKS):
        raise Errno(_INVAL)
    return _CLOCKS[number]


#: name -> the types of its parameters, and what it does or the code it always answers.
FUNCTIONS: dict[str, tuple[str, Union[int, Callable[..., int]]]] = {
    "args_get": ("ii", Host.args_get),
    "args_sizes_get": ("ii", Host.args_sizes_get),
    "clock_res_get": ("ii", Host.clock_res_get),
    "clock_time_get": ("iIi", Host.clock_time_get),
    "environ_get": ("ii", Host.environ_get),
    "environ_sizes_get": ("ii", Host.environ_sizes_get),
    "fd_advise": ("iIIi", Host.no_place),
    "fd_allocate": ("iII", Host.no_place),
    "fd_close": ("i", Host.nothing),
    "fd_datasync": ("i", Host.nothing),
    "fd_fdstat_get": ("ii", Host.fd_fdstat_get),
    "fd_fdstat_set_flags": ("ii", Host.nothing),
    "fd_fdstat_set_rights": ("iII", Host.nothing),
    "fd_filestat_get": ("ii", Host.fd_filestat_get),
    "fd_filestat_set_size": ("iI", Host.no_place),
    "fd_filestat_set_times": ("iIIi", Host.nothing),
    "fd_pread": ("iiiIi", Host.no_place),
    "fd_prestat_dir_name": ("iii", _BADF),
    "fd_prestat_get": ("ii", _BADF),
    "fd_pwrite": ("iiiIi", Host.no_place),
    "fd_read": ("iiii", Host.fd_read),
    "fd_readdir": ("iiiIi", _BADF),
    "fd_renumber": ("ii", _NOTSUP),
    "fd_seek": ("iIii", Host.no_place),
    "fd_sync": ("i", Host.nothing),
    "fd_tell": ("ii", Host.no_place),
    "fd_write": ("iiii", Host.fd_write),
    "path_create_directory": ("iii", _BADF),
    "path_filestat_get": ("iiiii", _BADF),
    "path_filestat_set_times": ("iiiiIIi", _BADF),
    "path_link": ("iiiiiii", _BADF),
    "path_open": ("iiiiiIIii", _BADF),
    "path_readlink": ("iiiiii", _BADF),
    "path_remove_directory": ("iii", _BADF),
    "path_rename": ("iiiiii", _BADF),
    "path_symlink": ("iiiii", _BADF),
    "path_unlink_file": ("iii", _BADF),
    "poll_oneoff": ("iiii", Host.poll_oneoff),
    "proc_exit": ("i", Host.proc_exit),
    "proc_raise": ("i", _NOSYS),
    "random_get": ("ii", Host.random_get),
    "sched_yield": ("", Host.sched_yield),
    "sock_accept": ("iii", _BADF),
    "sock_recv": ("iiiiii", _BADF),
    "sock_send": ("iiiii", _BADF),
    "sock_shutdown": ("ii", _BADF),
}
