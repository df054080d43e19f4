"""The platform's own address inside an instance: ways to ask it for more than the function may."""

from __future__ import annotations

import base64
import errno
import http.client
import json
import os
import socket

from fuyun.testing.attacks.attempt import NEVER, attempt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fuyun.testing.attacks.attempt import Facts

_ADDRESS = "the platform's address"
_OWN, _TAG = "its permissions name functions of its own namespace", "the credential is signed"
#: What a status of the platform's stands for.
_REFUSALS = {400: errno.EINVAL, 401: errno.EACCES, 403: errno.EPERM, 404: errno.ENOENT, 405: errno.EINVAL}


def _ask(path: str, token: str, method: str = "POST") -> object:
    """The answer; OSError where the platform refuses."""
    connection = http.client.HTTPConnection(os.environ["FUYUN_ENDPOINT"].partition("//")[2], timeout=5)
    try:
        connection.request(method, path, b"{}", {"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        data = answer.read()
    finally:
        connection.close()
    if answer.status in _REFUSALS:
        raise OSError(_REFUSALS[answer.status], data.decode())
    return data


@attempt(_ADDRESS, "tenant's function", "invoke a function of another namespace", "EPERM", _OWN, NEVER)
def tenants_function(facts: Facts) -> object:
    return _ask("/invoke/tenant-b/neighbour", facts["own"])


@attempt(_ADDRESS, "smuggled path", "hide another namespace behind its own in a path", "EPERM", _OWN, NEVER)
def smuggled_path(facts: Facts) -> object:
    return _ask("/fn/default/attacker%2F..%2F..%2Ftenant-b/neighbour/..%2f..%2ftenant-b%2fneighbour", facts["own"])


@attempt(_ADDRESS, "function not named", "invoke a function that its permissions do not name", "EPERM", _OWN, NEVER)
def not_named(facts: Facts) -> object:
    return _ask("/fn/default/somebody", facts["own"])


@attempt(_ADDRESS, "control API there", "read the control API at that address", "ENOENT", "nothing else answers", NEVER)
def control_api_there(facts: Facts) -> object:
    return _ask("/v1/namespaces", facts["own"], "GET")


@attempt(_ADDRESS, "no credential", "invoke itself without one", "EACCES", "every request needs one", NEVER)
def no_credential(facts: Facts) -> object:
    return _ask("/invoke/default/attacker", "")


@attempt(_ADDRESS, "neighbour's credential", "use the credential of a neighbour's invocation", "EACCES",
         "a credential is good at its own instance's address", NEVER)  # fmt: skip
def neighbours_credential(facts: Facts) -> object:
    return _ask("/invoke/default/attacker", facts["credential"])


@attempt(_ADDRESS, "longer life", "write another expiry into its credential", "EACCES", _TAG, NEVER)
def longer_life(facts: Facts) -> object:
    text, _, tag = facts["own"].removeprefix("fc_").partition(".")
    claims = json.loads(base64.urlsafe_b64decode(text + "=="))
    claims["exp"] += 10**6
    forged = base64.urlsafe_b64encode(json.dumps(claims, separators=(",", ":")).encode()).decode().rstrip("=")
    return _ask("/invoke/default/attacker", f"fc_{forged}.{tag}")


@attempt(_ADDRESS, "another depth", "write depth 0 and no tag into its credential", "EACCES", _TAG, NEVER)
def another_depth(facts: Facts) -> object:
    text = facts["own"].removeprefix("fc_").partition(".")[0]
    claims = json.loads(base64.urlsafe_b64decode(text + "==")) | {"depth": 0}
    return _ask("/invoke/default/attacker", "fc_" + base64.urlsafe_b64encode(json.dumps(claims).encode()).decode())


@attempt(_ADDRESS, "listening there", "listen where the platform does, to answer in its stead", "EADDRINUSE",
         "the platform's socket is there before its code is", NEVER)  # fmt: skip
def listening_there(facts: Facts) -> object:
    port = int(os.environ["FUYUN_ENDPOINT"].rpartition(":")[2])
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as rival:
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            rival.setsockopt(socket.SOL_SOCKET, option, 1)
        rival.bind(("127.0.0.1", port))
        rival.listen()
        return port
