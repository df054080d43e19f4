"""The rules that a valid function, and an alias's weights, keep."""

from __future__ import annotations

import re

import msgspec

from fuyun.base.units import format_duration, format_size
from fuyun.domain.errors import BadRequest
from fuyun.domain.functions import HOOKS, MIB, MOST_LAYERS, MOST_NAMED, Allowed, Asynchronous, FunctionSpec, Weight
from fuyun.domain.images import check_image
from fuyun.domain.inward import ADDRESS_PORT
from fuyun.domain.names import check_layers, check_name
from fuyun.domain.networks import MOST, parse_opening
from fuyun.domain.objects import check_bucket
from fuyun.domain.runtimes import IMAGES, JAVAS, KEPT, MODULES, NODES, PROGRAMS, RUNTIMES, SERVER_PORT
from fuyun.domain.schedules import check_schedule, check_timezone
from fuyun.domain.triggerchecks import check_target, check_triggers

_PATH = re.compile(r"/[^\s?#\x00-\x1f\x7f]*")

#: What a program's keeper takes of an instance's processes and threads, with some for the program.
_LEAST_PIDS = 16
#: What Node and its keeper take themselves.
_LEAST_NODE_BYTES = 64 * MIB
#: A JVM without its heap, and the threads it starts beside the keeper's.
_LEAST_JAVA_BYTES, _LEAST_JAVA_PIDS = 128 * MIB, 32
#: Of a warm-up call; it is part of the version.
_EVENT_BYTES = 64 * 1024
_METHOD_NAME = re.compile(r"[\w$]+(\.[\w$]+)*(::[\w$]+)?")
_FILE = re.compile(r"[\w@+-][\w@.+-]*")


def _require(ok: bool, path: str, detail: str, hint: str) -> None:
    if not ok:
        raise BadRequest(f"{path}: {detail}", hint=hint, path=path)


def _between(path: str, value: float, low: float, high: float, unit: str) -> None:
    if unit == "bytes":
        shown = [format_size(int(number)) for number in (value, low, high)]
    elif unit == "seconds":
        shown = [format_duration(number) for number in (value, low, high)]
    else:
        shown = [f"{number:g} {unit}".strip() for number in (value, low, high)]
    _require(low <= value <= high, path, f"{shown[0]} is out of range", f"use {shown[1]} to {shown[2]}")


def check_spec(spec: FunctionSpec) -> FunctionSpec:
    """`spec` itself when it keeps every rule, else BadRequest naming the field, what was found and what is valid."""
    _require(
        spec.runtime in RUNTIMES, "runtime", f"{spec.runtime!r} is not a runtime", f"use one of {', '.join(RUNTIMES)}"
    )
    if spec.runtime in PROGRAMS:
        _check_program(spec)
        if spec.runtime in JAVAS:
            _check_java(spec)
    elif spec.runtime in MODULES:
        _check_module(spec)
    else:
        _check_callables(spec)
    if spec.runtime in KEPT:
        _check_kept(spec)
    _check_image(spec)
    if not spec.is_server:
        for field, found in (("command", spec.command), ("readiness", spec.readiness.path)):
            _require(not found, field, f"runtime {spec.runtime} has none", "leave it out, or use the runtime `web`")
    _between("memory_bytes", spec.memory_bytes, 16 * MIB, 64 * 1024 * MIB, "bytes")
    _between("timeout_s", spec.timeout_s, 0.1, 86400, "seconds")
    _between("concurrency", spec.concurrency, 1, 1000, "")
    _between("max_instances", spec.max_instances, 1, 10000, "")
    _between("min_instances", spec.min_instances, 0, spec.max_instances, "")
    _check_provisioned(spec)
    _between("idle_timeout_s", spec.idle_timeout_s, 1, 86400, "seconds")
    _between("freeze_after_s", spec.freeze_after_s, 0, 86400, "seconds")
    _between("cpu", spec.cpu, 0.05, 64, "cores")
    _between("pids", spec.pids, 4, 32768, "")
    _between("tmp_bytes", spec.tmp_bytes, 0, 64 * 1024 * MIB, "bytes")
    _between("payload_bytes", spec.payload_bytes, 0, 1024 * MIB, "bytes")
    _between("output_bytes", spec.output_bytes, 0, 1024 * MIB, "bytes")
    _between("log_bytes", spec.log_bytes, 0, 64 * MIB, "bytes")
    for hook in HOOKS:
        _between(f"hooks.{hook}_timeout_s", getattr(spec.hooks, f"{hook}_timeout_s"), 0.1, 900, "seconds")
    _check_warm_up(spec)
    _check_network(spec)
    _check_permissions(spec)
    for name in [*spec.env, *spec.secrets]:
        _require(
            name.isidentifier(), f"env.{name}", f"{name!r} is not an environment variable name", "use A-Z, 0-9 and _"
        )
        _require(
            not name.startswith("FUYUN_"),
            f"env.{name}",
            "names starting with FUYUN_ are the platform's",
            "choose another name",
        )
    for name, value in spec.env.items():
        _require("\0" not in value, f"env.{name}", "the value holds a NUL character", "environment values are text")
        _require(name not in spec.secrets, f"env.{name}", "a secret has the same name", "name one of them differently")
    check_layers(spec.layers, MOST_LAYERS)
    check_triggers(spec.triggers)
    _check_asynchronous(spec.asynchronous)
    return spec


