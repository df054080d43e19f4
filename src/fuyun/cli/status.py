"""`fuyun status`: whether the platform runs, and how it is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fuyun.base import clock
from fuyun.cli import output, rundir
from fuyun.cli.session import JsonOption, command, connect
from fuyun.cli.up import DataOption
from fuyun.domain.errors import FuyunError

if TYPE_CHECKING:
    from fuyun.client.platform import Platform


def add(app: typer.Typer) -> None:
    """Register the command."""
    command(app, "status")(status)


def status(data: DataOption = None, json: JsonOption = False) -> None:
    """Show version, addresses, uptime, functions, instances and memory. Exit 1 when no platform answers."""
    with connect() as platform:
        place = data or (Path(platform.profile.data) if platform.profile.data else None) or _default_data()
        running = rundir.find_running(place)
        try:
            info, nodes = platform.get_info(), platform.get_status()["nodes"]
            functions = _functions(platform, info["namespace"])
        except FuyunError:
            if running is not None and running.api and running.api != platform.profile.api:
                output.words(f"process {running.pid} runs on {place} and answers at {running.api}")
            raise
        api = platform.profile.api
    found = _found(info, nodes, functions, api) | _local(place, running, api)
    if json:
        return output.as_json(found)
    _print(found)


def _found(info: dict[str, Any], nodes: list[dict[str, Any]], functions: int, api: str) -> dict[str, Any]:
    """What the platform says of itself."""
    instances = sum(count for node in nodes for pool in node["pools"] for count in pool["instances"].values())
    return {
        "version": info["version"],
        "api": api,
        "gateway": info["gateway"],
        "functions": functions,
        "instances": instances,
        "namespace": info["namespace"],
        "role": info["role"],
        "nodes": nodes,
    }


def _local(place: Path, running: rundir.RunState | None, api: str) -> dict[str, Any]:
    """What only its own machine can tell: process, data directory, seconds up, bytes of all its processes."""
    if running is None or running.api != api:
        return {"pid": None, "data": None, "uptime_s": None, "memory_bytes": None}
    return {
        "pid": running.pid,
        "data": str(place),
        "uptime_s": clock.wall_s() - running.started_s,
        "memory_bytes": sum(memory_of(pid) for pid in tree_of(running.pid)),
    }


def _print(found: dict[str, Any]) -> None:
    from fuyun.base.units import format_duration

    uptime_s, memory = found["uptime_s"], found["memory_bytes"]
    output.pairs(
        [
            ("version", found["version"]),
            ("gateway", found["gateway"]),
            ("api", found["api"]),
            ("process", found["pid"]),
            ("data", found["data"]),
            ("uptime", format_duration(int(uptime_s)) if uptime_s is not None else ""),
            ("memory", f"{memory / 2**20:.0f} MiB in all processes" if memory else ""),
            ("functions", str(found["functions"])),
            ("instances", str(found["instances"])),
            ("key", f"{found['role']} of {found['namespace']}"),
        ]
    )
    rows = [
        (
            node["name"],
            f"{pool['namespace']}/{pool['function']}",
            pool["version"],
            _states(pool),
            pool["queue"],
            pool["inflight"],
        )
        for node in found["nodes"]
        for pool in node["pools"]
    ]
    if rows:
        output.data("")
        output.table(("NODE", "FUNCTION", "VERSION", "INSTANCES", "QUEUE", "RUNNING"), rows)


def _states(pool: dict[str, Any]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(pool["instances"].items()) if count) or "0"


def _functions(platform: Platform, namespace: str) -> int:
    """Functions in the namespaces the key may see; `namespace` is the key's own, "*" for the platform's."""
    names = [item.name for item in platform.list_namespaces()] if namespace == "*" else [namespace]
    count = 0
    for name in names:
        platform.namespace = name
        count += len(platform.list_functions())
    return count


def _default_data() -> Path:
    from fuyun.settings import load

    return load({}, os.environ).data_path


def tree_of(root: int) -> list[int]:
    """`root` and every process below it, read from /proc."""
    parents: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                with open(f"/proc/{entry.name}/stat", "rb") as file:
                    parent = int(file.read().rpartition(b")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
            parents.setdefault(parent, []).append(int(entry.name))
    found, pending = [], [root]
    while pending:
        pid = pending.pop()
        found.append(pid)
        pending.extend(parents.get(pid, []))
    return found


def memory_of(pid: int) -> int:
    """Bytes of the process's proportional share of memory; 0 when it has ended or may not be looked at."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
