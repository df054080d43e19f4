"""One engine with one module, run again and again: each time a new store and a new instance, dropped at the end."""

from __future__ import annotations

import ctypes
import re
from ctypes import byref, c_uint8, c_void_p
from time import monotonic_ns

from fuyun.runtime.wasm import wasi
from fuyun.runtime.wasm.alarm import Alarm
from fuyun.runtime.wasm.engine import MEMORY, TABLE_ELEMENTS, TABLES, TRAP_INTERRUPT, TRAP_STACK, EngineError, Vector
from fuyun.runtime.wasm.wasi import Exit, Guest, Host, Late, TooLarge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

    from fuyun.runtime.wasm.engine import Library

#: What is called: the entry of a WASI command.
ENTRY = "_start"
_ENTRY = ENTRY.encode()
_FRAME = re.compile(r"\s*\d+:\s")


class Unusable(Exception):
    """The module cannot be run here. `code` is function_load_failed or handler_missing."""

    def __init__(self, message: str, code: str = "function_load_failed") -> None:
        super().__init__(message)
        self.code = code


class Failed(Exception):
    """A run that gave no answer. `code` as in `domain/errors.py`; `frames` is the module's own backtrace."""

    def __init__(self, code: str, message: str, error_type: str = "", frames: Optional[list[str]] = None) -> None:
        super().__init__(message)
        self.code = code
        self.error_type = error_type
        self.frames = frames or []


class Lane:
    """Runs one call at a time. Its memory, tables and code are made ready once and used again (the pooling allocator,
    copy-on-write images): what a run wrote is gone before the next one begins."""

    def __init__(self, library: Library, module: str, memory_bytes: int) -> None:
        """`module` is a file made by `Library.compile`. Unusable, EngineError."""
        self._library = library
        self._memory_bytes = memory_bytes
        self._engine = library.new_engine(memory_bytes)
        try:
            self._module = library.read(self._engine, module)
        except EngineError as error:
            if "memory has a minimum byte size" in str(error):
                raise Failed(
                    "function_out_of_memory", f"it starts with more memory than it may have: {error}"
                ) from None
            raise
        self.host = Host(library)
        imports = library.imports(self._module)
        _check(imports, library.exports(self._module))
        linker = library.wasmtime_linker_new(self._engine)
        self.host.define(linker, {name for _, name in imports})
        self._prepared = c_void_p()
        try:
            library.check(library.wasmtime_linker_instantiate_pre(linker, self._module, byref(self._prepared)))
        except EngineError as error:
            raise Unusable(f"the module cannot be linked: {error}") from None
        finally:
            library.wasmtime_linker_delete(linker)
        self._alarm: Optional[Alarm] = None  # made by the first run: a copy of this process would not have its timer
        self._instance = ctypes.create_string_buffer(16)
        self._item = ctypes.create_string_buffer(32)
        self._inner = ctypes.addressof(self._item) + 8
        self._trap = c_void_p()
        self._trap_at = byref(self._trap)

    def run(self, guest: Guest, deadline_ns: int) -> bytes:
        """Run the module until it ends or `deadline_ns` (monotonic) is over; its standard output. Failed, OSError."""
        alarm = self._alarm
        if alarm is None:
            alarm = self._alarm = Alarm(self._library, self._engine)
        alarm.arm(deadline_ns)
        try:
            self.instantiate(guest, deadline_ns, True)
        finally:
            alarm.disarm()
        return b"".join(guest.output)

    def instantiate(self, guest: Guest, deadline_ns: int, entry: bool = False) -> None:
        """Make an instance, run what it runs at its start and, if asked, its entry; drop it. Failed. What holds it to
        the deadline is the alarm of `run`."""
        library, host = self._library, self.host
        store = library.wasmtime_store_new(self._engine, None, None)
        context = library.wasmtime_store_context(store)
        library.wasmtime_store_limiter(store, self._memory_bytes, TABLE_ELEMENTS, 1, TABLES, 1)
        library.wasmtime_context_set_epoch_deadline(context, 1)
        host.enter(guest, context, deadline_ns)
        trap, item = self._trap, self._item
        try:
            error = library.wasmtime_instance_pre_instantiate(self._prepared, context, self._instance, self._trap_at)
            if not error and not trap.value:
                found = library.wasmtime_instance_export_get(context, self._instance, b"memory", 6, item)
                if found and item[0] == MEMORY:
                    host.remember(self._inner)
                if entry:
                    library.wasmtime_instance_export_get(context, self._instance, _ENTRY, len(_ENTRY), item)
                    error = library.wasmtime_func_call(context, self._inner, None, 0, None, 0, self._trap_at)
            if error or trap.value:
                self._end(error)
        finally:
            host.leave()
            library.wasmtime_store_delete(store)

    def _end(self, error: Optional[int]) -> None:
        """Look at how a run ended that did not return: exit 0 is an answer, all else raises Failed."""
        host = self.host
        stopped = host.stopped
        text, code = self._take(error)
        if isinstance(stopped, Exit) and stopped.status == 0:
            return
        if host.held_bytes:
            host.look()
        held = host.held_bytes
        if isinstance(stopped, TooLarge):
            guest = host.guest
            limit = guest.limit_bytes if guest is not None else 0
            raise Failed("response_too_large", f"the module wrote over {limit} bytes; raise `output` or write less")
        if isinstance(stopped, Late) or (code == TRAP_INTERRUPT and host.deadline_ns <= monotonic_ns()):
            raise Failed("function_timed_out", "the module was still running at its timeout and was cut off")
        if stopped is not None and not isinstance(stopped, Exit):
            raise stopped
        if error and "exceeds memory limits" in text:
            raise Failed("function_out_of_memory", f"it starts with more memory than it may have: {text}")
        frames, cause = _backtrace(text)
        if isinstance(stopped, Exit):
            frames, cause = [], f"it exited with status {stopped.status}"
        if 2 * held > self._memory_bytes:
            raise Failed("function_out_of_memory", self._full(cause, held), "", frames)
        if isinstance(stopped, Exit):
            raise Failed("function_exited", f"the module exited with status {stopped.status}; 0 is success")
        kind = "StackOverflow" if code == TRAP_STACK else "Trap"
        raise Failed("function_raised", f"{kind}: {cause}", kind, frames)

    def _full(self, cause: str, held: int) -> str:
        return (
            f"{cause}, holding {held // 2**20} MiB of the {self._memory_bytes // 2**20} MiB that a module may have "
            "(three quarters of `memory`); raise `memory` or use less"
        )

    def _take(self, error: Optional[int]) -> tuple[str, int]:
        """The text and the code (-1 for none) of what ended a run; both are given back."""
        library, text, code = self._library, Vector(), c_uint8()
        if error:
            try:
                library.check(error)
            except EngineError as found:
                return str(found), -1
        library.wasm_trap_message(self._trap, byref(text))
        known = library.wasmtime_trap_code(self._trap, byref(code))
        library.wasm_trap_delete(self._trap)
        self._trap.value = None
        return library.take(text).decode("utf-8", "replace").rstrip("\0"), code.value if known else -1


