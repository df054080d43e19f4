"""Every knob of the platform: its unit, its default and why. `fuyun config` prints them; only `wiring` reads them.

Each field can be set by the environment as FUYUN_<NAME IN CAPITALS> or in `<data>/config.yaml`; the environment wins,
flags of `fuyun up` win over both.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from fuyun.domain.errors import BadRequest
from fuyun.domain.functions import Wire
from fuyun.domain.names import nearest


def _doc(text: str) -> msgspec.Meta:
    return msgspec.Meta(description=text)


class Settings(Wire, frozen=True, kw_only=True):
    """All of them."""

    data: Annotated[str, _doc("data directory; one directory is the whole state, so that backup is a copy")] = ""
    host: Annotated[str, _doc("address all servers listen on; loopback, so that nothing is exposed by accident")] = (
        "127.0.0.1"
    )
    port: Annotated[int, _doc("port of the gateway (functions); 0 takes a free one")] = 8080
    api_port: Annotated[int, _doc("port of the control API; 0 takes a free one")] = 8081
    s3_port: Annotated[int, _doc("port of S3 (objects); 0 takes a free one")] = 8082
    s3_domain: Annotated[
        str, _doc("domain of BUCKET.s3.DOMAIN and BUCKET.s3-website.DOMAIN; names below localhost are this host's own")
    ] = "localhost"
    drain_s: Annotated[float, _doc("seconds running requests get to finish when the platform stops")] = 20.0
    body_idle_s: Annotated[float, _doc("seconds a client may pause while sending a request; slow-loris protection")] = (
        20.0
    )
    keepalive_s: Annotated[float, _doc("seconds an idle connection is kept; above most clients' own")] = 75.0
    head_bytes: Annotated[int, _doc("bytes of request line and headers; 431 above, as in most servers")] = 65536
    target_bytes: Annotated[int, _doc("bytes of request target; 414 above")] = 8192
    connections: Annotated[
        int, _doc("connections the gateway holds at once; 503 above, so that descriptors suffice")
    ] = 10000
    queue_length: Annotated[int, _doc("requests that wait for an instance per version; 429 above")] = 1000
    queue_wait_s: Annotated[float, _doc("seconds a request waits for an instance; 503 with Retry-After above")] = 30.0
    blanks: Annotated[int, _doc("prepared sandboxes kept per interpreter; each costs about 1 MB")] = 4
    template_budget_bytes: Annotated[
        int,
        _doc("memory that templates and zygotes of layers may hold; the least worth go first; 0 an eighth of it all"),
    ] = 0
    template_from_ms: Annotated[
        float, _doc("a version whose init takes longer gets a template; a fork costs about this")
    ] = 8.0
    interpreters: Annotated[str, _doc("folders searched for python3.x besides PATH, separated by ':'")] = ""
    name_servers: Annotated[
        str, _doc("ADDRESS or ADDRESS@PORT of name servers that functions' names are asked of; empty: the host's own")
    ] = ""
    limits: Annotated[str, _doc("auto, cgroup1, cgroup2 or rlimit: who enforces memory, cpu and pids")] = "auto"
    uid_base: Annotated[int, _doc("first host uid of sandboxes when run as root; above Debian's subuid ranges")] = (
        2_000_000_000
    )
    credential_s: Annotated[
        float, _doc("seconds a function's own credential is good for; an invocation begins with half of it or more")
    ] = 300.0
    reach: Annotated[
        str,
        _doc("networks, such as 10.0.0.0/8, that tenants may send the platform itself to besides public addresses: "
             "databases of triggers, endpoints of subscriptions; nobody is to be sent to what only this host reaches"),
    ] = ""  # fmt: skip
    upload_bytes: Annotated[int, _doc("largest code archive, unpacked; 413 above")] = 512 * 2**20
    retention_s: Annotated[float, _doc("seconds records and logs are kept; a week shows last week")] = 7 * 86400.0
    delivery_retention_s: Annotated[
        float, _doc("seconds asynchronous invocations are listed after they succeeded or were stopped; a day's worth")
    ] = 86400.0
    dead_letter_s: Annotated[float, _doc("seconds dead letters are kept; two weeks outlast a holiday")] = 14 * 86400.0
    log_level: Annotated[str, _doc("debug, info, warning or error of the platform's own log")] = "info"

    @property
    def data_path(self) -> Path:
        """The data directory: the setting, or $XDG_DATA_HOME/fuyun, or ~/.local/share/fuyun."""
        if self.data:
            return Path(self.data).expanduser().absolute()
        base = os.environ.get("XDG_DATA_HOME", "")
        return (Path(base) if base.startswith("/") else Path.home() / ".local" / "share") / "fuyun"


def load(flags: Mapping[str, str | int | float], env: Mapping[str, str]) -> Settings:
    """The settings from `flags` over `env` (FUYUN_<NAME>) over `<data>/config.yaml` over the defaults.

    Raises BadRequest naming the source (flag, variable, or file), what was found and the nearest valid name.
    """
    names = Settings.__struct_fields__
    from_env = {name: env[f"FUYUN_{name.upper()}"] for name in names if f"FUYUN_{name.upper()}" in env}
    data = Settings(data=str(flags.get("data", from_env.get("data", "")))).data_path
    path = data / "config.yaml"
    merged = _read(path) | from_env | dict(flags) | {"data": str(data)}
    try:
        return msgspec.convert(merged, Settings, strict=False)
    except msgspec.ValidationError as exc:
        field = str(exc).rpartition("`$.")[2].rstrip("`")
        source = "the command line" if field in flags else f"FUYUN_{field.upper()}" if field in from_env else str(path)
        raise BadRequest(
            f"{source}: setting {field!r} is {merged.get(field)!r}: {str(exc).partition(' - at')[0]}",
            hint="`fuyun config settings` lists every setting with its unit and default",
        ) from exc


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise BadRequest(f"{path} is not YAML: {exc}", hint="write it as `name: value` lines") from exc
    if not isinstance(found, dict):
        raise BadRequest(f"{path} holds no `name: value` lines", hint="write lines such as `drain_s: 30`")
    for name in found:
        if name not in Settings.__struct_fields__ or name == "data":
            close = nearest(str(name), [known for known in Settings.__struct_fields__ if known != "data"])
            raise BadRequest(
                f"{path}: {name!r} is not a setting" + (f"; did you mean {close!r}?" if close else ""),
                hint="`fuyun config settings` lists every setting",
            )
    return found
