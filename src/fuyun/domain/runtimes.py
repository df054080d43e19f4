"""Names of runtimes, by how their code becomes an instance."""

from __future__ import annotations

PYTHONS = ("python3", "python3.9", "python3.10", "python3.11", "python3.12", "python3.13", "python3.14")
NODES = ("nodejs", "nodejs18", "nodejs20", "nodejs22", "nodejs24")
#: What the file of a Node handler may end in.
NODE_SUFFIXES = (".js", ".mjs", ".cjs")
#: Runtimes whose code is a program: started in an instance, never forked from a template.
PROGRAMS = ("custom", "web", "java", "image")
#: Those whose program is a JVM with a handler in it; how the name of a handler ends that is a server's main method.
JAVAS, JAVA_MAIN = ("java",), "::main"
#: Those whose program and root come from an OCI image; `protocol` says which of the others it is.
IMAGES = ("image",)
#: Those whose program is an HTTP server: requests and WebSockets reach it as they came.
SERVERS = ("web",)
#: Where a server listens when its environment names no PORT, and how many requests it gets at once when its project
#: does not say: Cloud Run's defaults, which its images are made for.
SERVER_PORT, SERVER_CONCURRENCY = 8080, 80
#: Runtimes that another process keeps (`runtime/becoming.py`): no templates, and ends as a shell would tell them.
KEPT = (*PROGRAMS, *NODES)
#: Runtimes whose code is a WebAssembly module, run anew for every call inside an instance.
MODULES = ("wasm",)
RUNTIMES = (*PYTHONS, *NODES, *PROGRAMS, *MODULES)
