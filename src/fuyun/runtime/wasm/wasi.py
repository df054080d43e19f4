"""WASI preview 1 for a module that has arguments, an environment, three streams, clocks and randomness; nothing else.

There are no files and no sockets: calls about them are answered as for descriptors that are not open. Names, types and
numbers: `wasi_snapshot_preview1.witx` of the WebAssembly/WASI repository.
"""

from __future__ import annotations

import ctypes
import os
import struct
import time
from ctypes import c_ubyte, c_uint32, c_uint64, memmove

from fuyun.runtime.wasm.engine import CALLBACK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional, Union

    from fuyun.runtime.wasm.engine import Library

MODULE = "wasi_snapshot_preview1"
_BADF, _FAULT, _INVAL, _NOSYS, _NOTSUP, _SPIPE = 8, 21, 28, 52, 58, 70
_LOW = 0xFFFFFFFF
_NO_MEMORY = memoryview(b"")
_VECTOR = struct.Struct("<II")
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


class Late(Stop):
    """It slept until its deadline, and wanted to sleep on."""


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
    """The functions a module imports, for one run after another. One per engine."""

    def __init__(self, library: Library) -> None:
        self.guest: Optional[Guest] = None
        self.context = 0
        self.deadline_ns = 0
        self.memory = _NO_MEMORY
        self.held_bytes = 0  # of memory, when it was last looked at
        self.stopped: Optional[BaseException] = None  # why a call ended the module
        self._library = library
        self._exported = ctypes.create_string_buffer(24)
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
        """An argument is a cell of 16 bytes, and the result takes the place of the first one."""
        narrow = "I" not in letters
        kind: Any = c_uint32 if narrow else c_uint64
        step = 16 // ctypes.sizeof(kind)
        cells: Any = kind * (step * max(1, len(letters)))
        masks = tuple(_LOW if letter == "i" else _LOW << 32 | _LOW for letter in letters)
        host, look = self, cells.from_address
        if isinstance(action, int):
            constant = action
            action = lambda *_: constant  # noqa: E731

        def callback(_env: object, _caller: object, raw: int, _count: int) -> int:
            values = look(raw)
            try:
                if narrow:
                    code = action(host, *values[::step]) if letters else action(host)
                else:
                    code = action(host, *[value & mask for value, mask in zip(values[::step], masks)])
            except Errno as error:
                code = error.code
            except BaseException as exc:  # it must not pass through the module's frames
                host.stopped = exc
                return int(host._library.wasmtime_trap_new(b"stopped", 7))
            values[0] = code
            return 0

        return callback

    # --- the module's memory

    def enter(self, guest: Guest, context: int, deadline_ns: int) -> None:
        """A run begins. Its memory is not known yet."""
        self.guest, self.context, self.deadline_ns = guest, context, deadline_ns
        self.stopped, self.memory, self.held_bytes = None, _NO_MEMORY, 0

    def leave(self) -> None:
        """It has ended, and its memory goes away."""
        self.guest, self.memory, self.held_bytes = None, _NO_MEMORY, 0

    def remember(self, item: int) -> None:
        """The address of the `wasmtime_memory_t` that the module exports."""
        memmove(self._exported, item, len(self._exported))
        self.look()

    def look(self) -> None:
        """Take the memory as large as it is now. The pooling allocator never moves one."""
        size = self._library.wasmtime_memory_data_size(self.context, self._exported)
        base = self._library.wasmtime_memory_data(self.context, self._exported)
        self.memory = memoryview((c_ubyte * size).from_address(base)).cast("B") if size else _NO_MEMORY
        self.held_bytes = size

    def _view(self, pointer: int, size: int) -> memoryview:
        """The module's memory, of which `size` bytes at `pointer` are a part."""
        if pointer + size > self.held_bytes:
            if self.memory is not _NO_MEMORY:
                self.look()
            if pointer + size > self.held_bytes:
                raise Errno(_FAULT)
        return self.memory

    def _store(self, pointer: int, data: bytes) -> None:
        self._view(pointer, len(data))[pointer : pointer + len(data)] = data

    def _store_u32(self, pointer: int, value: int) -> None:
        _U32.pack_into(self._view(pointer, 4), pointer, value & _LOW)

    def _vectors(self, pointer: int, count: int) -> list[tuple[int, int]]:
        if count > _MOST:
            raise Errno(_INVAL)
        return list(_VECTOR.iter_unpack(self._view(pointer, 8 * count)[pointer : pointer + 8 * count]))

    @property
    def _run(self) -> Guest:
        assert self.guest is not None
        return self.guest

    # --- arguments and environment

    def _sizes(self, items: list[bytes], count: int, size: int) -> int:
        self._store_u32(count, len(items))
        self._store_u32(size, sum(map(len, items)) + len(items))
        return 0

    def _list(self, items: list[bytes], pointers: int, text: int) -> int:
        place, places = text, []
        for item in items:
            places.append(place & _LOW)
            place += len(item) + 1
        self._store(pointers, struct.pack(f"<{len(places)}I", *places))
        self._store(text, b"\0".join([*items, b""]))
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
        self._store_u32(read, total)
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
                data = bytes(self._view(pointer, size)[pointer : pointer + size])
                if descriptor == 1:
                    guest.output.append(data)
                else:
                    guest.stderr(data)
        self._store_u32(written, total)
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
        self._view(at, size)
        self._store(at, os.urandom(size))
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
        size = count * _SUBSCRIPTION_BYTES
        data = bytes(self._view(subscriptions, size)[subscriptions : subscriptions + size])
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
            left_ns = self.deadline_ns - time.monotonic_ns()
            # The module asked to sleep: WASI has no other call for it. No longer than its deadline.
            time.sleep(max(0, min(wait_ns, left_ns)) / 1e9)
            if wait_ns > left_ns:
                raise Late
            ready = [_EVENT.pack(user, 0, 0, 0, 0) for after_ns, user in clocks if after_ns <= wait_ns]
        self._store(events, b"".join(ready))
        self._store_u32(stored, len(ready))
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