def _check(imports: list[tuple[str, str]], exports: list[str]) -> None:
    """Unusable when the module wants what is not there, or offers nothing to call."""
    strange = sorted({f"{module}.{name}" for module, name in imports if module != wasi.MODULE})
    if strange:
        shown = ", ".join(strange[:5]) + (" ..." if len(strange) > 5 else "")
        raise Unusable(f"the module imports {shown}; only {wasi.MODULE} is there: compile it for wasm32-wasip1")
    unknown = sorted({name for _, name in imports} - wasi.FUNCTIONS.keys())
    if unknown:
        raise Unusable(
            f"{wasi.MODULE} has no {', '.join(unknown[:5])}; the module was made for another version of WASI"
        )
    if ENTRY not in exports:
        shown = ", ".join(exports[:12]) or "nothing"
        raise Unusable(
            f"the module exports no {ENTRY}; it exports {shown}: compile it as a command, with a main function",
            "handler_missing",
        )


def _backtrace(text: str) -> tuple[list[str], str]:
    """The frames in an error's text, and its last cause."""
    lines = text.splitlines()
    frames = [line.strip() for line in lines if _FRAME.match(line)]
    _, _, causes = text.partition("Caused by:")
    found = [line.strip() for line in (causes or text).splitlines() if line.strip()]
    causes_only = [line for line in found if not _FRAME.match(line) or not frames]
    return frames, (causes_only[-1] if causes_only else text.strip()).removeprefix("wasm trap: ")
