"""Functions, versions and aliases, and the rules a valid one keeps."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from fuyun.base.units import format_duration, format_size
from fuyun.domain.errors import BadRequest
from fuyun.domain.names import LATEST, check_layers, check_name, check_qualifier
from fuyun.domain.networks import MOST, parse_opening
from fuyun.domain.schedules import check_schedule, check_timezone

MIB = 1024 * 1024
#: Mount points a sandbox prepares, less the one for dependencies (`runtime.sandbox.LAYER_SLOTS`).
MOST_LAYERS = 11

Isolation = Literal["sandbox", "process"]
Auth = Literal["public", "key"]
Network = Literal["none", "internet"]
StartPolicy = Literal["auto", "template", "blank", "plain"]


class Wire(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of everything that crosses a wire or a disk."""


class Cors(Wire, frozen=True, kw_only=True):
    """Cross-origin rules of one HTTP trigger. `["*"]` allows any; credentials then echo the origin."""

    allow_origins: tuple[str, ...] = ("*",)
    allow_methods: tuple[str, ...] = ("*",)
    allow_headers: tuple[str, ...] = ("*",)
    expose_headers: tuple[str, ...] = ()
    allow_credentials: bool = False
    max_age_s: int = 600


class HttpTrigger(Wire, frozen=True, kw_only=True):
    """Binds a path of the gateway to the function. `path` may end in `/*` to take everything below it."""

    path: str
    methods: tuple[str, ...] = ("ANY",)
    auth: Auth = "key"
    cors: Cors | None = None
    alias: str = ""  # qualifier that serves it; "" is $LATEST


class Trigger(Wire, frozen=True, kw_only=True):
    """One trigger of a function; exactly one field is set. Other kinds join HTTP in later releases."""

    http: HttpTrigger | None = None


HOOKS = ("initializer", "pre_freeze", "pre_stop")


class Hooks(Wire, frozen=True, kw_only=True):
    """Lifecycle hooks as `module.callable`, each with a limit in seconds."""

    initializer: str = ""
    initializer_timeout_s: float = 30.0
    pre_freeze: str = ""
    pre_freeze_timeout_s: float = 3.0
    pre_stop: str = ""
    pre_stop_timeout_s: float = 3.0


class Allowed(Wire, frozen=True, kw_only=True):
    """A network policy: entries `HOST:PORT[/PROTOCOL]` of what may be reached (`domain.networks`)."""

    allow: tuple[str, ...]


class Provisioned(Wire, frozen=True, kw_only=True):
    """A window in which more instances are kept: from each time the cron `schedule` fires, for `duration_s`."""

    schedule: str
    duration_s: float
    instances: int
    timezone: str = "UTC"


class FunctionSpec(Wire, frozen=True, kw_only=True):
    """Everything a version freezes, except its code. Sizes in bytes, durations in seconds."""

    runtime: str = "python3"
    handler: str = "handler.handler"
    memory_bytes: int = 256 * MIB
    timeout_s: float = 30.0
    concurrency: int = 1
    min_instances: int = 0
    provisioned: tuple[Provisioned, ...] = ()
    max_instances: int = 100
    idle_timeout_s: float = 300.0
    freeze_after_s: float = 0.0  # idle time after which an instance gets no CPU until its next call; 0 never
    cpu: float = 1.0  # cores at most (quota); shares follow memory
    pids: int = 128
    tmp_bytes: int = 64 * MIB
    payload_bytes: int = 6 * MIB  # largest request body
    output_bytes: int = 6 * MIB  # largest buffered result; streamed results are not limited
    log_bytes: int = 1 * MIB  # log text kept of one invocation
    isolation: Isolation = "sandbox"
    network: Network | Allowed = "none"
    start: StartPolicy = "auto"
    env: dict[str, str] = {}
    secrets: dict[str, str] = {}  # environment name -> name of a secret of the namespace
    layers: tuple[str, ...] = ()  # NAME:NUMBER, searched in this order; NAME alone until a deployment freezes it
    hooks: Hooks = Hooks()
    tags: dict[str, str] = {}
    triggers: tuple[Trigger, ...] = ()
    description: str = ""


class Artifact(Wire, frozen=True, kw_only=True):
    """Immutable bytes a version mounts: its code or a built layer. `digest` is sha256 in hex."""

    digest: str
    size_bytes: int


class Version(Wire, frozen=True, kw_only=True):
    """An immutable snapshot; `number` 0 is the draft `$LATEST`, the only one that changes."""

    namespace: str
    function: str
    number: int
    spec: FunctionSpec
    code: Artifact
    layers: tuple[Artifact, ...] = ()  # built dependencies and layers, in mount order
    created_s: float
    description: str = ""
    revision: int = 1  # rises with every change of the draft; never reused

    @property
    def qualifier(self) -> str:
        """`$LATEST` or the number as text."""
        return LATEST if self.number == 0 else str(self.number)

    @property
    def key(self) -> str:
        """Names one immutable content: a draft's key changes with its revision."""
        return f"{self.namespace}/{self.function}@{self.number or f'0.{self.revision}'}"


