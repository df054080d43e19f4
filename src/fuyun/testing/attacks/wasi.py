"""Attempts of a WebAssembly module: at what WASI gives it, at the memory it runs in, and at more than its share.

All are functions of one module, `MODULE`, whose standard input is the letter of the one to try. A function gives the
number of an error (WASI preview 1, `errno`), 0 for done; what traps or is cut off the platform answers with a code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: WASI's error numbers by name, as far as attempts give them. ENOENT and ENOMEM are said by attempts themselves: what
#: was looked for is not there; no more memory is given.
ERRNO: Final = {0: "done", 8: "EBADF", 21: "EFAULT", 28: "EINVAL", 44: "nothing", 48: "ENOMEM", 52: "ENOSYS",
                54: "ENOTDIR", 58: "ENOTSUP", 76: "ENOTCAPABLE"}  # fmt: skip
#: Limits the function of `MODULE` is deployed with, which attempts are to meet.
SPEC: Final = {"runtime": "wasm", "handler": "app.wat", "memory_bytes": 64 << 20, "timeout_s": 1.0,
               "output_bytes": 1 << 20}  # fmt: skip


@dataclass(frozen=True)
class Wasi:
    """One attempt: `body` is a function's text, which gives an i32, `refused` the outcomes that are right."""

    name: str
    subject: str
    tries: str
    refused: tuple[str, ...]
    why: str
    body: str


WASI: Final[dict[str, Wasi]] = {}


def _add(subject: str, name: str, tries: str, refused: str, why: str, body: str) -> None:
    WASI[name] = Wasi(name, subject, tries, tuple(refused.split()), why, body)


_TYPES = {"i": "i32", "I": "i64"}
_IMPORTED = {
    "fd_read": "iiii", "fd_write": "iiii", "fd_prestat_get": "ii", "fd_fdstat_get": "ii", "fd_readdir": "iiiIi",
    "fd_renumber": "ii", "fd_pread": "iiiIi", "path_open": "iiiiiIIii", "path_symlink": "iiiii",
    "path_rename": "iiiiii",
    "path_unlink_file": "iii", "sock_accept": "iii", "sock_recv": "iiiiii", "sock_send": "iiiii", "proc_raise": "i",
    "random_get": "ii", "environ_get": "ii", "poll_oneoff": "iiii",
}  # fmt: skip


def _imports() -> str:
    return "".join(
        f'(import "wasi_snapshot_preview1" "{name}" (func ${name} (param {" ".join(_TYPES[one] for one in letters)}) '
        "(result i32)))\n"
        for name, letters in _IMPORTED.items()
    )


def _each(call: str, first: int = 3, last: int = 1023) -> str:
    """The first success of `call`, which may use $fd, over descriptors; else the last error."""
    return f"""(local $fd i32) (local $got i32)
    (local.set $fd (i32.const {first}))
    (loop $next
      (local.set $got {call})
      (if (i32.eqz (local.get $got)) (then (return (i32.const 0))))
      (local.set $fd (i32.add (local.get $fd) (i32.const 1)))
      (br_if $next (i32.le_u (local.get $fd) (i32.const {last}))))
    (local.get $got)"""


_NONE = "there are no files and no sockets: what WASI has for them knows no descriptor but the three streams"
_BOUNDS = "every pointer is looked at before it is used"
_MACHINE = "the machine code checks it, or its page is not there"
_FILES, _GIVEN, _MEMORY, _SHARE = "files and sockets", "pointers it gives", "its own machine", "more than its share"

