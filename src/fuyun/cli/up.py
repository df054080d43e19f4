"""`fuyun up`: the whole platform. The only command that builds one; the others talk to it over HTTP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fuyun.cli import exits, output, rundir
from fuyun.cli.session import command, report
from fuyun.domain.errors import FuyunError, HostUnable

if TYPE_CHECKING:
    from fuyun.settings import Settings

#: Time a detached platform gets to become ready; the first start makes a database and probes the host.
READY_S = 60.0

DataOption = Annotated[Path | None, typer.Option("--data", help="Data directory; default: ~/.local/share/fuyun.")]


def add(app: typer.Typer) -> None:
    """Register the command."""
    command(app, "up")(up)


def up(
    data: DataOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; default: 127.0.0.1.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the gateway; default: 8080, 0: a free one.")
    ] = None,
    api_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the API; default: 8081, 0: a free one.")
    ] = None,
    s3_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of S3; default: 8082, 0: a free one.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Go on in the background.")] = False,
    ready_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Start the platform: one process tree, one data directory. Ctrl-C stops it and lets running requests finish.

    Every other setting (`fuyun config settings`) comes from FUYUN_<NAME> or <data>/config.yaml.
    """
    from fuyun.settings import load

    ports = {"port": port, "api_port": api_port, "s3_port": s3_port}
    given = {"data": str(data) if data else None, "host": host, **ports}
    flags: dict[str, str | int | float] = {name: value for name, value in given.items() if value is not None}
    settings = load(flags, os.environ)
    if detach:
        return _detach(settings)
    announce = _to_parent(ready_fd) if ready_fd is not None else _to_people
    try:
        _serve(settings, announce)
    except FuyunError as exc:
        report(exc)
        if ready_fd is not None:
            os.close(ready_fd)
        raise typer.Exit(exits.exit_code(exc)) from None


def _serve(settings: Settings, announce: Callable[[dict[str, Any]], None]) -> None:
    import fuyun
    from fuyun.base import clock

    state = rundir.RunState(os.getpid(), clock.wall_s(), fuyun.__version__)
    with rundir.hold(settings.data_path, state):
        check_ports(settings)
        import uvloop

        from fuyun.wiring import Running, serve

        def on_ready(running: Running) -> None:
            found = replace(state, api=running.api_url, gateway=running.gateway_url, s3=running.s3_url)
            rundir.write_state(settings.data_path, found)
            announce(
                {
                    "gateway": running.gateway_url,
                    "api": running.api_url,
                    "s3": running.s3_url,
                    "data": str(settings.data_path),
                    "report": list(running.report),
                    **_remember(settings, running.api_url, running.gateway_url, running.admin_key),
                }
            )

        try:
            if uvloop.run(serve(settings, on_ready)) == signal.SIGINT:
                raise typer.Exit(exits.INTERRUPTED)
        except OSError as exc:
            raise _host_error(settings, exc) from exc


def check_ports(settings: Settings) -> None:
    """HostUnable when a port is taken or not ours to take: before anything is started that would have to be ended."""
    import errno
    import socket

    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    for port in filter(None, (settings.port, settings.api_port, settings.s3_port)):
        with socket.socket(family) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((settings.host, port))
                listener.listen(1)
            except OSError as exc:  # what else there is to say of the address, listening in earnest says
                if exc.errno in (errno.EADDRINUSE, errno.EACCES):
                    raise _host_error(settings, exc, port) from exc


def _remember(settings: Settings, api: str, gateway: str, key: str | None) -> dict[str, Any]:
    """Write the user's configuration; says where the key is, or that it is not known."""
    from fuyun.client.config import Profile, adopt, config_path, load_config, save_config

    path = config_path()
    try:
        before = load_config(path)
        started = Profile(api=api, gateway=gateway, key=key or "", data=str(settings.data_path))
        after = adopt(before, started)
        known = bool(after.current.data == started.data and after.current.key)
        if after != before:
            save_config(after, path)
    except FuyunError as exc:
        output.words(f"warning: {exc.detail}")
        return {"config": str(path), "key_known": False, "new_key": key or ""}
    return {"config": str(path), "key_known": known, "new_key": ""}