def _check_asynchronous(found: Asynchronous) -> None:
    _between("asynchronous.max_attempts", found.max_attempts, 1, 100, "")
    _between("asynchronous.max_age_s", found.max_age_s, 1, 14 * 86400, "seconds")
    _between("asynchronous.concurrency", found.concurrency, 1, 1000, "")
    check_target("asynchronous.on_success", found.on_success)
    check_target("asynchronous.on_failure", found.on_failure)


def _check_warm_up(spec: FunctionSpec) -> None:
    if spec.warm_up is None:
        return
    path, event = spec.warm_up.path, spec.warm_up.event
    _require(
        not path or _PATH.fullmatch(path.partition("?")[0]) is not None, "warm_up.path", f"{path!r} is no path",
        "start it with / and write spaces as %20",
    )  # fmt: skip
    _require(
        not path or event is None,
        "warm_up.path",
        "there is an event as well",
        "a call has one of them: remove the other",
    )
    size = len(msgspec.json.encode(event))
    _require(size <= _EVENT_BYTES, "warm_up.event", f"it has {size} bytes", f"use {_EVENT_BYTES} at most")


def _check_network(spec: FunctionSpec) -> None:
    _require(
        spec.network == "none" or spec.isolation != "process",
        "network",
        f"isolation {spec.isolation!r} has the host's network; no policy holds there",
        "leave `network` out, or use isolation: sandbox",
    )
    if isinstance(spec.network, Allowed):
        count = len(spec.network.allow)
        _require(0 < count <= MOST, "network.allow", f"{count} entries", f"name 1 to {MOST}, or write network: none")
        for index, text in enumerate(spec.network.allow):
            parse_opening(text, f"network.allow[{index}]")


def _check_permissions(spec: FunctionSpec) -> None:
    kinds = {
        "invoke": "function", "queues": "queue", "topics": "topic", "streams": "stream", "tables": "table",
        "objects": "bucket", "buses": "bus",
    }  # fmt: skip
    for field, kind in kinds.items():
        names, where = getattr(spec.permissions, field), f"permissions.{field}"
        _require(len(names) <= MOST_NAMED, where, f"{len(names)} names", f"name up to {MOST_NAMED}, or write ['*']")
        for index, name in enumerate(names):
            path = f"{where}[{index}]"
            try:
                if name != "*":
                    _ = check_bucket(name) if kind == "bucket" else check_name(kind, name)
            except BadRequest as exc:
                hint = f"write the name of a {kind} of the same namespace, without a version, or '*' for all"
                raise BadRequest(f"{path}: {exc.detail}", hint=hint, path=path) from exc
        _require(
            not names or spec.runtime not in MODULES, where, f"runtime {spec.runtime} has no sockets",
            "leave it out, or use another runtime",
        )  # fmt: skip