_add(
    _FILES,
    "preopened folders",
    "find a folder that was opened for it",
    "EBADF",
    _NONE,
    _each("(call $fd_prestat_get (local.get $fd) (i32.const 64))", 0),
)
_add(
    _FILES,
    "open a file",
    "open etc/passwd below any descriptor",
    "EBADF ENOTDIR",
    _NONE,
    _each(
        "(call $path_open (local.get $fd) (i32.const 1) (i32.const 512) (i32.const 10) (i32.const 0) (i64.const -1)"
        " (i64.const -1) (i32.const 0) (i32.const 64))",
        0,
    ),
)
_add(
    _FILES,
    "climb with ..",
    "open ../../../etc/passwd below any descriptor",
    "EBADF ENOTDIR",
    _NONE,
    _each(
        "(call $path_open (local.get $fd) (i32.const 1) (i32.const 528) (i32.const 19) (i32.const 0) (i64.const -1)"
        " (i64.const -1) (i32.const 0) (i32.const 64))",
        0,
    ),
)
_add(
    _FILES,
    "absolute path",
    "open /proc/self/environ below any descriptor",
    "EBADF ENOTDIR",
    _NONE,
    _each(
        "(call $path_open (local.get $fd) (i32.const 1) (i32.const 560) (i32.const 18) (i32.const 0) (i64.const -1)"
        " (i64.const -1) (i32.const 0) (i32.const 64))",
        0,
    ),
)
_add(
    _FILES,
    "list a folder",
    "list what any descriptor leads to",
    "EBADF ENOTDIR",
    _NONE,
    _each("(call $fd_readdir (local.get $fd) (i32.const 1024) (i32.const 4096) (i64.const 0) (i32.const 64))", 0),
)
_add(
    _FILES,
    "make a link",
    "make a symbolic link below any descriptor",
    "EBADF ENOTDIR",
    _NONE,
    _each("(call $path_symlink (i32.const 560) (i32.const 18) (local.get $fd) (i32.const 512) (i32.const 3))", 0),
)
_add(
    _FILES,
    "rename or remove",
    "rename, then remove, a file below any descriptor",
    "EBADF ENOTDIR",
    _NONE,
    _each(
        "(i32.and (call $path_rename (local.get $fd) (i32.const 512) (i32.const 3) (local.get $fd) (i32.const 560)"
        " (i32.const 5)) (call $path_unlink_file (local.get $fd) (i32.const 512) (i32.const 3)))",
        0,
    ),
)
_add(
    _FILES,
    "descriptors of its process",
    "find a descriptor above its three streams",
    "EBADF",
    _NONE,
    _each("(call $fd_fdstat_get (local.get $fd) (i32.const 64))"),
)
_add(
    _FILES,
    "read what others hold",
    "read from a descriptor of the process it runs in",
    "EBADF",
    _NONE,
    _each("(call $fd_read (local.get $fd) (i32.const 16) (i32.const 1) (i32.const 64))"),
)
_add(
    _FILES,
    "write what others hold",
    "write to a descriptor of the process it runs in, such as its connection",
    "EBADF",
    _NONE,
    _each("(call $fd_write (local.get $fd) (i32.const 16) (i32.const 1) (i32.const 64))"),
)
_add(
    _FILES,
    "swap descriptors",
    "put another descriptor in the place of its output (fd_renumber)",
    "EBADF ENOTSUP",
    _NONE,
    _each("(call $fd_renumber (local.get $fd) (i32.const 1))"),
)
_add(
    _FILES,
    "every socket",
    "accept, receive or send on any descriptor",
    "EBADF",
    _NONE,
    _each(
        "(i32.and (i32.and (call $sock_accept (local.get $fd) (i32.const 0) (i32.const 64)) (call $sock_recv "
        "(local.get $fd) (i32.const 16) (i32.const 1) (i32.const 0) (i32.const 64) (i32.const 68))) (call $sock_send"
        " (local.get $fd) (i32.const 16) (i32.const 1) (i32.const 0) (i32.const 64)))",
        0,
    ),
)
_add(
    _FILES,
    "signals",
    "send its process a signal (proc_raise)",
    "ENOSYS ENOTSUP",
    "it is not there",
    "(call $proc_raise (i32.const 9))",
)

_add(
    _GIVEN,
    "read beyond its memory",
    "have bytes written out that lie beyond its memory",
    "EFAULT",
    _BOUNDS,
    "(i32.store (i32.const 32) (i32.const 0x7fff0000)) (i32.store (i32.const 36) (i32.const 65536))"
    "(call $fd_write (i32.const 1) (i32.const 32) (i32.const 1) (i32.const 64))",
)
_add(
    _GIVEN,
    "a length that wraps",
    "give a pointer and a length that add up to less than either",
    "EFAULT",
    _BOUNDS,
    "(call $random_get (i32.const 65536) (i32.const -65536))",
)
_add(
    _GIVEN,
    "half a billion vectors",
    "give a list that is longer than its memory",
    "EFAULT EINVAL",
    _BOUNDS,
    "(call $fd_write (i32.const 1) (i32.const 0) (i32.const 0x20000000) (i32.const 64))",
)
_add(
    _GIVEN,
    "random bytes elsewhere",
    "have random bytes written beyond its memory",
    "EFAULT",
    _BOUNDS,
    "(call $random_get (i32.const 0x7fff0000) (i32.const 64))",
)
_add(
    _GIVEN,
    "variables elsewhere",
    "have its environment written beyond its memory",
    "EFAULT",
    _BOUNDS,
    "(call $environ_get (i32.const 0x7fff0000) (i32.const 0x7fff8000))",
)

