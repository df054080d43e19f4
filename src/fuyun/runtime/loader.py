"""Turns a SPECIALIZE task into an App: environment, import path, import, initializer."""

from __future__ import annotations

import gc
import os
import sys
from time import monotonic_ns

from fuyun.runtime import forking, layered, streams
from fuyun.runtime.context import Context
from fuyun.runtime.detect import mode_of, with_context, with_event_and_context
from fuyun.runtime.handlers import event_runner
from fuyun.runtime.hooks import HookTimeout, Limit
from fuyun.runtime.problems import LoadProblem, describe, problem, raised, trim, type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional

    from fuyun.runtime.calls import Call
    from fuyun.runtime.desk import Desk
    from fuyun.runtime.worker import Seat

DEFAULTS: dict[str, Any] = {
    "concurrency": 1, "timeout_s": 30.0, "memory_bytes": 256 << 20, "output_bytes": 6 << 20, "log_bytes": 1 << 20,
    "layers": [], "env": {}, "hooks": {}, "template": False, "namespace": "", "function": "", "version": "",
    "instance": "", "runtime": "python3",
}  # fmt: skip
#: Numeric libraries start a thread per core unless told otherwise; an instance has only its share of them.
_THREAD_COUNTS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_PYTHON = "{}.{}.{}".format(*sys.version_info[:3])
HOOKS = ("pre_freeze", "pre_stop")


class App:
    """The author's code, loaded. `mode` event, wsgi, asgi or wasm; `style` inline, threads or async; times in ms."""

    def __init__(self, task: dict[str, Any], call: Any, mode: str, asynchronous: bool) -> None:
        self.task = task
        self.call = call
        self.mode = mode
        self.style = "async" if asynchronous else "threads" if int(task["concurrency"]) > 1 else "inline"
        self.code_dir: str = task["code"]
        self.hooks: dict[str, Callable[[], Any]] = {}
        self.initializer: Optional[Callable[[], Any]] = None  # an asynchronous one, still to be run on the loop
        self.load_ms = 0.0
        self.init_ms = 0.0
        self.warmed = False  # it has answered the warm-up call
        self.forkable = False
        self.reason = ""
        self.broken: Optional[LoadProblem] = None  # why a copy of a template cannot serve
        self.seat: Optional[Seat] = None  # what the copies of a template serve with
        self.learned: dict[str, Any] = {}  # what `layered` tells of its imports

    def ready(self) -> dict[str, Any]:
        """What READY says: how the start went and what the instance is."""
        return {
            "mode": self.mode,
            "style": self.style,
            "load_ms": round(self.load_ms, 3),
            "init_ms": round(self.init_ms, 3),
            "forkable": self.forkable,
            "reason": self.reason,
            "hooks": sorted(self.hooks),
            "python": _PYTHON,
            **self.learned,
            **({"warmed": True} if self.warmed else {}),
        }

    def hook_limit(self, name: str) -> float:
        """Seconds the hook may take."""
        return float(self.task["hooks"].get(f"{name}_timeout_s", 30.0 if name == "initializer" else 3.0))

    def runner(self, desk: Desk) -> Callable[[Call], None]:
        """What answers one call at a desk of a synchronous mode."""
        if self.mode == "wsgi":
            from fuyun.runtime.wsgi import wsgi_runner

            return wsgi_runner(desk)
        return event_runner(desk)

    def problem_of(self, exc: BaseException) -> dict[str, Any]:
        """The Problem of an invocation that ended with `exc`."""
        code = getattr(exc, "code", None)
        kind = type(exc).__name__
        if isinstance(exc, SystemExit):
            return problem("function_exited", f"the function ended its process: sys.exit({exc.code!r})", "SystemExit")
        if kind == "BadAnswer" and isinstance(code, str):
            return problem(code, str(exc))
        if kind == "BadPayload":
            return problem("bad_request", str(exc))
        return raised(exc, self.code_dir)