def _to_people(ready: dict[str, Any]) -> None:
    import fuyun

    output.data(f"gateway  {ready['gateway']}")
    output.data(f"api      {ready['api']}")
    output.data(f"s3       {ready['s3']}")
    output.words(f"fuyun {fuyun.__version__}, data in {ready['data']}")
    if ready["new_key"]:
        output.words("the first key could not be saved; this is it, and it is not shown again:")
        output.data(ready["new_key"])
    elif ready["key_known"]:
        output.words(f"key in {ready['config']}")
    else:
        output.words(f"the key of this data directory is not in {ready['config']}; give one in FUYUN_KEY")
    for line in ready["report"]:
        output.words(f"  {line}")


def _to_parent(fd: int) -> Callable[[dict[str, Any]], None]:
    def announce(ready: dict[str, Any]) -> None:
        with os.fdopen(fd, "w", encoding="utf-8") as pipe:
            pipe.write(json.dumps(ready) + "\n")

    return announce


def _detach(settings: Settings) -> None:
    """Start `fuyun up` in a session of its own, its output in the data directory, and wait until it is ready."""
    data = settings.data_path
    other = rundir.find_running(data)
    if other is not None or rundir.is_held(data):
        # Let the child say so in the same words as everywhere.
        with rundir.hold(data, rundir.RunState(0, 0.0, "")):
            raise AssertionError("the lock was free after all")
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        log = os.open(data / rundir.LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise HostUnable(
            f"the data directory {data} cannot be used: {exc.strerror}", hint="choose one: --data DIR"
        ) from exc
    begin = os.fstat(log).st_size
    read_end, write_end = os.pipe()
    arguments = [sys.executable, "-m", "fuyun.cli.main", "up", "--data", str(data), "--host", settings.host]
    ports = {"--port": settings.port, "--api-port": settings.api_port, "--s3-port": settings.s3_port}
    arguments += [word for name, port in ports.items() for word in (name, str(port))] + ["--ready-fd", str(write_end)]
    # cwd is / so that a detached platform holds no folder; the data directory is absolute.
    child = subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
        pass_fds=[write_end],
        cwd="/",
    )
    os.close(write_end)
    os.close(log)
    try:
        ready = _await_ready(read_end)
    except BaseException:
        child.send_signal(signal.SIGTERM)
        child.wait()
        raise
    finally:
        os.close(read_end)
    if ready is None:
        _end(child)
        text = (data / rundir.LOG).read_bytes()[begin:].decode("utf-8", "replace").strip()
        for line in text.splitlines()[-20:]:
            output.words(line)
        output.words(f"the platform did not start; its log is {data / rundir.LOG}")
        raise typer.Exit(child.returncode if child.returncode and child.returncode > 0 else exits.PLATFORM)
    _to_people(ready)
    output.words(
        f"running in the background as process {child.pid}; log: {data / rundir.LOG}; stop it with: fuyun down"
    )
    # It is init's to reap from here on; without this the interpreter warns that a child still runs.
    child.returncode = 0


def _await_ready(fd: int) -> dict[str, Any] | None:
    """What the child announces, or None when it ended (or took too long) without a word."""
    import select

    from fuyun.base import clock

    until, found = clock.mono_s() + READY_S, b""
    while not found.endswith(b"\n"):
        left = until - clock.mono_s()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            return None
        chunk = os.read(fd, 65536)
        if not chunk:
            return None
        found += chunk
    parsed: dict[str, Any] = json.loads(found)
    return parsed


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        try:
            child.wait(1.0)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(10.0)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _host_error(settings: Settings, exc: OSError, port: int = 0) -> FuyunError:
    """`port`: the one it is about, where that is known."""
    import errno

    if exc.errno == errno.EADDRINUSE:
        taken = str(port) if port else f"{settings.port}, {settings.api_port} or {settings.s3_port}"
        return HostUnable(
            f"port {taken} of {settings.host} is in use",
            hint="choose others with --port, --api-port and --s3-port; 0 takes a free one",
        )
    if exc.errno in (errno.EACCES, errno.EADDRNOTAVAIL):
        return HostUnable(f"cannot listen on {settings.host}: {exc}", hint="choose another --host or a port above 1023")
    return HostUnable(f"the host refused: {exc}", hint="`fuyun doctor` looks at what this host can give")
