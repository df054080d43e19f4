"""Where the platform is and which key opens it: the user's configuration file, overridden by the environment.

The file is `$XDG_CONFIG_HOME/fuyun/config.yaml` (or `~/.config/fuyun/config.yaml`), mode 0600, because it holds a key.
Its top level describes the platform in use; `others` keeps the ones used before, so that starting a second platform
does not lose the key of the first. FUYUN_API, FUYUN_GATEWAY, FUYUN_KEY and FUYUN_NAMESPACE override the file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from fuyun.domain.errors import BadRequest, HostUnable
from fuyun.domain.names import DEFAULT_NAMESPACE, nearest

DEFAULT_API = "http://127.0.0.1:8081"
DEFAULT_GATEWAY = "http://127.0.0.1:8080"


@dataclass(frozen=True, slots=True)
class Profile:
    """One platform as a client sees it. `data` is its data directory when it was started on this machine."""

    api: str = DEFAULT_API
    gateway: str = DEFAULT_GATEWAY
    key: str = field(default="", repr=False)
    namespace: str = DEFAULT_NAMESPACE
    data: str = ""


FIELDS = tuple(Profile.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class Config:
    """The whole file: the platform in use and the others known."""

    current: Profile = Profile()
    others: tuple[Profile, ...] = ()


def config_path(env: Mapping[str, str] | None = None) -> Path:
    """Path of the file; it need not exist."""
    env = os.environ if env is None else env
    base = env.get("XDG_CONFIG_HOME", "")
    home = Path(env["HOME"]) if env.get("HOME") else Path.home()
    return (Path(base) if base.startswith("/") else home / ".config") / "fuyun" / "config.yaml"


def load_config(path: Path | None = None) -> Config:
    """The file's content, or the defaults when there is none. BadRequest when it cannot be understood."""
    path = path or config_path()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Config()
    except (OSError, UnicodeDecodeError) as exc:
        raise BadRequest(f"{path} cannot be read: {exc}", hint="make it a UTF-8 file that you own") from exc
    import yaml

    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise BadRequest(f"{path} is not YAML: {exc}", hint="repair or remove it; `fuyun up` writes a new one") from exc
    if found is None:
        return Config()
    others = found.pop("others", None) or [] if isinstance(found, dict) else []
    if not isinstance(others, list):
        raise BadRequest(f"{path}: others is not a list", hint="repair or remove it")
    return Config(_profile(path, found), tuple(_profile(path, other) for other in others))


def load_profile(env: Mapping[str, str] | None = None, path: Path | None = None) -> Profile:
    """The platform in use: the file's, with the environment's overrides on top.

    FUYUN_API alone never sends the file's key to that address unless the file knows it under that address.
    """
    env = os.environ if env is None else env
    config = load_config(path or config_path(env))
    profile = config.current
    api = env.get("FUYUN_API", "").rstrip("/")
    if api and api != profile.api:
        known = [other for other in config.others if other.api == api]
        profile = known[0] if known else Profile(api=api, namespace=profile.namespace)
    overrides = {
        name: env[f"FUYUN_{name.upper()}"]
        for name in ("gateway", "key", "namespace")
        if env.get(f"FUYUN_{name.upper()}")
    }
    return replace(profile, **overrides)


def save_config(config: Config, path: Path | None = None) -> Path:
    """Write the file (mode 0600, its directory 0700 when it is new) in one step and return its path."""
    import yaml

    path = path or config_path()
    content: dict[str, Any] = {name: value for name, value in asdict(config.current).items() if value}
    if config.others:
        content["others"] = [{name: value for name, value in asdict(other).items() if value} for other in config.others]
    text = "# Written by fuyun. It holds a key: keep it private.\n" + yaml.safe_dump(content, sort_keys=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as exc:
        raise HostUnable(f"{path} cannot be written: {exc}", hint="set XDG_CONFIG_HOME to a directory you own") from exc
    return path


def adopt(config: Config, started: Profile) -> Config:
    """`config` with the platform that was just started in use.

    A platform is recognised by its data directory, whatever address it has today. One that has a new key replaces what
    was known of the same directory, or of its address when no directory was known; one without (it existed before)
    takes the key that is already known, and its new addresses.
    """
    known = [config.current, *config.others]
    same = [profile for profile in known if profile.data and profile.data == started.data]
    if not started.key and not same:
        return config
    if not started.key:
        started = replace(same[0], api=started.api, gateway=started.gateway)
    rest = [
        profile
        for profile in known
        if profile.key and profile.data != started.data and (profile.data or profile.api != started.api)
    ]
    return Config(started, tuple(rest))


def use(config: Config, api: str) -> Config:
    """`config` with the known platform at `api` in use; BadRequest naming the known ones otherwise."""
    api = api.rstrip("/")
    found = [profile for profile in config.others if profile.api == api]
    if config.current.api == api:
        return config
    if not found:
        known = ", ".join(profile.api for profile in (config.current, *config.others))
        raise BadRequest(f"no platform at {api} is known", hint=f"known: {known}")
    rest = tuple(profile for profile in (config.current, *config.others) if profile is not found[0])
    return Config(found[0], rest)


def is_private(path: Path) -> bool:
    """True when nobody but its owner can read the file."""
    return not stat.S_IMODE(path.stat().st_mode) & 0o077


def _profile(path: Path, found: Any) -> Profile:
    if not isinstance(found, dict):
        raise BadRequest(
            f"{path} holds no `name: value` lines", hint="repair or remove it; `fuyun up` writes a new one"
        )
    for name, value in found.items():
        if name not in FIELDS:
            close = nearest(str(name), FIELDS)
            raise BadRequest(
                f"{path}: {name!r} is not known here" + (f"; did you mean {close!r}?" if close else ""),
                hint=f"known are {', '.join(FIELDS)} and others",
            )
        if not isinstance(value, str):
            raise BadRequest(f"{path}: {name} is {value!r}, not a text", hint="put it in quotes")
    clean = {name: value.rstrip("/") if name in ("api", "gateway") else value for name, value in found.items()}
    return Profile(**clean)
