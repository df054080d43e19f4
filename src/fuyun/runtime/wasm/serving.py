"""A version of runtime `wasm`: its module, loaded, and what a request and an answer are to it.

As in CGI (RFC 3875): the request in the environment and on standard input, the answer on standard output, with a head
or without. The rules are docs/contracts/runtime.md, section "WebAssembly modules".
"""

from __future__ import annotations

import gc
import os
import re
import sys
from json import JSONDecoder
from time import monotonic_ns

from fuyun.runtime import forking
from fuyun.runtime.answers import BINARY, JSON, TEXT, BadAnswer, clean_headers, fixed_length
from fuyun.runtime.context import Context
from fuyun.runtime.jsontext import dumps
from fuyun.runtime.loader import App
from fuyun.runtime.problems import LoadProblem, problem
from fuyun.runtime.wasm.engine import LIBRARY, EngineError, Library
from fuyun.runtime.wasm.lane import Failed, Lane, Unusable
from fuyun.runtime.wasm.wasi import Guest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional

    from fuyun.runtime.answers import Answer, Headers
    from fuyun.runtime.calls import Call
    from fuyun.runtime.desk import Desk

#: What a compiled module is called beside its source.
COMPILED = ".cwasm"
#: Longest head of an answer.
_HEAD_BYTES = 64 * 1024
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
#: An answer begins with a head when one of these is in it (RFC 3875, section 6.2).
_HEAD_FIELDS = frozenset(("content-type", "location", "status"))


class Program(App):
    """A loaded module. As many lanes as calls at once are made, when they are needed."""

    def __init__(self, task: dict[str, Any], library: Library, module: str) -> None:
        super().__init__(task, None, "wasm", False)
        self._library = library
        self._module = module
        self._memory_bytes = int(task["memory_bytes"]) * 3 // 4
        timeout_s = float(task["timeout_s"])
        self._run_ns = int((timeout_s - min(0.2, timeout_s / 10)) * 1e9)
        self._limit = int(task["output_bytes"])
        self._argument = os.path.basename(task["handler"]).encode()
        self._environment = _fixed(task)
        self._lanes: list[Lane] = []

    def prepare(self) -> None:
        """Make the first lane and instantiate the module once. Unusable, EngineError, Failed."""
        lane = self._new_lane()
        lane.instantiate(Guest([], [], b"", 0, _to_log), monotonic_ns() + self._run_ns)
        self._lanes.append(lane)

    def runner(self, desk: Desk) -> Callable[[Call], None]:
        """What answers one call."""

        def run(call: Call) -> None:
            try:
                desk.collect(call)
                call.context = Context(call.head, self.task)
                desk.result(call, self._answer(call))
            except BaseException as exc:
                desk.fail(call, exc)

        return run

    def problem_of(self, exc: BaseException) -> dict[str, Any]:
        """The Problem of a call that ended with `exc`."""
        if isinstance(exc, Failed):
            return problem(exc.code, str(exc), exc.error_type, exc.frames)
        return super().problem_of(exc)

    def _new_lane(self) -> Lane:
        return Lane(self._library, self._module, self._memory_bytes)

    def _answer(self, call: Call) -> Answer:
        head = call.head
        http = head["kind"] == "http"
        environment = [*self._environment, *_about(head)]
        if http:
            environment += request_variables(head, len(call.body))
        guest = Guest([self._argument], environment, call.body, self._limit, _to_log)
        lane = self._lanes.pop() if self._lanes else self._new_lane()
        try:
            output = lane.run(guest, call.started_ns + self._run_ns)
        finally:
            self._lanes.append(lane)
        return http_answer(output) if http else event_answer(output)


def load(task: dict[str, Any]) -> Program:
    """The program of a task. LoadProblem says what is wrong with the module. Makes no thread and no timer: its process
    may be forked, and its copies find the module ready to run."""
    started = monotonic_ns()
    handler = task["handler"]
    module = os.path.join(task["code"], handler + COMPILED)
    path = next((p for p in (f"{layer}/{LIBRARY}" for layer in task["layers"]) if os.path.exists(p)), None)
    if path is None:
        raise LoadProblem("function_load_failed", "no layer of the version holds a WebAssembly engine; deploy again")
    if not os.path.exists(module):
        raise LoadProblem("function_load_failed", f"there is no compiled {handler} in the code; deploy again")
    try:
        program = Program(task, Library(path), module)
        program.prepare()
    except Unusable as exc:
        raise LoadProblem(exc.code, f"{handler}: {exc}") from None
    except (EngineError, OSError) as exc:
        raise LoadProblem("function_load_failed", f"{handler} cannot be loaded: {exc}") from None
    except Failed as exc:
        raise LoadProblem(exc.code, f"instantiating {handler}: {exc}", exc.error_type, exc.frames) from None
    program.load_ms = (monotonic_ns() - started) / 1e6
    # The module's own file and the engine's are open, which any number of processes may share.
    program.reason = forking.why_not(forking.Holdings.now(), True)
    program.forkable = not program.reason
    gc.freeze()
    return program


def _to_log(data: bytes) -> None:
    sys.stderr.buffer.write(data)


