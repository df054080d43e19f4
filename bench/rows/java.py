"""Java functions: a handler that answers with a map, cold and warm."""

from __future__ import annotations

from typing import Any

from bench.measure import Row, Sample
from bench.rows.cold import first_calls
from bench.rows.warm import latency
from bench.stage import Stage
from fuyun.runtime.jdks import FLAGS, find_jdk

_APP = """
import java.util.Map;

public class App {
    public static Object handle(Object event) {
        return Map.of("hello", "world");
    }
}
"""
_FILES = {"App.java": _APP}
_SPEC: dict[str, Any] = {"runtime": "java", "handler": "App::handle"}


def cold(stage: Stage) -> Sample:
    """A JVM with its archive, to the method's answer."""
    reference = [f"{find_jdk()[0]}/bin/java", *FLAGS, "--version"]
    return first_calls(stage, "bench-java", _FILES, 20, reference, **_SPEC)


def warm(stage: Stage) -> Sample:
    """One client in a closed loop."""
    return latency(stage, "bench-java", _FILES, 1000, **_SPEC)


ROWS = (
    Row(
        name="cold-java", what="cold start p50, HTTP to HTTP, a Java method",
        reference="java --version with the same options", unit="ms", budget=5.0, goal=2.5, better="lower",
        measure=cold,
    ),
    Row(
        name="latency-java", what="warm latency p50, c=1, the same method",
        reference="bare uvloop+httptools hello server", unit="µs", budget=60.0, goal=20.0, better="lower",
        measure=warm,
    ),
)  # fmt: skip
