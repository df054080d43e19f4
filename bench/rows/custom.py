"""Custom programs: a runtime in Python of the standard library's, behind its keeper, cold and warm."""

from __future__ import annotations

from bench.measure import Row, Sample
from bench.rows.cold import first_calls
from bench.rows.warm import latency
from bench.stage import BARE_PYTHON, Stage

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


def cold(stage: Stage) -> Sample:
    """To the program's first `next`, and through it."""
    reference = [BARE_PYTHON, "-I", "-S", "-c", "import http.client"]
    return first_calls(stage, "bench-custom", _FILES, 20, reference, runtime="custom")


def warm(stage: Stage) -> Sample:
    """One client in a closed loop."""
    return latency(stage, "bench-custom", _FILES, 1000, runtime="custom")


ROWS = (
    Row(
        name="cold-custom", what="cold start p50, HTTP to HTTP, a custom program on Python's http.client",
        reference='python3 -I -S -c "import http.client"', unit="ms", budget=3.0, goal=1.5, better="lower",
        measure=cold,
    ),
    Row(
        name="latency-custom", what="warm latency p50, c=1, the same program",
        reference="bare uvloop+httptools hello server", unit="µs", budget=20.0, goal=8.0, better="lower",
        measure=warm,
    ),
)  # fmt: skip