def _fixed(task: dict[str, Any]) -> list[bytes]:
    """Variables that are the same for every call: the function's own, and the platform's."""
    facts = {
        **task["env"],
        "FUYUN_NAMESPACE": task["namespace"],
        "FUYUN_FUNCTION": task["function"],
        "FUYUN_VERSION": task["version"],
        "FUYUN_INSTANCE": task["instance"],
        "FUYUN_HANDLER": task["handler"],
        "FUYUN_MEMORY_BYTES": str(task["memory_bytes"]),
        "FUYUN_TIMEOUT_S": str(task["timeout_s"]),
    }
    return [_variable(name, value) for name, value in facts.items()]


def _about(head: dict[str, Any]) -> list[bytes]:
    """Variables every call has."""
    facts = [_variable("FUYUN_REQUEST_ID", str(head.get("id", ""))), _variable("FUYUN_KIND", head["kind"])]
    if head.get("trace"):
        facts.append(_variable("TRACEPARENT", head["trace"]))
    return facts


def request_variables(head: dict[str, Any], size: int) -> list[bytes]:
    """The meta-variables of RFC 3875, section 4.1, for a request whose body has `size` bytes."""
    found = {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "Fuyun",
        "REQUEST_METHOD": head["method"],
        "SCRIPT_NAME": _decoded(head.get("base", "")),
        "PATH_INFO": _decoded(head["path"]),
        "QUERY_STRING": head.get("query", ""),
        "REQUEST_URI": head.get("base", "") + head["path"] + ("?" + head["query"] if head.get("query") else ""),
        "REQUEST_SCHEME": head.get("scheme", "http"),
        "REMOTE_ADDR": head.get("source", ""),
    }
    if size:
        found["CONTENT_LENGTH"] = str(size)
    host = ""
    for name, value in head["headers"]:
        if name == "content-type":
            found["CONTENT_TYPE"] = value
        elif name == "host":
            found["HTTP_HOST"] = host = value
        elif name not in ("content-length", "proxy") and "_" not in name:
            # HTTP_PROXY means something else to many clients; `x_y` and `x-y` would meet in one variable
            key = "HTTP_" + name.upper().replace("-", "_")
            found[key] = f"{found[key]}{'; ' if name == 'cookie' else ','}{value}" if key in found else value
    name, colon, port = host.rpartition(":")
    if not (colon and port.isdigit()):
        name, port = host, "443" if head.get("scheme") == "https" else "80"
    found["SERVER_NAME"], found["SERVER_PORT"] = name or "localhost", port
    return [_variable(name, value) for name, value in found.items()]


def _decoded(path: str) -> str:
    if "%" not in path:
        return path
    from urllib.parse import unquote_to_bytes

    return unquote_to_bytes(path).decode("utf-8", "surrogateescape")


def _variable(name: str, value: str) -> bytes:
    return f"{name}={value}".encode("utf-8", "surrogateescape").replace(b"\0", b"")


def event_answer(output: bytes) -> Answer:
    """JSON as it is, other text as a JSON string, nothing as null, bytes that are no text as bytes."""
    try:
        text = str(output, "utf-8")
    except UnicodeDecodeError:
        return 200, [("content-type", BINARY)], output
    if not text or text.isspace():
        return 200, None, b"null"
    return 200, None, output.strip() if _is_json(text) else dumps(text)


def http_answer(output: bytes) -> Answer:
    """With a head, as CGI has it; without one, as JSON, text or bytes, whatever it is. BadAnswer for a bad head."""
    parted = _parted(output)
    if parted is None:
        return 200, [("content-type", _kind(output))], output
    fields, body = parted
    status, headers = 200, []
    given = False
    for name, value in fields:
        if name.lower() == "status":
            digits = value.split(" ")[0]
            if not (digits.isdigit() and 200 <= int(digits) <= 599):
                raise BadAnswer(f"the head says Status: {value[:80]!r}; use a number from 200 to 599")
            status, given = int(digits), True
        else:
            headers.append((name, value))
    if not given and any(name.lower() == "location" for name, _ in headers):
        status = 302
    cleaned: Headers = clean_headers(headers, "the head")
    if body and not any(name == "content-type" for name, _ in cleaned):
        cleaned.append(("content-type", _kind(body)))
    return status, fixed_length(cleaned, len(body)), body


def _parted(output: bytes) -> Optional[tuple[list[tuple[str, str]], bytes]]:
    """The fields of a head and the body behind it; None when the output begins with no head."""
    found = _BLANK_LINE.search(output, 0, _HEAD_BYTES)
    if found is None:
        return None
    fields = []
    for line in output[: found.start()].decode("latin-1").replace("\r\n", "\n").split("\n"):
        name, colon, value = line.partition(":")
        if not colon or not name or not name.replace("-", "").replace("_", "").isalnum():
            return None
        fields.append((name, value.strip()))
    if not any(name.lower() in _HEAD_FIELDS for name, _ in fields):
        return None
    return fields, output[found.end() :]


def _kind(body: bytes) -> str:
    try:
        text = str(body, "utf-8")
    except UnicodeDecodeError:
        return BINARY
    return JSON if text[:1] in ("{", "[") and _is_json(text) else TEXT


def _is_json(text: str) -> bool:
    try:
        _decode(text)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_decode = JSONDecoder(parse_constant=_refuse).decode