def load(
    task: dict[str, Any],
    send: Optional[Callable[[bytes], None]] = None,
    warm: Optional[Callable[[App], None]] = None,
) -> App:
    """Become what `task` says. LoadProblem when the author's code does not let us. Starts no thread and no event loop;
    an asynchronous initializer is left for `worker.serve`. `warm` is called when all is loaded, before it is judged
    whether it can be forked."""
    task = {**DEFAULTS, **task}
    streams.install(task["function"], int(task["log_bytes"]), send)
    set_environment(task)
    if task["runtime"] == "wasm":
        from fuyun.runtime.wasm.serving import load as load_module

        return load_module(task)
    paths = _import_path(task)
    learning = layered.Learning(task, paths[1:]) if task.get("learn") else None
    before = forking.Holdings.now()
    started = monotonic_ns()
    target, colon = _resolve(task["handler"], task["code"], paths)
    mode, asynchronous, call = mode_of(target, colon)
    if mode == "event":
        try:
            call = with_event_and_context(call)
        except TypeError as exc:
            raise LoadProblem("handler_missing", f"{task['handler']} {exc}") from None
    app = App(task, call, mode, asynchronous)
    context = Context({}, task)
    for name in HOOKS:
        if task["hooks"].get(name):
            hook, _ = _resolve(task["hooks"][name], task["code"], paths)
            app.hooks[name] = with_context(hook, context)
    loaded = monotonic_ns()
    app.load_ms = (loaded - started) / 1e6
    if task["hooks"].get("initializer"):
        initializer, _ = _resolve(task["hooks"]["initializer"], task["code"], paths)
        _initialize(app, initializer, with_context(initializer, context))
    app.init_ms = (monotonic_ns() - loaded) / 1e6
    if warm is not None:
        warm(app)
    if learning is not None:
        app.learned = learning.result()
    forking.judge(app, before)
    gc.freeze()
    return app


