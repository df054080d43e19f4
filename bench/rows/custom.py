"""Custom programs: a runtime in Python of the standard library's, behind its keeper, cold and warm."""

from __future__ import annotations

from bench.measure import Row, Sample
from bench.rows.cold import cold_calls
from bench.rows.warm import closed_loop_us
from bench.stage import BARE_PYTHON, Stage, reference_server

_BOOTSTRAP = f"""#!{BARE_PYTHON} -IS
import http.client, os

api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
while True:
    api.request("GET", "/2018-06-01/runtime/invocation/next")
    told = api.getresponse()
    told.read()
    path = "/2018-06-01/runtime/invocation/" + told.getheader("Lambda-Runtime-Aws-Request-Id") + "/response"
    api.request("POST", path, b'{{"hello": "world"}}')
    api.getresponse().read()
"""
_FILES = {"bootstrap": _BOOTSTRAP}
_PLAIN = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"


def cold(stage: Stage) -> Sample:
    """Functions called for the first time since their instances were retired."""
    names = [f"bench-custom-{number}" for number in range(stage.times(20))]
    for name in names:
        stage.platform.deploy(name, _FILES, runtime="custom", idle_timeout_s=1.0)
    try:
        return cold_calls(stage, names, [BARE_PYTHON, "-I", "-S", "-c", "import http.client"], None)
    finally:
        for name in names:
            stage.platform.remove(name)


def warm(stage: Stage) -> Sample:
    """One client in a closed loop."""
    stage.platform.deploy("bench-custom", _FILES, runtime="custom")
    try:
        times = stage.times(1000)
        with reference_server() as address:
            ours = closed_loop_us(stage.gateway, stage.request("bench-custom"), times)
            reference = closed_loop_us(address, _PLAIN, times)
        return Sample(ours, reference, {"calls": times})
    finally:
        stage.platform.remove("bench-custom")


ROWS = (
    Row(
        name="cold-custom", what="cold start p50, HTTP to HTTP, a custom program on Python's http.client",
        reference='python3 -I -S -c "import http.client"', unit="ms", budget=4.0, goal=2.0, better="lower",
        measure=cold,
    ),
    Row(
        name="latency-custom", what="warm latency p50, c=1, the same program",
        reference="bare uvloop+httptools hello server", unit="us", budget=150.0, goal=40.0, better="lower",
        measure=warm,
    ),
)  # fmt: skip
