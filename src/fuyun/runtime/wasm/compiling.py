"""Compiles a module to machine code. Runs in a build's sandbox: `python -I -S -c ... ENGINE SOURCE TARGET`.

What it says goes to standard output, errors as lines that start with `error: `; the status is 1 after one.
"""

from __future__ import annotations

import sys

from fuyun.runtime.wasm.engine import EngineError, Library

#: The preamble of a binary (WebAssembly core specification, section 5.5): magic and version; a component has layer 1.
_MAGIC = b"\0asm"
_MODULE, _COMPONENT = b"\x01\0\0\0", b"\x0d\0\x01\0"


def problem_of(source: bytes, text: bool) -> str:
    """Why `source` cannot be a module, as far as its first bytes tell; "" when it may be one."""
    if text:
        return ""
    if source[:4] != _MAGIC:
        return f"it begins with {source[:8]!r}, so it is no WebAssembly binary; one begins with {_MAGIC!r}"
    if source[4:8] == _COMPONENT:
        return "it is a component (WASI 0.2); compile a module for wasm32-wasip1"
    if source[4:8] != _MODULE:
        return f"it is of version {source[4:8]!r}; only version 1 is known"
    return ""


def main(arguments: list[str]) -> int:
    """`arguments`: the library, the module (.wasm or .wat), and where its code goes."""
    library_path, source_path, target = arguments
    text = source_path.endswith(".wat")
    with open(source_path, "rb") as file:
        source = file.read()
    wrong = problem_of(source, text)
    if wrong:
        print(f"error: {wrong}")
        return 1
    library = Library(library_path)
    try:
        code = library.compile(library.new_engine(0), source, text)
    except EngineError as error:
        print(f"error: {error}")
        return 1
    with open(target, "wb") as out:
        out.write(code)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
