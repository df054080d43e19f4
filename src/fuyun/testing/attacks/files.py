"""Files of the host, of the platform and of neighbours: by name, by link, by race; and what may be written."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time

from fuyun.testing.attacks.attempt import NEVER, Nothing, attempt, first_that_opens, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fuyun.testing.attacks.attempt import Facts

_READ, _LINKS, _WRITE, _SETUID = "files of others", "links and races", "writing", "setuid"
_SHARED = "files that are shared"
_ROOT = "the root holds the interpreter, the function's code and its layers, nothing else"
_RO = "mounted read-only, and Landlock lets nothing be written there"


def _open(path: str) -> object:
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK)


@attempt(_READ, "host's file", "open a file of the host that everyone may read", "ENOENT", _ROOT)
def host_file(facts: Facts) -> object:
    return _open(facts["marker"])


@attempt(_READ, "data directory", "list the platform's data directory", "ENOENT EACCES", _ROOT)
def data(facts: Facts) -> object:
    return os.listdir(facts["data"])


@attempt(_READ, "database", "open the platform's database", "ENOENT EACCES", _ROOT)
def database(facts: Facts) -> object:
    return _open(facts["data"] + "/fuyun.db")


@attempt(_READ, "secret key", "open the key that seals secrets", "ENOENT EACCES", _ROOT)
def secret_key(facts: Facts) -> object:
    return _open(facts["data"] + "/secret.key")


@attempt(_READ, "operator's key", "open the configuration that holds the operator's key", "ENOENT EACCES", _ROOT)
def operators_key(facts: Facts) -> object:
    return _open(facts["config"])


@attempt(_READ, "passwords", "open /etc/shadow", "ENOENT", _ROOT)
def passwords(facts: Facts) -> object:
    return _open("/etc/shadow")


@attempt(_READ, "homes and logs", "open /root, /home, /var/lib, /var/log, /etc/ssh or /boot", "nothing", _ROOT)
def homes(facts: Facts) -> object:
    return first_that_opens(["/root", "/home", "/var/lib", "/var/log", "/etc/ssh", "/boot"])


@attempt(
    _READ, "neighbour's /tmp", "find the file a neighbour left in /tmp", "ENOENT", "every instance has its own /tmp"
)
def neighbours_tmp(facts: Facts) -> object:
    return _open(facts["neighbour_tmp"])


@attempt(_READ, "neighbour's code", "find the code of another tenant's function anywhere", "nothing",
         "the store is covered once the function's own code is mounted from it")  # fmt: skip
def neighbours_code(facts: Facts) -> object:
    tops = [f"/{name}" for name in os.listdir("/") if name not in ("proc", "sys", "usr", "lib", "lib64", "bin", "dev")]
    for top in [facts["data"]] if os.path.exists(facts["data"]) else tops:
        for folder, _, names in os.walk(top):
            if facts["neighbour_file"] in names:
                return folder
    raise Nothing


@attempt(_READ, "store", "list the store that code is mounted from", "nothing", "an empty folder is mounted over it",
         NEVER)  # fmt: skip
def store(facts: Facts) -> object:
    found = os.listdir("/store")
    if not found:
        raise Nothing
    return found


@attempt(_READ, "host's shared memory", "open another process's segment in /dev/shm", "ENOENT",
         "/dev/shm is the instance's own /tmp")  # fmt: skip
def shared_memory(facts: Facts) -> object:
    return _open(f"/dev/shm/{facts['shm']}")


@attempt(
    _READ, "file handle", "open a file of the host by a guessed handle", "EPERM", "seccomp: no file handles", NEVER
)
def file_handle(facts: Facts) -> object:
    handle = (16).to_bytes(4, "little") + (1).to_bytes(4, "little") + (2).to_bytes(8, "little") + bytes(8)
    return syscall("open_by_handle_at", -100, handle, os.O_RDONLY)


@attempt(_READ, "name to handle", "learn the handle of a file", "EPERM", "seccomp: no file handles", NEVER)
def name_to_handle(facts: Facts) -> object:
    held = ctypes.create_string_buffer((128).to_bytes(4, "little") + bytes(132), 136)
    return syscall("name_to_handle_at", -100, b"/", held, ctypes.create_string_buffer(8), 0)


@attempt(_LINKS, "symbolic link", "open a symbolic link in /tmp that points to the host's file", "ENOENT",
         "links are followed in the instance's own root")  # fmt: skip
def symbolic_link(facts: Facts) -> object:
    path = f"/tmp/link-{os.getpid()}"
    os.symlink(facts["marker"], path)
    try:
        return _open(path)
    finally:
        os.unlink(path)


@attempt(_LINKS, "dots", "climb above the root with ..", "ENOENT", "the old root was unmounted: .. of / is /")
def dots(facts: Facts) -> object:
    os.chdir("/tmp")
    return _open("../" * 200 + facts["marker"].lstrip("/"))


@attempt(_LINKS, "hard link", "link the interpreter into /tmp and change it there", "EXDEV EPERM EROFS EACCES ENOENT",
         "/tmp is another file system", NEVER)  # fmt: skip
def hard_link(facts: Facts) -> object:
    path = f"/tmp/hard-{os.getpid()}"
    os.link(os.path.realpath("/bin/sh"), path)
    return os.open(path, os.O_WRONLY)


def _racing(act: list[str], look: str, facts: Facts) -> object:
    """One process acts in a loop (`act`: two folders that change places), this one opens `look` below them."""
    folder = tempfile.mkdtemp(dir="/tmp")
    inner = os.path.join(folder, "a/b/c")
    os.makedirs(inner)
    os.symlink("/" if look == "link" else os.path.join(folder, "a"), os.path.join(folder, "s"))
    os.chdir(inner)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        while os.getppid() == parent:
            for source, target in (act, act[::-1]):
                try:
                    os.rename(os.path.join(folder, source), os.path.join(folder, target))
                except OSError:
                    pass
        os._exit(0)
    up = "../" * 12
    try:
        for number in range(3000):
            if number % 100 == 0:
                time.sleep(0.001)  # the other one gets a processor, however few there are
            try:
                return os.open((f"{folder}/x/" if look == "link" else up) + facts["marker"].lstrip("/"), os.O_RDONLY)
            except OSError:
                continue
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.chdir("/")
        shutil.rmtree(folder)
    raise Nothing


@attempt(_LINKS, "rename race", "move the working directory while .. is being resolved from it", "nothing",
         "no mount of the host's tree that a folder could be moved out of")  # fmt: skip
def rename_race(facts: Facts) -> object:
    return _racing(["a/b/c", "c"], "dots", facts)


@attempt(_LINKS, "link race", "swap a folder and a link to / while a path through them is resolved", "nothing",
         "links are followed in the instance's own root")  # fmt: skip
def link_race(facts: Facts) -> object:
    return _racing(["s", "x"], "link", facts)


def _write_into(folder: str) -> object:
    path = f"{folder}/x-{os.getpid()}"
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    os.close(descriptor)
    os.unlink(path)
    return path


@attempt(_WRITE, "root folder", "make a file in /, /etc, /usr, /usr/lib, /usr/bin, /var, /dev, /opt, /run or /proc",
         "nothing", _RO)  # fmt: skip
def root_folder(facts: Facts) -> object:
    for folder in ("/", "/etc", "/usr", "/usr/lib", "/usr/bin", "/var", "/dev", "/opt", "/run", "/proc", "/store"):
        try:
            return _write_into(folder)
        except OSError:
            continue
    raise Nothing


@attempt(_WRITE, "standard library", "open a module of the interpreter's for writing", "EROFS EACCES", _RO)
def interpreter(facts: Facts) -> object:
    return os.open(os.__file__, os.O_WRONLY)


def _code() -> str:
    return os.path.abspath(__file__)


@attempt(_WRITE, "own code", "open the function's code for writing", "EROFS EACCES", _RO)
def own_code(facts: Facts) -> object:
    return os.open(_code(), os.O_WRONLY)


@attempt(_WRITE, "own code's mode", "change mode and time of the function's code", "EROFS EPERM EACCES", _RO)
def code_mode(facts: Facts) -> None:
    mode = os.stat(_code()).st_mode
    os.utime(_code())
    os.chmod(_code(), mode & 0o7777)


@attempt(_WRITE, "own code's name", "delete the function's code, or rename it", "EROFS EACCES", _RO, NEVER)
def code_name(facts: Facts) -> object:
    try:
        os.rename(_code(), _code() + "x")
    except OSError:
        os.unlink(_code())
    return _code()


@attempt(_WRITE, "attributes", "give a file in /tmp a capability (security.capability)", "EPERM",
         "needs CAP_SETFCAP")  # fmt: skip
def attributes(facts: Facts) -> object:
    path = tempfile.mkstemp(dir="/tmp")[1]
    try:
        os.setxattr(path, "security.capability", bytes.fromhex("0100000200002000000000000000000000000000"))
    finally:
        os.unlink(path)
    return path


@attempt(_WRITE, "ownership", "give a file in /tmp to root", "EPERM EINVAL", "no other id is mapped")
def ownership(facts: Facts) -> object:
    path = tempfile.mkstemp(dir="/tmp")[1]
    try:
        os.chown(path, 0, 0)
    finally:
        os.unlink(path)
    return path


@attempt(_WRITE, "flush of the host's disks", "make the host write back the file system that its code is on, again and "
         "again (syncfs)", "EPERM", "seccomp: nothing the instance can write is on a disk")  # fmt: skip
def flush(facts: Facts) -> object:
    return syscall("syncfs", os.open(os.path.dirname(_code()), os.O_RDONLY))


@attempt(_SHARED, "lease", "make whoever opens a file that it shares with them wait (F_SETLEASE)", "EPERM",
         "seccomp: no leases; without root all instances are one owner")  # fmt: skip
def lease(facts: Facts) -> object:
    return fcntl.fcntl(os.open(_code(), os.O_RDONLY), fcntl.F_SETLEASE, fcntl.F_RDLCK)


@attempt(_SHARED, "watch", "hear when others read from a folder that it shares with them (F_NOTIFY)", "EPERM",
         "seccomp: no watching of folders")  # fmt: skip
def watch(facts: Facts) -> object:
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    return fcntl.fcntl(os.open(os.path.dirname(os.__file__), os.O_RDONLY), fcntl.F_NOTIFY, fcntl.DN_ACCESS)


@attempt(_SETUID, "setuid program", "run a program of the host that is root's and setuid", "nothing",
         "mounts are nosuid, no_new_privs is set, and root is not mapped", NEVER)  # fmt: skip
def setuid_program(facts: Facts) -> object:
    for name in ("su", "mount", "newgrp", "passwd", "chsh", "umount", "gpasswd", "chfn", "sudo"):
        path = f"/usr/bin/{name}"
        if not os.path.exists(path) or not os.stat(path).st_mode & 0o4000:
            continue
        reader, writer = os.pipe()
        with subprocess.Popen([path, "-h"], stdin=reader, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
            with open(f"/proc/self/fdinfo/{syscall('pidfd_open', run.pid, 0)}") as info:  # its number as /proc has it
                shown = next(line.split()[1] for line in info if line.startswith("Pid:"))
            with open(f"/proc/{shown}/status") as status:  # of another user, it would not be there
                text = status.read()
            os.close(writer)
        os.close(reader)
        for line in text.splitlines():
            if line.startswith("Uid:") and len(set(line.split()[1:])) != 1:
                return line
        raise Nothing
    raise RuntimeError("no setuid program is installed in /usr/bin to try this with: install the package util-linux")


@attempt(
    _SETUID, "own setuid file", "make a program in /tmp setuid and root's", "EPERM EINVAL", "no other id is mapped"
)
def setuid_file(facts: Facts) -> object:
    path = f"/tmp/suid-{os.getpid()}"
    shutil.copy("/bin/sh", path)
    try:
        os.chown(path, 0, 0)
        os.chmod(path, 0o4755)
    finally:
        os.unlink(path)
    return path
