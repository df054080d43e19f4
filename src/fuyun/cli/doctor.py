"""`fuyun doctor`: what this host can and cannot give, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json as json_text
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import typer

from fuyun.cli import exits, output, rundir
from fuyun.cli.session import JsonOption, command
from fuyun.cli.up import DataOption
from fuyun.domain.errors import FuyunError, HostUnable

PROBE_S = 120.0


def add(app: typer.Typer) -> None:
    """Register the command."""
    command(app, "doctor")(doctor)


def doctor(data: DataOption = None, json: JsonOption = False) -> None:
    """Try what the platform needs of this host. Exit 1 only when sandboxed functions cannot run here."""
    from fuyun.settings import load

    settings = load({"data": str(data)} if data else {}, os.environ)
    ports = [port for port in (settings.port, settings.api_port) if port]
    found = run_probe(str(settings.data_path), settings.host, ports, settings.interpreters)
    checks = [*with_runtimes(own_ports(found, settings.data_path)), invoke_path()]
    unable = [check for check in checks if check["required"] and check["state"] == "missing"]
    if json:
        output.as_json(checks)
    else:
        rows = [(check["name"], check["state"], check["found"], check["todo"]) for check in checks]
        output.table(("CHECK", "STATE", "FOUND", "WHAT TO DO"), rows)
        if unable:
            names = ", ".join(check["name"] for check in unable)
            output.words(output.style(f"sandboxed functions cannot run here: {names}", "red", sys.stderr))
        else:
            limited = sum(check["state"] != "ok" for check in checks)
            output.words(f"functions can run here{f'; {limited} checks are not ok' if limited else ''}")
    if unable:
        raise typer.Exit(exits.PLATFORM)


def own_ports(checks: list[dict[str, Any]], data: Path) -> list[dict[str, Any]]:
    """The checks, where a port that a platform of ours listens on counts as it should: the one that runs on `data`, or
    the one in the user's configuration."""
    from fuyun.client.config import load_config

    places = {data}
    with suppress(FuyunError):  # a file that cannot be read is another command's matter
        places |= {Path(known.data) for known in (load_config().current, *load_config().others) if known.data}
    for place in places:
        running = rundir.find_running(place)
        mine = {f"port {urlsplit(url).port}" for url in (running.api, running.gateway) if url} if running else set()
        for check in checks:
            if check["name"] in mine:
                assert running is not None
                used = f"in use by Fuyun, process {running.pid} on {place}"
                check.update(state="ok", todo="", found=f"{check['found'].partition(': ')[0]}: {used}")
    return checks


def with_runtimes(checks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The checks, with those of the runtimes that need no toolchain of the host behind the others' (`runtime NAME`)."""
    python = next((check for check in checks if check["name"] == "runtime python3"), None)
    kept = python["found"].partition(",")[0] if python else "no interpreter"
    told = {
        "custom": f"runs the function's own `bootstrap`; its keeper runs on {kept}",
        "web": f"runs the function's own server; its keeper runs on {kept}",
    }
    rows = [
        _check(f"runtime {name}", python is not None, found, "install an interpreter: apt-get install python3")
        for name, found in told.items()
    ]
    last = max((at for at, check in enumerate(checks) if check["name"].startswith("runtime ")), default=-1)
    return [*checks[: last + 1], *rows, _wasm(), _image(), *_oci(), *checks[last + 1 :]]


def _wasm() -> dict[str, Any]:
    spec = importlib.util.find_spec("wasmtime")
    if spec is None or spec.origin is None:
        todo = "install it beside Fuyun: pip install 'fuyun[wasm]'; only functions of runtime wasm need it"
        return _check("runtime wasm", False, "this host has no wasmtime", todo)
    library = Path(spec.origin).parent / f"linux-{os.uname().machine}" / "_libwasmtime.so"
    found = f"wasmtime {importlib.metadata.version('wasmtime')} ({library})"
    if not library.is_file():
        found = f"the installed wasmtime has no library for this machine ({library} is missing)"
    return _check("runtime wasm", library.is_file(), found, "install a wheel of wasmtime for this machine")


def _image() -> dict[str, Any]:
    missing = [name for name in ("skopeo", "umoci") if shutil.which(name) is None]
    found = f"this host has no {' and no '.join(missing)}" if missing else "skopeo and umoci unpack OCI images"
    return _check("runtime image", not missing, found, f"install them: apt-get install {' '.join(missing)}")


def _oci() -> list[dict[str, Any]]:
    """The classes `oci:<runtime>`: crun and runc are tried by Fuyun's own tests, the others taken by their name."""
    from fuyun.runtime import bundles

    found = {name: bundles.find(name) for name in bundles.RUNTIMES}
    return [
        _check(
            f"isolation oci:{name}",
            bool(path),
            path or f"this host has no {bundles.RUNTIMES[name][0]}",
            bundles.SOURCES[name],
        )
        for name, path in found.items()
    ]


def _check(name: str, ok: bool, found: str, todo: str) -> dict[str, Any]:
    state = "ok" if ok else "limited"
    return {"name": name, "state": state, "found": found, "todo": "" if ok else todo, "required": False}


def invoke_path() -> dict[str, Any]:
    """Whether the modules of a warm call were compiled when this Fuyun was installed."""
    spec = importlib.util.find_spec("fuyun.services.pools")
    compiled = spec is not None and (spec.origin or "").endswith(".so")
    found = "compiled" if compiled else "interpreted: everything works, at about half the requests per second"
    todo = "install gcc and Python's headers (python3-dev), then install Fuyun again"
    return _check("invoke path", compiled, found, todo)


def run_probe(data: str, host: str, ports: list[int], interpreters: str) -> list[dict[str, Any]]:
    """The checks of `fuyun.runtime.probe`, tried in a process of its own. HostUnable when even that fails."""
    arguments = [sys.executable, "-m", "fuyun.runtime.probe", "--data", data, "--host", host]
    arguments += ["--interpreters", interpreters]
    for port in ports:
        arguments += ["--port", str(port)]
    try:
        done = subprocess.run(arguments, capture_output=True, timeout=PROBE_S, check=True)
        found: list[dict[str, Any]] = json_text.loads(done.stdout)
    except subprocess.CalledProcessError as exc:
        said = exc.stderr.decode("utf-8", "replace").strip().splitlines()
        raise HostUnable(f"looking at the host failed: {said[-1] if said else exc}") from exc
    except (OSError, ValueError, subprocess.TimeoutExpired) as exc:
        raise HostUnable(f"looking at the host failed: {exc}") from exc
    return found