class Weight(Wire, frozen=True, kw_only=True):
    """A share of an alias's traffic. `version` 0 is `$LATEST`; weights of one alias sum to 100."""

    version: int
    weight: float


class Alias(Wire, frozen=True, kw_only=True):
    """A mutable name for one version, or several by weight. `revision` is what If-Match compares (`"<revision>"`)."""

    namespace: str
    function: str
    name: str
    weights: tuple[Weight, ...]
    previous: tuple[Weight, ...] = ()  # where `rollback` goes
    sticky_header: str = ""  # requests with the same value of this header meet the same version
    revision: int = 1
    updated_s: float = 0.0


class Function(Wire, frozen=True, kw_only=True):
    """A function's name and its counters. The draft is version 0; `last_version` is the highest number ever given."""

    namespace: str
    name: str
    last_version: int
    created_s: float
    updated_s: float


_PATH = re.compile(r"/[^\s?#\x00-\x1f\x7f]*")
_METHOD = re.compile(r"[A-Za-z]{1,20}")

PYTHONS = ("python3", "python3.9", "python3.10", "python3.11", "python3.12", "python3.13", "python3.14")
#: Runtimes whose code is a program: started in an instance, never forked from a template.
PROGRAMS = ("custom",)
#: Runtimes whose code is a WebAssembly module, run anew for every call inside an instance.
MODULES = ("wasm",)
RUNTIMES = (*PYTHONS, *PROGRAMS, *MODULES)
#: What a program's keeper takes of an instance's processes and threads, with some for the program.
_LEAST_PIDS = 16


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
    elif spec.runtime in MODULES:
        _check_module(spec)
    else:
        _check_callables(spec)
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
    _check_network(spec)
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
    for index, trigger in enumerate(spec.triggers):
        path = f"triggers[{index}].http"
        _require(trigger.http is not None, path, "the trigger has no kind", "add http: {path: /...}")
        if trigger.http is not None:
            _check_http(path, trigger.http)
    return spec


def _check_network(spec: FunctionSpec) -> None:
    _require(
        spec.network == "none" or spec.isolation == "sandbox",
        "network",
        f"isolation {spec.isolation!r} has the host's network; no policy holds there",
        "leave `network` out, or use isolation: sandbox",
    )
    if isinstance(spec.network, Allowed):
        count = len(spec.network.allow)
        _require(0 < count <= MOST, "network.allow", f"{count} entries", f"name 1 to {MOST}, or write network: none")
        for index, text in enumerate(spec.network.allow):
            parse_opening(text, f"network.allow[{index}]")


def _check_callables(spec: FunctionSpec) -> None:
    callables = {"handler": spec.handler}
    for hook in HOOKS:
        callables[f"hooks.{hook}"] = getattr(spec.hooks, hook)
    for path, name in callables.items():
        if path == "handler" or name:
            module, _, attribute = name.replace(":", ".").rpartition(".")
            ok = bool(module) and all(part.isidentifier() for part in [*module.replace("/", ".").split("."), attribute])
            _require(ok, path, f"{name!r} is not MODULE.CALLABLE", "write app.handler, pkg/mod.fn or app:app")


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
    _require(
        spec.start != "template", "start", f"{name} has no templates", "leave start out: programs start from blanks"
    )
    _between("pids", spec.pids, _LEAST_PIDS, 32768, "")


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


def _check_http(path: str, http: HttpTrigger) -> None:
    _require(
        _PATH.fullmatch(http.path) is not None and not http.path.startswith("/fn/"),
        f"{path}.path",
        f"{http.path!r} cannot be a trigger path",
        "start it with /, keep out of /fn/, and write spaces, ? and # as %20, %3F and %23",
    )
    _require("*" not in http.path.removesuffix("/*"), f"{path}.path", "* only stands at the end", "end it with /*")
    _require(bool(http.methods), f"{path}.methods", "no method", "name some, or ANY")
    for method in http.methods:
        _require(
            _METHOD.fullmatch(method) is not None,
            f"{path}.methods",
            f"{method!r} is not a method",
            "use GET, POST, ANY",
        )
    if http.alias:
        try:
            check_qualifier(http.alias)
        except BadRequest as exc:
            raise BadRequest(
                f"{path}.alias: {exc.detail}", hint="name an alias or a version", path=f"{path}.alias"
            ) from exc


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
