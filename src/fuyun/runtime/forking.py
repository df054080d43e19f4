"""May this process be forked into instances, and what must be renewed when it was.

Forkable means: nothing is held that two processes cannot both have. A version that is not is served from blanks, with
the reason shown.
"""

from __future__ import annotations

import os
import sys
from _random import Random

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

    from fuyun.runtime.loader import App

#: Descriptors that any number of processes may share.
_HARMLESS = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random", "/proc/", "/sys/")
#: A load quicker than this gains nothing from a template: only the cheap half of the checks runs.
_WORTH_MS = 5.0
_random_seed = Random.seed


class Holdings:
    """What a process holds that a fork would share or lose: descriptors, files, threads."""

    def __init__(self) -> None:
        self.descriptors = _descriptors()
        self.files = _files()

    @classmethod
    def now(cls) -> Holdings:
        """As it is."""
        return cls()


def judge(app: App, before: Holdings) -> None:
    """Set `app.forkable` and `app.reason`. In a template the author's `before_snapshot` hooks run first, so that they
    can let go of what stands in the way; elsewhere having such hooks is taken as the promise that they will."""
    snapshots = sys.modules.get("fuyun.sdk.snapshots")
    template = bool(app.task["template"])
    if snapshots is not None and snapshots.before:
        if not template:
            app.forkable, app.reason = True, ""
            return
        from fuyun.runtime.loader import init_problem

        try:
            snapshots.run_before()
        except BaseException as exc:
            raise init_problem(exc, app.code_dir, "a before_snapshot hook") from None
    if template:
        import gc

        gc.collect()
    deep = template or app.load_ms + app.init_ms > _WORTH_MS
    app.reason = why_not(before, deep)
    app.forkable = not app.reason


def why_not(before: Holdings, deep: bool) -> str:
    """What stands in the way of a fork, in words; "" when nothing does."""
    threading = sys.modules.get("threading")
    if threading is not None and threading.active_count() > 1:
        names = sorted(t.name for t in threading.enumerate() if t is not threading.main_thread())
        return f"threads are running: {', '.join(names[:3])}"
    library = _library()
    if library:
        return library
    if _has_children():
        return "child processes are running"
    now = Holdings.now()
    held = [text for text in map(_describe, sorted(now.descriptors - before.descriptors)) if text]
    if held:
        return next((text for text in held if "event loop" in text), held[0])
    made = sorted(now.files - before.files)
    if made:
        return f"files were written while loading: {', '.join(made[:3])}"
    if deep:
        return _deep()
    return ""


def _deep() -> str:
    shared = _shared_memory()
    if shared:
        return f"memory is shared with other processes: {shared}"
    if _thread_count() > 1 and not _threads_end_at_fork():
        return f"{_thread_count() - 1} threads of native libraries are running"
    return ""


def _descriptors() -> set[int]:
    try:
        numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        numbers = list(range(256))
    return {number for number in numbers if _is_open(number)}  # the one that listed the others is closed again


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _files() -> set[str]:
    found = set()
    for folder in (os.environ.get("TMPDIR", "/tmp"), "/dev/shm"):
        if os.path.isdir(folder):
            found |= {f"{folder}/{name}" for name in os.listdir(folder)}
    return found


def _describe(number: int) -> str:
    """What descriptor `number` stands for when it stands in the way, else ""."""
    import stat

    mode = os.fstat(number).st_mode
    try:
        target = os.readlink(f"/proc/self/fd/{number}")
    except OSError:
        target = ""
    if stat.S_ISSOCK(mode):
        return f"a socket is open (descriptor {number})"
    if "eventpoll" in target:
        return f"an event loop is open (descriptor {number})"
    if stat.S_ISDIR(mode) or stat.S_ISCHR(mode) or target.startswith(_HARMLESS):
        return ""
    if stat.S_ISFIFO(mode):
        return f"a pipe is open (descriptor {number})"
    return f"{target or 'a file'} is open (descriptor {number})"


def _library() -> str:
    loaded = sys.modules
    if "grpc._cython.cygrpc" in loaded:
        return "grpc is loaded, whose core does not survive a fork"
    if "ray._raylet" in loaded:
        return "ray is loaded, whose core worker does not survive a fork"
    if "tensorflow.python" in loaded:
        return "tensorflow is loaded, whose runtime does not survive a fork"
    cuda = loaded.get("torch.cuda")
    if cuda is not None and cuda.is_initialized():
        return "torch has initialised CUDA, which does not survive a fork"
    return ""


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _shared_memory() -> str:
    try:
        with open("/proc/self/maps") as maps:
            for line in maps:
                parts = line.split(None, 5)
                if parts[1][1] == "w" and parts[1][3] == "s":
                    return parts[5].strip() if len(parts) > 5 else "an anonymous mapping"
    except OSError:
        pass
    return ""


def _thread_count() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 1


def _threads_end_at_fork() -> bool:
    """Whether the native threads wind themselves down when the process forks, as OpenBLAS does: fork once and look."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of forking with threads, which is what is tried here
        pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return _thread_count() == 1


def reseed() -> None:
    """Renew the state of `random`, which is all that a zygote's children have in common: it has used nothing else."""
    random = sys.modules.get("random")
    if random is not None:
        generator = vars(random)["_inst"]
        _random_seed(generator)  # what `random.seed()` does, without its looking at what it was given
        generator.gauss_next = None


def forget() -> None:
    """Forget, before a template's first fork, what its copies are to make anew when they need it: the names `tempfile`
    picks, clock sequence and node of `uuid`. The template itself does nothing more that would make it again."""
    tempfile = sys.modules.get("tempfile")
    if tempfile is not None:
        vars(tempfile)["_name_sequence"] = None
    _renew_uuid(sys.modules.get("uuid"))


def renew() -> None:
    """Renew, in a copy, the state of every generator of random numbers that a fork has copied. The process number is no
    sign of a fork here: in its own pid namespace every instance may have the same one."""
    reseed()
    loaded = sys.modules
    openssl = loaded.get("_ssl")
    if openssl is not None:
        openssl.RAND_add(os.urandom(64), 64.0)  # OpenSSL notices a fork by the process number only
    mtrand = loaded.get("numpy.random.mtrand")
    if mtrand is not None:
        mtrand.seed()
    torch = loaded.get("torch")
    if torch is not None and hasattr(torch, "seed"):
        torch.seed()


def _renew_uuid(uuid: Optional[Any]) -> None:
    if uuid is None:
        return
    # libuuid keeps its clock sequence to itself; the module's own version takes it from `random`, just reseeded.
    uuid._generate_time_safe = None
    held = vars(uuid)
    for name in ("_last_timestamp", "_last_timestamp_v6", "_last_timestamp_v7", "_node"):
        if name in held:
            held[name] = None
    if "_last_counter_v7" in held:
        held["_last_counter_v7"] = 0
