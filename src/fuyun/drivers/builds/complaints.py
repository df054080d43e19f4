"""What uv says when it fails, turned into what the function's author should do. Texts as of uv 0.8 to 0.13."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fuyun.domain.errors import BuildFailed, FuyunError, StorageFull

#: A resolution that fails like this fails the same way when packages may be built from source.
FINAL = re.compile(
    r"was not found in (?:the package registry|the provided package locations)|Couldn't parse requirement"
)
#: The index was not reached; what is cached may still do.
NETWORK = re.compile(
    r"dns error|error sending request|[Nn]etwork is unreachable|Connection refused|Request failed after|timed out"
)

_SPACE = re.compile(r"No space left on device|Disk quota exceeded|os error 28\b")
_MISSING = re.compile(r"(\S+) was not found in (?:the package registry|the provided package locations)")
_PYTHON = re.compile(r"current Python version \(([\d.]+)\S*\) does not satisfy Python\s?([^\s,]+)")
_VERSION = re.compile(r"there (?:is|are) no versions? of (\S+?)(?:,| and|$)")
_WHEEL = re.compile(r"([\w.-]+)==(\S+) has no (?:usable )?wheels")
_BUILD = re.compile(r"Failed to (?:build|download and build|build and install)[^`]*`([^`]+)`")
_PARSE = re.compile(r"Couldn't parse requirement.*")
_HASH = re.compile(r"Hash mismatch for `([^`]+)`")
_GIT = re.compile(r"Git operation failed|Git executable not found")
_COMPILER = re.compile(
    r"command '[^']*(?:gcc|cc|g\+\+|clang)' failed|[Cc]ompiler .*not found|No such file or directory: '(?:gcc|cc)'"
)
_HEADER = re.compile(r"fatal error: (\S+): No such file")
_CONFLICT = re.compile(r"requirements are unsatisfiable")


def explain(lines: Sequence[str], doing: str) -> FuyunError:
    """The error for a failed run that printed `lines`; `doing` says what failed, where nothing else explains it."""
    text = "\n".join(lines)
    if _SPACE.search(text):
        return StorageFull("no space is left for building dependencies", hint="free space in the data directory")
    detail, hint = _explain(text, doing, lines)
    return BuildFailed(detail, hint=hint, log=list(lines[-40:]))


def _explain(text: str, doing: str, lines: Sequence[str]) -> tuple[str, str]:
    if found := _MISSING.search(text):
        return (
            f"no matching distribution: there is no package {found[1]!r}",
            "check the spelling of its name and the index",
        )
    if found := _PARSE.search(text):
        causes = [line.strip() for line in lines if "cause:" in line]
        return (
            f"the requirements cannot be read: {' '.join(causes).replace('cause: ', '') or found[0]}",
            "correct that line",
        )
    if found := _PYTHON.search(text):
        return (
            f"a package needs Python {found[2]}, the function's runtime is {found[1]}",
            "set another runtime (such as python3.12) or allow an older version of the package",
        )
    if found := _HASH.search(text):
        return f"the download of {found[1]} is not what was locked", "remove the --hash or correct it"
    if found := _HEADER.search(text):
        return (
            f"a package does not build: the header {found[1]} is missing",
            "use a version with wheels or install the library",
        )
    if found := _BUILD.search(text):
        compiler = bool(_COMPILER.search(text))
        return (
            f"{found[1]} has no wheel for this interpreter and does not build from source",
            "install a compiler on the host (apt install build-essential) or pin a version that has wheels"
            if compiler
            else "pin a version that has wheels, or see the log for what its build needs",
        )
    if found := _VERSION.search(text):
        return f"no matching distribution: there is no version {found[1]}", "allow another version"
    if found := _WHEEL.search(text):
        return (
            f"{found[1]} {found[2]} has no wheel for this interpreter",
            "pin a version that has one, or set another runtime",
        )
    if _CONFLICT.search(text):
        causes = [line.strip().removeprefix("cause: ") for line in lines if "cause:" in line or "Because" in line]
        return f"the requirements contradict each other: {' '.join(causes)}", "loosen one of them"
    if _GIT.search(text):
        return "a Git repository cannot be read", "check its address, and that git is installed on the host"
    if NETWORK.search(text):
        return (
            "the package index cannot be reached",
            "check the host's network, proxy and certificates, then deploy again",
        )
    last = next((line for line in reversed(lines) if line.strip()), "no output")
    return f"{doing} failed: {last.strip()}", "see the log"
