"""Java functions: a handler that answers with a map, cold and warm."""

from __future__ import annotations

from bench.measure import Row, Sample
from bench.rows.cold import cold_calls
from bench.rows.warm import closed_loop_us
from bench.stage import Stage, reference_server
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
_PLAIN = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"


def cold(stage: Stage) -> Sample:
    """Functions called for the first time since their instances were retired."""
    names = [f"bench-java-{number}" for number in range(stage.times(20))]
    for name in names:
        stage.platform.deploy(name, _FILES, runtime="java", handler="App::handle", idle_timeout_s=1.0)
    try:
        return cold_calls(stage, names, [f"{find_jdk()[0]}/bin/java", *FLAGS, "--version"], None)
    finally:
        for name in names:
            stage.platform.remove(name)


def warm(stage: Stage) -> Sample:
    """One client in a closed loop."""
    stage.platform.deploy("bench-java", _FILES, runtime="java", handler="App::handle")
    try:
        times = stage.times(1000)
        with reference_server() as address:
            ours = closed_loop_us(stage.gateway, stage.request("bench-java"), times)
            reference = closed_loop_us(address, _PLAIN, times)
        return Sample(ours, reference, {"calls": times})
    finally:
        stage.platform.remove("bench-java")


ROWS = (
    Row(
        name="cold-java", what="cold start p50, HTTP to HTTP, a Java method",
        reference="java --version with the same options", unit="ms", budget=5.0, goal=2.5, better="lower",
        measure=cold,
    ),
    Row(
        name="latency-java", what="warm latency p50, c=1, the same method",
        reference="bare uvloop+httptools hello server", unit="us", budget=150.0, goal=40.0, better="lower",
        measure=warm,
    ),
)  # fmt: skip
