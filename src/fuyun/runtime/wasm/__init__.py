"""WebAssembly inside an instance: libwasmtime by its C interface, WASI preview 1, one instantiation per invocation.

Only functions of runtime `wasm` import this package. Why the C interface and a WASI of our own:
docs/decisions/0016-wasm-runs-in-an-instance.md.
"""
