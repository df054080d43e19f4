"""Every runtime's records say what a call has taken."""

from __future__ import annotations

from typing import Any

import pytest

from tests.running import Platform
from tests.runtime.modules import text
from tests.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

#: Work of so many ms of CPU time, as each runtime's own clock counts it; the record must show nearly all of it.
WORK_MS, SHOWN_S = 60, 0.05

_PYTHON = f"""
import time

def work():
    until = time.process_time() + {WORK_MS / 1000}
    while time.process_time() < until:
        pass
"""
_HANDLER = f"{_PYTHON}\ndef handler(event, context):\n    work()\n"
_BOOTSTRAP = f"""#!/usr/bin/python3
import http.client, os
{_PYTHON}
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
while True:
    api.request("GET", "/2018-06-01/runtime/invocation/next")
    told = api.getresponse()
    told.read()
    work()
    api.request("POST", "/2018-06-01/runtime/invocation/%s/response" % told.headers["Lambda-Runtime-Aws-Request-Id"])
    api.getresponse().read()
"""
_SERVER = f"""
import os
from http.server import BaseHTTPRequestHandler, HTTPServer
{_PYTHON}
class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))  # closed with something unread, a connection is reset
        work()
        self.send_response(200)
        self.end_headers()

HTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"""
_NODE = f"""
exports.handler = async () => {{
  const since = process.cpuUsage();
  for (;;) {{
    const used = process.cpuUsage(since);
    if (used.user + used.system > {WORK_MS * 1000}) return null;
  }}
}};
"""
_JAVA = f"""
import java.lang.management.ManagementFactory;

public class Work {{
    static Object handle() {{
        var bean = ManagementFactory.getThreadMXBean();
        long until = bean.getCurrentThreadCpuTime() + {WORK_MS}_000_000L;
        while (bean.getCurrentThreadCpuTime() < until) {{
        }}
        return null;
    }}
}}
"""
#: Counts to four hundred million: no clock of WASI's says what it has taken.
_WAT = text(
    """(local $left i32)
    (local.set $left (i32.const 400000000))
    (loop $more (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))"""
)
FUNCTIONS: dict[str, tuple[dict[str, str | bytes], dict[str, Any]]] = {
    "python3": ({"handler.py": _HANDLER}, {}),
    "custom": ({"bootstrap": _BOOTSTRAP}, {}),
    "web": ({"server.py": _SERVER}, {"command": "python3 server.py"}),
    "nodejs": ({"index.js": _NODE}, {"handler": "index.handler"}),
    "java": ({"Work.java": _JAVA}, {"handler": "Work", "memory_bytes": 192 << 20}),
    "wasm": ({"app.wat": _WAT}, {"handler": "app.wat"}),
}


def record_of(platform: Platform, name: str, id_: str) -> dict[str, Any]:
    url = f"{platform.api}/v1/namespaces/default/functions/{name}/invocations/{id_}"
    found = wait_until(lambda: got if (got := platform.http.get(url)).is_success else None, f"the record of {id_}")
    return dict(found.json())


@pytest.mark.parametrize("runtime", FUNCTIONS)
def test_cpu_time_and_peak_memory_are_in_the_record(either_platform: Platform, runtime: str) -> None:
    platform, (files, spec) = either_platform, FUNCTIONS[runtime]
    name = f"usage-{runtime}"
    platform.deploy(name, files, runtime=runtime, **spec)
    try:
        for _ in range(3):  # the first may count the start, too
            answer = platform.invoke(name)
            assert answer.is_success, answer.text
            record = record_of(platform, name, answer.headers["fuyun-request-id"])
            assert record["cpu_s"] >= SHOWN_S, record
            assert record["memory_peak_bytes"] >= 1 << 20, record
    finally:
        platform.remove(name)