_add(
    _MEMORY,
    "load beyond its memory",
    "read its process's memory behind its own",
    "function_raised",
    _MACHINE,
    "(drop (i32.load (i32.const -16))) (i32.const 0)",
)
_add(
    _MEMORY,
    "store beyond its memory",
    "write it",
    "function_raised",
    _MACHINE,
    "(i32.store (i32.const 0x7fffffff) (i32.const 1)) (i32.const 0)",
)
_add(
    _MEMORY,
    "call with another type",
    "call a function as if it took other things",
    "function_raised",
    _MACHINE,
    "(call_indirect (type $other) (i64.const 0x4141414141414141) (i32.const 0))",
)
_add(
    _MEMORY,
    "call beyond the table",
    "call a function that is none",
    "function_raised",
    _MACHINE,
    "(call_indirect (type $plain) (i32.const 0x7ffffff))",
)
_add(
    _MEMORY,
    "overflow its stack",
    "write below its stack by calling without end",
    "function_raised",
    _MACHINE,
    "(call $deeper (i64.const 1) (i64.const 2))",
)
_add(
    _MEMORY,
    "what others left",
    "find in its memory what an earlier call left there",
    "nothing",
    "every call has a new memory",
    "(if (i32.load (i32.const 60000)) (then (return (i32.const 0)))) (i32.store (i32.const 60000) (i32.const 1))"
    "(i32.store (i32.const 120000) (i32.const 1)) (i32.const 44)",
)

_add(
    _SHARE,
    "grow",
    "take memory until there is no more, and have more than its limit",
    "ENOMEM",
    "memory.grow answers -1 beyond three quarters of the limit",
    "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))"
    "(select (i32.const 48) (i32.const 0) (i32.le_u (memory.size) (i32.const 768)))",
)
_add(
    _SHARE,
    "spin",
    "run for ever",
    "function_timed_out",
    "it is cut off at its timeout",
    "(loop $on (br $on)) (i32.const 0)",
)
_add(
    _SHARE,
    "sleep",
    "wait for an hour (poll_oneoff)",
    "function_timed_out",
    "it is cut off at its timeout",
    "(i32.store (i32.const 1040) (i32.const 1)) (i64.store (i32.const 1048) (i64.const 3600000000000))"
    "(call $poll_oneoff (i32.const 1024) (i32.const 2048) (i32.const 1) (i32.const 64))",
)
_add(
    _SHARE,
    "flood",
    "write more than its output may hold",
    "response_too_large",
    "`output` is counted as it is written",
    "(i32.store (i32.const 36) (i32.const 65536)) (loop $on (drop (call $fd_write (i32.const 1) (i32.const 32) "
    "(i32.const 1) (i32.const 64))) (br $on)) (i32.const 0)",
)


def letter(name: str) -> str:
    """What the module is to hear to try `name`; JSON has it in quotes."""
    return chr(list(WASI).index(name) + ord("_") + 1)


def _module() -> str:
    """`_start` hears a letter, makes the attempt and says its number in two digits. At 512: paths; at 16: a vector."""
    functions = "".join(f"(func $try{number} (type $plain) {one.body})\n" for number, one in enumerate(WASI.values()))
    names = " ".join(f"$try{number}" for number in range(len(WASI)))
    return f"""(module
{_imports()}
(type $plain (func (result i32)))
(type $other (func (param i64) (result i32)))
(memory (export "memory") 2)
(table funcref (elem {names}))
(data (i32.const 16) "\\00\\04\\00\\00\\10\\00\\00\\00")
(data (i32.const 512) "etc/passwd")
(data (i32.const 528) "../../../etc/passwd")
(data (i32.const 560) "/proc/self/environ")
(func $deeper (param $a i64) (param $b i64) (result i32)
  (i32.add (i32.const 1) (call $deeper (i64.add (local.get $b) (i64.const 1)) (local.get $a))))
{functions}
(func (export "_start") (local $got i32)
  (i32.store (i32.const 0) (i32.const 8)) (i32.store (i32.const 4) (i32.const 2))
  (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 64)))
  (local.set $got (call_indirect (type $plain) (i32.sub (i32.load8_u (i32.const 9)) (i32.const {ord("_") + 1}))))
  (i32.store8 (i32.const 8) (i32.add (i32.const 48) (i32.div_u (local.get $got) (i32.const 10))))
  (i32.store8 (i32.const 9) (i32.add (i32.const 48) (i32.rem_u (local.get $got) (i32.const 10))))
  (i32.store (i32.const 0) (i32.const 8)) (i32.store (i32.const 4) (i32.const 2))
  (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 64))))
)
"""


MODULE: Final = _module()
