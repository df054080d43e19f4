"""Puts what every instance writes to close together, so that a fork copies few pages.

Python counts references inside objects: running a function writes to the page its code lies on. The functions of a
start and a call are few (about 150, 60 KB of code), but each lies among others that are never run. `renew` gives them
code objects made one after the other. `fill_holes` takes the free memory between older objects, so that these code
objects, and later what an instance makes for itself, come to lie side by side in fresh memory.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from opcode import opmap
from types import CodeType, FunctionType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

#: Objects/obmalloc.c: allocations up to 512 bytes come from pools of one size class each, in steps of 16; a pool
#: begins with a header of 48 bytes.
_LARGEST, _STEP, _HEADER = 512, 16, 48
_POOL = 16 * 1024 if sys.version_info >= (3, 10) else 4096
#: More free blocks than any class of a zygote has.
_MOST = 50_000
#: Free blocks at most this many sizes apart count as dense: filling those, too, made instances larger (by 12 pages).
_SPACING = 4
_NOP = opmap["NOP"]
#: Sizes of the C library's heap; larger ones are mapped apart (M_MMAP_THRESHOLD).
_HEAP_SIZES = (65536, 32768, 16384, 8192, 4096, 2048, *range(1024, 8, -16))


def watch(play: Callable[[], None]) -> list[CodeType]:
    """The code that `play` runs, in the order of its first calls."""
    found: dict[int, CodeType] = {}

    def note(frame: Any, event: str, _: object) -> None:
        if event == "call":
            found.setdefault(id(frame.f_code), frame.f_code)

    sys.setprofile(note)
    try:
        play()
    finally:
        sys.setprofile(None)
    return list(found.values())


def renew(codes: list[CodeType]) -> int:
    """Give the functions that run `codes` equal code in new memory; how many there were. They are to be played again
    afterwards: the interpreter's adaptations are lost."""
    order = {id(code): number for number, code in enumerate(codes)}
    made: dict[int, CodeType] = {}

    def copy(code: CodeType) -> CodeType:
        if id(code) not in made:
            made[id(code)] = code.replace(co_consts=tuple(map(constant, code.co_consts)), co_code=_padded(code))
        return made[id(code)]

    def constant(value: object) -> object:
        return copy(value) if isinstance(value, CodeType) and id(value) in order else value

    gc.unfreeze()  # the frozen are not searched
    functions = [each for each in gc.get_referrers(*codes) if type(each) is FunctionType and id(each.__code__) in order]
    functions.sort(key=lambda function: order[id(function.__code__)])
    for function in functions:
        function.__code__ = copy(function.__code__)
    return len(functions)


def _padded(code: CodeType) -> bytes:
    """Its instructions, with some behind the end that are never reached. Code objects hold their instructions (since
    3.11); with the padding all are longer than what pools hold, so that they lie in the heap in the order of their
    making, not apart by size."""
    if sys.version_info < (3, 11):
        return code.co_code
    missing = max(0, _LARGEST + _STEP - sys.getsizeof(code))
    return code.co_code + bytes((_NOP, 0)) * (missing // 2)


def fill_holes() -> list[Any]:
    """Objects that fill the free blocks of all pools in use and of the C heap; keep them for ever."""
    gc.collect()
    kept: list[Any] = [_fill_pools(size) for size in range(_STEP, _LARGEST + 1, _STEP)]
    _fill_heap()
    return kept


def _fill_pools(size: int) -> list[Any]:
    """Take blocks until half a pool's worth came one after the other: what is free from there on is dense."""
    blocks: list[Any] = []
    last = run = 0
    enough = (_POOL - _HEADER) // size // 2
    while run < enough and len(blocks) < _MOST:
        block = object() if size == 16 else complex(len(blocks)) if size == 32 else bytes(size - 33)
        blocks.append(block)
        address = id(block)
        run = run + 1 if 0 < address - last <= _SPACING * size else 0
        last = address
    del blocks[len(blocks) - run :]
    return blocks


def _fill_heap() -> None:
    """Allocate below the heap's top for good."""
    libc = ctypes.CDLL(None)
    allocate, free = libc.malloc, libc.free
    allocate.argtypes, allocate.restype, free.argtypes = [ctypes.c_size_t], ctypes.c_void_p, [ctypes.c_void_p]
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
    top = allocate(100_000)
    free(top)
    for size in _HEAP_SIZES:
        while True:
            block = allocate(size)
            if block is None or block >= top:
                free(block)
                break
