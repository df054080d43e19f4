"""WebAssembly modules for tests: texts, and the engine that compiles them, as a deployment leaves it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fuyun.drivers.builds.modules import find_engine
from fuyun.runtime.wasm.engine import LIBRARY, Library

_WASI = {
    "args_get": "i32 i32", "args_sizes_get": "i32 i32", "clock_time_get": "i32 i64 i32", "environ_get": "i32 i32",
    "environ_sizes_get": "i32 i32", "fd_close": "i32", "fd_fdstat_get": "i32 i32", "fd_filestat_get": "i32 i32",
    "fd_prestat_get": "i32 i32", "fd_read": "i32 i32 i32 i32", "fd_seek": "i32 i64 i32 i32",
    "fd_write": "i32 i32 i32 i32", "path_open": "i32 i32 i32 i32 i32 i64 i64 i32 i32",
    "poll_oneoff": "i32 i32 i32 i32", "random_get": "i32 i32", "sched_yield": "", "sock_send": "i32 i32 i32 i32 i32",
}  # fmt: skip


def _import(name: str, parameters: str, result: str = "(result i32)") -> str:
    kinds = f"(param {parameters})" if parameters else ""
    return f'(import "wasi_snapshot_preview1" "{name}" (func ${name} {kinds} {result}))\n'


_IMPORTS = "".join(_import(name, kinds) for name, kinds in _WASI.items()) + _import("proc_exit", "i32", "")
#: Writes `size` bytes at `at` to a descriptor; reads up to `size` bytes to `at` from standard input, their number.
_HELP = """
(func $say (param $to i32) (param $at i32) (param $size i32)
  (i32.store (i32.const 0) (local.get $at)) (i32.store (i32.const 4) (local.get $size))
  (drop (call $fd_write (local.get $to) (i32.const 0) (i32.const 1) (i32.const 8))))
(func $hear (param $at i32) (param $size i32) (result i32)
  (i32.store (i32.const 0) (local.get $at)) (i32.store (i32.const 4) (local.get $size))
  (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
  (i32.load (i32.const 8)))
"""


def text(start: str, rest: str = "", pages: int = 2) -> str:
    """A module whose `_start` is `start`; `$say`, `$hear` and what WASI has are there."""
    return f'(module {_IMPORTS} (memory (export "memory") {pages}) {_HELP} {rest} (func (export "_start") {start}))'


#: Answers its standard input, whatever its length.
ECHO = text(
    """(local $size i32)
    (loop $more
      (local.set $size (call $hear (i32.const 1024) (i32.const 65536)))
      (call $say (i32.const 1) (i32.const 1024) (local.get $size))
      (br_if $more (local.get $size)))"""
)
#: Answers its variables, each with a NUL behind it.
ENVIRONMENT = text(
    """(drop (call $environ_sizes_get (i32.const 16) (i32.const 20)))
    (drop (call $environ_get (i32.const 1024) (i32.const 8192)))
    (call $say (i32.const 1) (i32.const 8192) (i32.load (i32.const 20)))"""
)
LOOP = text("(loop $on (br $on))")


def saying(words: str, to: int = 1) -> str:
    """A module that writes `words` to a descriptor."""
    said = words.encode()
    data = "".join(f"\\{byte:02x}" for byte in said)
    start = f"(call $say (i32.const {to}) (i32.const 1024) (i32.const {len(said)}))"
    return text(start, f'(data (i32.const 1024) "{data}")')


def compiled(folder: Path, module: str) -> dict[str, Any]:
    """Parts of a task for a worker that runs `module`, compiled below `folder`."""
    library = find_engine().library
    place = folder / "engine" / LIBRARY
    if not place.exists():
        place.parent.mkdir(parents=True)
        os.symlink(library, place)
    code = folder / "code"
    code.mkdir(exist_ok=True)
    loaded = Library(str(library))
    (code / "app.wat.cwasm").write_bytes(loaded.compile(loaded.new_engine(0), module.encode(), True))
    return {"runtime": "wasm", "handler": "app.wat", "layers": [str(folder / "engine")]}