def _check_callables(spec: FunctionSpec) -> None:
    callables = {"handler": spec.handler}
    for hook in HOOKS:
        callables[f"hooks.{hook}"] = getattr(spec.hooks, hook)
    for path, name in callables.items():
        if path == "handler" or name:
            if spec.runtime in NODES:
                _require(
                    _is_export(name), path, f"{name!r} is not FILE.EXPORT", "write index.handler or folder/file.handler"
                )
            else:
                _require(
                    _is_callable(name), path, f"{name!r} is not MODULE.CALLABLE",
                    "write app.handler, pkg/mod.fn or app:app",
                )  # fmt: skip


def _is_callable(name: str) -> bool:
    module, _, attribute = name.replace(":", ".").rpartition(".")
    return bool(module) and all(part.isidentifier() for part in [*module.replace("/", ".").split("."), attribute])


def _is_export(name: str) -> bool:
    file, _, attribute = name.partition(":") if ":" in name else name.rpartition(".")
    parts = [_FILE.fullmatch(part) for part in file.split("/")]
    return all(parts) and all(part.isidentifier() for part in attribute.replace("$", "_").split("."))


def _check_module(spec: FunctionSpec) -> None:
    """A WebAssembly function names a file, and has no hooks: nothing of a module lives longer than a call."""
    name = spec.handler
    ok = name.endswith((".wasm", ".wat")) and all(part not in ("", ".", "..") for part in name.split("/"))
    ok = ok and "\0" not in name
    _require(ok, "handler", f"{name!r} is not a module's file", "write app.wasm or build/app.wasm")
    for hook in HOOKS:
        found = getattr(spec.hooks, hook)
        hint = "remove it: each call runs a new instance of a module"
        _require(not found, f"hooks.{hook}", f"{found!r} is a hook", hint)


def _check_program(spec: FunctionSpec) -> None:
    name = f"runtime {spec.runtime}"
    for hook in HOOKS:
        found = getattr(spec.hooks, hook)
        _require(
            not found, f"hooks.{hook}", f"{found!r} cannot be called in {name}", "a program gets SIGTERM before it ends"
        )
    _require(
        len(spec.handler) <= 1000 and spec.handler.isprintable(),
        "handler", f"{spec.handler[:80]!r} is no handler of {name}", "use up to 1000 printable characters",
    )  # fmt: skip


def _check_java(spec: FunctionSpec) -> None:
    ok = _METHOD_NAME.fullmatch(spec.handler) is not None
    _require(ok, "handler", f"{spec.handler!r} is not CLASS::METHOD", "write com.example.App::handle")
    _between("memory_bytes", spec.memory_bytes, _LEAST_JAVA_BYTES, 64 * 1024 * MIB, "bytes")
    _require(not spec.command, "command", "a JVM has its own", "write JVM options into JAVA_OPTS in env")
    threads = 1 if spec.is_server else spec.concurrency  # a server has threads of its own making
    _between("pids", spec.pids, _LEAST_JAVA_PIDS + threads, 32768, "")


def _check_kept(spec: FunctionSpec) -> None:
    name = f"runtime {spec.runtime}"
    _require(spec.start != "template", "start", f"{name} has no templates", "leave start out: it starts from blanks")
    _between("pids", spec.pids, _LEAST_PIDS, 32768, "")
    if spec.runtime in NODES:
        _between("memory_bytes", spec.memory_bytes, _LEAST_NODE_BYTES, 64 * 1024 * MIB, "bytes")
    if spec.is_server:
        _check_server(spec)


