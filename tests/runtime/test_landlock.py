"""Landlock, on kernels that have it; without it, that nothing pretends to be."""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path
from typing import Any

import pytest

from fuyun.runtime import landlock, syscalls
from tests.runtime.confined import run


class Kernel:
    """Stands in for the calls of a kernel with Landlock of some ABI, and notes what it was told."""

    def __init__(self, abi: int) -> None:
        self.abi = abi
        self.attributes: tuple[int, ...] = ()
        self.rules: list[int] = []
        self.restricted: list[int] = []

    def call(self, name: str, *arguments: Any) -> int:
        if name == "landlock_create_ruleset" and arguments[2] == 1:
            if not self.abi:
                raise OSError(38, name)
            return self.abi
        if name == "landlock_create_ruleset":
            assert len(arguments[0]) == arguments[1] == {1: 8, 2: 8, 3: 8, 4: 16, 5: 16}.get(self.abi, 24)
            self.attributes = struct.unpack(f"={arguments[1] // 8}Q", arguments[0])
            return 777
        if name == "landlock_add_rule":
            access, descriptor = struct.unpack("=Qi", arguments[2])
            assert arguments[0] == 777
            assert arguments[1] == 1
            assert descriptor > 0
            self.rules.append(access)
            return 0
        raise AssertionError(name)


@pytest.mark.parametrize("abi", [0, 1, 2, 3, 4, 5, 6, 7])
def test_each_kernel_is_asked_for_what_it_knows(abi: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kernel = Kernel(abi)
    monkeypatch.setattr(syscalls, "call", kernel.call)
    assert landlock.abi() == abi
    ruleset = landlock.prepare((str(tmp_path),), ("/dev", "/proc"))
    if not abi:
        assert ruleset == -1
        landlock.restrict(ruleset)  # nothing to do
        return
    known = 13 + (abi >= 2) + (abi >= 3) + (abi >= 5)  # rights on files there are in this ABI
    handled = kernel.attributes[0]
    assert handled < 1 << known
    assert handled & 0b1101 == 0  # executing, reading and listing stay with the mounts
    assert kernel.attributes[1:] == {1: (), 2: (), 3: (), 4: (0,), 5: (0,)}.get(abi, (0, 3))
    writable, *touchable = kernel.rules
    assert writable == handled
    assert len(touchable) == 2
    making = 0b1111111110000 | 1 << 13
    assert all(access & making == 0 and access & 1 << 1 for access in touchable)


def kernel_abi() -> int:
    """What this kernel itself says: landlock_create_ruleset (444 on every architecture), flag 1, asks for the ABI."""
    return max(0, ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1))


def test_on_this_kernel(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/file").write_text("old")
    found = run(
        """
        place = sys.argv[1]
        ruleset = landlock.prepare((place + "/in",), ("/dev",))
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        landlock.restrict(ruleset)
        attempt("made inside", lambda: open(place + "/in/x", "w").close())
        attempt("read outside", lambda: open(place + "/out/file").read())
        attempt("device", lambda: open("/dev/null", "w").close())
        attempt("made outside", lambda: open(place + "/out/x", "w").close())
        attempt("written outside", lambda: open(place + "/out/file", "w").close())
        attempt("removed outside", lambda: os.unlink(place + "/out/file"))
        attempt("linked out", lambda: os.symlink("a", place + "/out/link"))
        attempt("child", lambda: wait(os.fork() or os._exit(bool(os.system(f"echo > {place}/out/y 2>/dev/null")))))
        found["abi"] = landlock.abi()
        """,
        str(tmp_path),
    )
    assert found.pop("made inside") is None
    assert found.pop("read outside") == "old"
    assert found.pop("device") is None
    assert found.pop("abi") == kernel_abi()
    enforced = kernel_abi() > 0
    assert found.pop("child") == int(enforced)
    assert set(found.values()) == {"EACCES" if enforced else None}
