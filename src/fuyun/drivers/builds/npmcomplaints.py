"""What npm says when it fails, turned into what the function's author should do. Texts as of npm 9 to 11."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fuyun.domain.errors import BuildFailed, FuyunError, StorageFull

_PREFIX = re.compile(r"^npm (?:error|ERR!) ?")
_SPACE = re.compile(r"\bENOSPC\b|No space left on device|Disk quota exceeded")
_CODE = re.compile(r"^code (\S+)", re.MULTILINE)
_NO_VERSION = re.compile(r"No matching version found for (\S+?)\.?$", re.MULTILINE)
_NO_PACKAGE = re.compile(
    r"404\s+'?(@?[^'\s]+?)'? is not in (?:this|the npm) registry|404 Not Found - GET \S+/([^/\s]+) "
)
_MISMATCH = re.compile(r"^(Missing|Invalid): (.+)$", re.MULTILINE)
_CONFLICT = re.compile(r"^Could not resolve dependency:\s*(.+)|^While resolving: (.+)$", re.MULTILINE)
_FAILED_PATH = re.compile(r"^path (\S+)", re.MULTILINE)
_COMMAND = re.compile(r"^command sh -c (.+)$", re.MULTILINE)
_ENGINE = re.compile(r"Not compatible with your version of node/npm: (\S+)")
_NETWORK = frozenset(
    ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH", "ERR_SOCKET_TIMEOUT")
)
_COMPILER = re.compile(r"not found: make|gyp ERR! find Python|g\+\+: (?:not found|command not found)|cc: not found")


def explain(lines: Sequence[str], doing: str) -> FuyunError:
    """The error for a run of npm that printed `lines`; `doing` says what failed, where nothing else explains it."""
    said = "\n".join(_PREFIX.sub("", line) for line in lines)
    if _SPACE.search(said):
        return StorageFull("no space is left for building packages", hint="free space in the data directory")
    detail, hint = _explain(said, doing, lines)
    return BuildFailed(detail, hint=hint, log=list(lines[-40:]))


def _explain(said: str, doing: str, lines: Sequence[str]) -> tuple[str, str]:
    code = found[1] if (found := _CODE.search(said)) else ""
    if found := _NO_VERSION.search(said):
        return f"no version of {found[1]} matches", "allow another version in package.json"
    if code == "E404":
        name = next((part for part in found.groups() if part), "") if (found := _NO_PACKAGE.search(said)) else ""
        return (
            f"the registry has no package {name or '(see the log)'}",
            "check the spelling of its name and the registry",
        )
    if code == "EUSAGE" and "in sync" in said:
        first = f": {found[1].lower()} {found[2]}" if (found := _MISMATCH.search(said)) else ""
        return f"package.json and its lock do not fit each other{first}", "run npm install and deploy the new lock"
    if code == "ERESOLVE":
        cause = next((part for part in found.groups() if part), "") if (found := _CONFLICT.search(said)) else ""
        return f"the packages contradict each other{f': {cause}' if cause else ''}", "loosen one of their versions"
    if code == "EINTEGRITY":
        return "a download is not what the lock names", "remove its entry from the lock, or check the registry"
    if code == "EBADENGINE":
        name = found[1] if (found := _ENGINE.search(said)) else "a package"
        return f"{name} does not run on this Node", "set another runtime (such as nodejs22), or another version of it"
    if code == "ENOTCACHED" or code in _NETWORK:
        return "the registry cannot be reached", "check the host's network, proxy and certificates, then deploy again"
    if _COMPILER.search(said):
        return (
            "a package is compiled when it is installed, and there is no compiler",
            "apt install build-essential python3",
        )
    if (path := _FAILED_PATH.search(said)) and (command := _COMMAND.search(said)):
        package = path[1].rpartition("node_modules/")[2]
        return f"the install script of {package} failed: {command[1]}", "see the log for what it needs"
    last = next((_PREFIX.sub("", line) for line in lines if _PREFIX.match(line) and "code" not in line), "no output")
    return f"{doing} failed: {last.strip()}", "see the log"