def _check_image(spec: FunctionSpec) -> None:
    if spec.runtime not in IMAGES:
        default = not spec.image and spec.protocol == "web"
        _require(default, "image", f"runtime {spec.runtime} has none", "leave it out, or use the runtime `image`")
        return
    _require(bool(spec.image), "image", "there is none", "write ./FOLDER, ./ARCHIVE.tar or REGISTRY/NAME:TAG")
    check_image(spec.image)
    _require(
        spec.isolation == "sandbox", "isolation",
        f"an image turns to a root of its own, which {spec.isolation!r} does not give", "use isolation: sandbox",
    )  # fmt: skip
    _require(not spec.layers, "layers", "an image has none", "put their files into the image")


def server_port(spec: FunctionSpec) -> int:
    """Where the server listens."""
    return int(spec.env.get("PORT", SERVER_PORT))


def start_limit_s(spec: FunctionSpec) -> float:
    """How long an instance may take to be ready."""
    return spec.readiness.timeout_s if spec.is_server else spec.hooks.initializer_timeout_s


def _check_server(spec: FunctionSpec) -> None:
    port = spec.env.get("PORT", str(SERVER_PORT))
    _require(
        port.isascii() and port.isdigit() and 1024 <= int(port) <= 65535,
        "env.PORT", f"{port!r} is no port a program without rights can listen on", "use 1024 to 65535, or leave it out",
    )  # fmt: skip
    _require(
        not spec.permissions.any or int(port) != ADDRESS_PORT,
        "env.PORT", f"{port} is the platform's where a function has permissions", "use another one",
    )  # fmt: skip
    _require("PORT" not in spec.secrets, "env.PORT", "the port cannot be a secret", "write it in env, or leave it out")
    command, path = spec.command, spec.readiness.path
    _require(
        len(command) <= 4000 and "\0" not in command,
        "command",
        f"{command[:80]!r} is no command",
        "use up to 4000 bytes",
    )
    _require(
        not path or (_PATH.match(path) is not None and path.isascii() and path.isprintable() and " " not in path),
        "readiness.path", f"{path!r} is no path", "start it with / and write spaces as %20",
    )  # fmt: skip
    _between("readiness.timeout_s", spec.readiness.timeout_s, 0.1, 900, "seconds")


def _check_provisioned(spec: FunctionSpec) -> None:
    _between("provisioned", len(spec.provisioned), 0, 20, "windows")
    for index, window in enumerate(spec.provisioned):
        path = f"provisioned[{index}]"
        for field, check in (("schedule", check_schedule), ("timezone", check_timezone)):
            try:
                check(getattr(window, field))
            except BadRequest as exc:
                where = f"{path}.{field}"
                raise BadRequest(f"{where}: {exc.detail}", hint=exc.hint, path=where) from exc
        _between(f"{path}.duration_s", window.duration_s, 60, 7 * 86400, "seconds")
        _between(f"{path}.instances", window.instances, 1, spec.max_instances, "")


def check_weights(weights: tuple[Weight, ...]) -> tuple[Weight, ...]:
    """`weights` itself when 1 to 8 different versions share exactly 100, else BadRequest."""
    _require(1 <= len(weights) <= 8, "weights", f"{len(weights)} versions", "give an alias 1 to 8 versions")
    _require(
        len({w.version for w in weights}) == len(weights), "weights", "a version stands twice", "name each version once"
    )
    for weight in weights:
        _require(
            0 <= weight.version < 2**31, "weights", f"{weight.version} is not a version", "use 0 for $LATEST, or 1 up"
        )
    _require(all(0 <= w.weight <= 100 for w in weights), "weights", "a weight is out of range", "use 0 to 100")
    total = sum(w.weight for w in weights)
    _require(abs(total - 100) < 1e-6, "weights", f"the weights sum to {total:g}", "let them sum to 100")
    return weights


def check_function_name(name: str) -> str:
    """`name` itself or BadRequest."""
    return check_name("function", name)
