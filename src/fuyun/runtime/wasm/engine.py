"""The part of libwasmtime's C interface that is used here, as it stands in version 50's `wasm.h` and `wasmtime.h`.

What is copied out of its structures is opaque; an `extern` is a byte of kind and, 8 bytes in, the item itself.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import byref, c_bool, c_char_p, c_int64, c_size_t, c_uint8, c_uint64, c_void_p

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

#: Where an engine's layer keeps it.
LIBRARY = "wasm-engine/libwasmtime.so"
#: Longest wasm stack. The thread's own has 8 MiB.
STACK_BYTES = 1024 * 1024
#: Memory that is cleared by hand between two instantiations; what lies above is given back to the kernel.
_RESIDENT_BYTES = 256 * 1024
#: What a module may hold: enough for interpreters compiled to WebAssembly.
INSTANCE_BYTES, TABLES, TABLE_ELEMENTS = 8 * 2**20, 8, 200_000
#: `enum wasmtime_trap_code`.
TRAP_STACK, TRAP_INTERRUPT = 0, 10
#: The kind of an `extern` that is a memory: WASMTIME_EXTERN_MEMORY.
MEMORY = b"\x03"
#: A host function: (env, caller, cells of 16 bytes, their number) -> trap or 0.
CALLBACK = ctypes.CFUNCTYPE(c_size_t, c_void_p, c_void_p, c_void_p, c_size_t)
_VALUE_KINDS = {"i": 0, "I": 1}  # WASM_I32, WASM_I64

_P, _N = c_void_p, c_size_t
#: name -> what it returns, what it takes.
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "wasm_config_new": (_P, ()),
    "wasm_engine_new_with_config": (_P, (_P,)),
    "wasm_engine_delete": (None, (_P,)),
    "wasmtime_engine_increment_epoch": (None, (_P,)),
    "wasm_byte_vec_delete": (None, (_P,)),
    "wasm_valtype_new": (_P, (c_uint8,)),
    "wasm_valtype_vec_new": (None, (_P, _N, _P)),
    "wasm_functype_new": (_P, (_P, _P)),
    "wasm_functype_delete": (None, (_P,)),
    "wasm_importtype_vec_delete": (None, (_P,)),
    "wasm_importtype_module": (_P, (_P,)),
    "wasm_importtype_name": (_P, (_P,)),
    "wasm_exporttype_vec_delete": (None, (_P,)),
    "wasm_exporttype_name": (_P, (_P,)),
    "wasm_trap_message": (None, (_P, _P)),
    "wasm_trap_delete": (None, (_P,)),
    "wasmtime_config_epoch_interruption_set": (None, (_P, c_bool)),
    "wasmtime_config_max_wasm_stack_set": (None, (_P, _N)),
    "wasmtime_pooling_allocation_config_new": (_P, ()),
    "wasmtime_pooling_allocation_config_delete": (None, (_P,)),
    "wasmtime_pooling_allocation_strategy_set": (None, (_P, _P)),
    "wasmtime_trap_new": (_P, (c_char_p, _N)),
    "wasmtime_trap_code": (c_bool, (_P, _P)),
    "wasmtime_error_message": (None, (_P, _P)),
    "wasmtime_error_delete": (None, (_P,)),
    "wasmtime_wat2wasm": (_P, (c_char_p, _N, _P)),
    "wasmtime_module_new": (_P, (_P, c_char_p, _N, _P)),
    "wasmtime_module_delete": (None, (_P,)),
    "wasmtime_module_serialize": (_P, (_P, _P)),
    "wasmtime_module_deserialize_file": (_P, (_P, c_char_p, _P)),
    "wasmtime_module_imports": (None, (_P, _P)),
    "wasmtime_module_exports": (None, (_P, _P)),
    "wasmtime_linker_new": (_P, (_P,)),
    "wasmtime_linker_delete": (None, (_P,)),
    "wasmtime_linker_define_func_unchecked": (_P, (_P, c_char_p, _N, c_char_p, _N, _P, CALLBACK, _P, _P)),
    "wasmtime_linker_instantiate_pre": (_P, (_P, _P, _P)),
    "wasmtime_instance_pre_instantiate": (_P, (_P, _P, _P, _P)),
    "wasmtime_instance_export_get": (c_bool, (_P, _P, c_char_p, _N, _P)),
    "wasmtime_store_new": (_P, (_P, _P, _P)),
    "wasmtime_store_context": (_P, (_P,)),
    "wasmtime_store_limiter": (None, (_P, c_int64, c_int64, c_int64, c_int64, c_int64)),
    "wasmtime_store_delete": (None, (_P,)),
    "wasmtime_context_set_epoch_deadline": (None, (_P, c_uint64)),
    "wasmtime_memory_data": (_P, (_P, _P)),
    "wasmtime_memory_data_size": (_N, (_P, _P)),
    "wasmtime_func_call": (_P, (_P, _P, _P, _N, _P, _N, _P)),
}  # fmt: skip
_POOL = {
    "total_core_instances": 1, "total_memories": 1, "total_tables": TABLES, "total_stacks": 1, "total_gc_heaps": 1,
    "max_memories_per_module": 1, "max_tables_per_module": TABLES, "table_elements": TABLE_ELEMENTS,
    "max_core_instance_size": INSTANCE_BYTES, "linear_memory_keep_resident": _RESIDENT_BYTES,
    "table_keep_resident": _RESIDENT_BYTES,
}  # fmt: skip


class EngineError(Exception):
    """libwasmtime refused something; the text is its own."""


class Vector(ctypes.Structure):
    """`wasm_*_vec_t`: a number of items, and where they are."""

    _fields_ = [("size", c_size_t), ("data", c_void_p)]


class Library:
    """libwasmtime, loaded; its functions are attributes, under their own names."""

    def __init__(self, path: str) -> None:
        """OSError when `path` is no library for this machine."""
        loaded = ctypes.CDLL(path)
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(loaded, name)
            function.restype, function.argtypes = result, arguments
            setattr(self, name, function)
        self._loaded = loaded

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def check(self, error: Optional[int]) -> None:
        """EngineError for a `wasmtime_error_t` that is there."""
        if error:
            text = Vector()
            self.wasmtime_error_message(error, byref(text))
            self.wasmtime_error_delete(error)
            raise EngineError(self.take(text).decode("utf-8", "replace"))

    def take(self, vector: Vector) -> bytes:
        """The bytes of a vector, which is given back."""
        data = ctypes.string_at(vector.data, vector.size) if vector.size else b""
        self.wasm_byte_vec_delete(byref(vector))
        return data

    def new_engine(self, memory_bytes: int) -> int:
        """An engine for one instantiation at a time, whose memory has room for `memory_bytes`. Modules compiled by one
        engine are taken by every other of the same library and processor, whatever the room."""
        config = self.wasm_config_new()
        self.wasmtime_config_epoch_interruption_set(config, True)
        self.wasmtime_config_max_wasm_stack_set(config, STACK_BYTES)
        if memory_bytes:
            pool = self.wasmtime_pooling_allocation_config_new()
            for name, value in {**_POOL, "max_memory_size": memory_bytes}.items():
                setter = getattr(self._loaded, f"wasmtime_pooling_allocation_config_{name}_set")
                setter.restype, setter.argtypes = None, (c_void_p, c_size_t)
                setter(pool, value)
            self.wasmtime_pooling_allocation_strategy_set(config, pool)
            self.wasmtime_pooling_allocation_config_delete(pool)
        engine = self.wasm_engine_new_with_config(config)
        if not engine:
            raise EngineError("the engine could not be made")
        return int(engine)

    def compile(self, engine: int, source: bytes, text: bool) -> bytes:
        """A module's binary, or its `text`, as this engine's machine code. EngineError says what is wrong with it."""
        if text:
            binary = Vector()
            self.check(self.wasmtime_wat2wasm(source, len(source), byref(binary)))
            source = self.take(binary)
        module, code = c_void_p(), Vector()
        self.check(self.wasmtime_module_new(engine, source, len(source), byref(module)))
        self.check(self.wasmtime_module_serialize(module, byref(code)))
        self.wasmtime_module_delete(module)
        return self.take(code)

    def read(self, engine: int, path: str) -> c_void_p:
        """A module from a file that `compile` made. EngineError when it was made for another engine or processor."""
        module = c_void_p()
        self.check(self.wasmtime_module_deserialize_file(engine, os.fsencode(path), byref(module)))
        return module

    def imports(self, module: c_void_p) -> list[tuple[str, str]]:
        """(module, name) of everything it imports."""
        found = Vector()
        self.wasmtime_module_imports(module, byref(found))
        pairs = [
            (self._name(self.wasm_importtype_module(item)), self._name(self.wasm_importtype_name(item)))
            for item in _items(found)
        ]
        self.wasm_importtype_vec_delete(byref(found))
        return pairs

    def exports(self, module: c_void_p) -> list[str]:
        """The names of everything it exports."""
        found = Vector()
        self.wasmtime_module_exports(module, byref(found))
        names = [self._name(self.wasm_exporttype_name(item)) for item in _items(found)]
        self.wasm_exporttype_vec_delete(byref(found))
        return names

    def _name(self, borrowed: int) -> str:
        vector = Vector.from_address(borrowed)
        return ctypes.string_at(vector.data, vector.size).decode("utf-8", "replace") if vector.size else ""

    def function_type(self, parameters: str, results: str) -> int:
        """A `wasm_functype_t` from letters: i for 32 bits, I for 64."""
        vectors = []
        for letters in (parameters, results):
            vector = Vector()
            kinds = (c_void_p * len(letters))(*(self.wasm_valtype_new(_VALUE_KINDS[letter]) for letter in letters))
            self.wasm_valtype_vec_new(byref(vector), len(letters), kinds)
            vectors.append(vector)
        return int(self.wasm_functype_new(byref(vectors[0]), byref(vectors[1])))


def _items(vector: Vector) -> list[int]:
    return list((c_void_p * vector.size).from_address(vector.data)) if vector.size else []