def set_environment(task: dict[str, Any]) -> None:
    """The function's variables, over a fixed base: UTC, C.UTF-8, one numeric thread per core it may use."""
    threads = str(max(1, -int(-float(task.get("cpu") or 1) // 1)))
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": "/tmp",
        "TMPDIR": "/tmp",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONPATH": os.pathsep.join([task["code"], *task["layers"]]),
        **dict.fromkeys(_THREAD_COUNTS, threads),
        **task["env"],
        "FUYUN_NAMESPACE": task["namespace"],
        "FUYUN_FUNCTION": task["function"],
        "FUYUN_VERSION": task["version"],
        "FUYUN_INSTANCE": task["instance"],
        "FUYUN_HANDLER": task["handler"],
        "FUYUN_MEMORY_BYTES": str(task["memory_bytes"]),
        "FUYUN_TIMEOUT_S": str(task["timeout_s"]),
    }
    bins = [folder for layer in task["layers"] if os.path.isdir(folder := os.path.join(layer, "bin"))]
    environment["PATH"] = os.pathsep.join([*bins, environment["PATH"]])
    zone = os.environ.get("TZ")
    for name in [name for name in os.environ if name not in environment]:
        del os.environ[name]
    for name, value in environment.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
    if environment["TZ"] != zone:
        import time

        time.tzset()


def _import_path(task: dict[str, Any]) -> list[str]:
    """The code before the standard library, layers after it, as in a virtual environment; returns their folders."""
    code = task["code"]
    try:
        os.chdir(code)
    except OSError as exc:
        raise LoadProblem("function_load_failed", f"the code folder {code} cannot be entered: {exc.strerror}") from None
    sys.path[:] = [code, *(p for p in sys.path if p and p != code)]
    sys.argv = [code]
    paths = [code, *search_layers(task)]
    sys.path_importer_cache.pop(code, None)
    return paths


def search_layers(task: dict[str, Any]) -> list[str]:
    """Let modules be found in the task's layers, whose folders are returned."""
    sys.dont_write_bytecode = True
    paths = []
    for layer in task["layers"]:
        folder = os.path.join(layer, "python") if os.path.isdir(os.path.join(layer, "python")) else layer
        paths.append(folder)
        try:
            names = os.listdir(folder)
        except OSError as exc:
            raise LoadProblem("function_load_failed", f"the layer {layer} cannot be read: {exc.strerror}") from None
        if folder in sys.path:  # the zygote that this was forked from has done it
            continue
        if any(name.endswith(".pth") for name in names):
            import site

            site.addsitedir(folder)
        else:
            sys.path.append(folder)
        sys.path_importer_cache.pop(folder, None)
    return paths


def _resolve(name: str, code: str, paths: list[str]) -> tuple[Any, bool]:
    """The object `name` leads to, and whether it was written with a colon."""
    colon = ":" in name
    if colon:
        module_name, _, attributes = name.partition(":")
    else:
        module_name, _, attributes = name.rpartition(".")
    module_name = module_name.replace("/", ".").strip(".")
    if not module_name or not attributes:
        raise LoadProblem("handler_missing", f"{name!r} names no handler; write app.handler, pkg/mod.fn or app:app")
    module = _import(module_name, code)
    target: Any = module
    for attribute in attributes.split("."):
        try:
            target = getattr(target, attribute)
        except AttributeError:
            raise LoadProblem("handler_missing", _missing(module_name, attribute, target)) from None
        except Exception as exc:
            text = f"looking up {name} failed: {describe(exc)}"
            raise LoadProblem("function_load_failed", text, type_name(exc), trim(exc, code)) from None
    if not callable(target):
        raise LoadProblem("handler_missing", f"{name} is a {type(target).__name__}, which cannot be called")
    return target, colon


def _import(module_name: str, code: str) -> Any:
    collecting = gc.isenabled()
    gc.disable()  # an import makes much and frees little: collecting meanwhile costs up to a tenth of its time
    try:
        __import__(module_name)
        return sys.modules[module_name]
    except BaseException as exc:
        absent = getattr(exc, "name", None) if isinstance(exc, ModuleNotFoundError) else None
        if absent and (module_name == absent or module_name.startswith(f"{absent}.")):
            raise LoadProblem("function_load_failed", _absent(module_name, code), type_name(exc)) from None
        lines = trim(exc, code)
        streams.spool.record("error", "\n".join(lines))
        text = f"importing {module_name} failed: {describe(exc)}"
        raise LoadProblem("function_load_failed", text, type_name(exc), lines) from None
    finally:
        if collecting:
            gc.enable()


def _absent(module_name: str, code: str) -> str:
    try:
        found = sorted(
            n[:-3] if n.endswith(".py") else n for n in os.listdir(code) if n.endswith(".py") or n.isidentifier()
        )
    except OSError:
        found = []
    listed = ", ".join(found[:12]) or "nothing"
    return (
        f"there is no module {module_name!r} in the code; it holds {listed}{_nearest(module_name.split('.')[0], found)}"
    )


def _missing(module_name: str, attribute: str, target: Any) -> str:
    found = (
        sorted(n for n, v in vars(target).items() if callable(v) and not n.startswith("_"))
        if hasattr(target, "__dict__")
        else []
    )
    listed = ", ".join(found[:12]) or "no callable"
    return f"{module_name} has no {attribute!r}; it defines {listed}{_nearest(attribute, found)}"


def _nearest(word: str, known: list[str]) -> str:
    import difflib

    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _initialize(app: App, initializer: Any, call: Callable[[], Any]) -> None:
    from fuyun.runtime.detect import Signature

    if Signature(initializer).is_async:
        app.initializer = call
        return
    limit_s = app.hook_limit("initializer")
    try:
        with Limit(limit_s):
            call()
    except HookTimeout:
        raise LoadProblem("function_init_failed", f"the initializer did not end within {limit_s:g} s") from None
    except BaseException as exc:
        raise init_problem(exc, app.code_dir) from None


def init_problem(exc: BaseException, code_dir: str, what: str = "the initializer") -> LoadProblem:
    """The LoadProblem of an initializer, start-up or restore hook that raised."""
    lines = trim(exc, code_dir)
    streams.spool.record("error", "\n".join(lines))
    return LoadProblem("function_init_failed", f"{what} failed: {describe(exc)}", type_name(exc), lines)
