"""Functions of other runtimes than `python3` whose programs carry the attempts of `fuyun.testing.attacks`: the same
handler, in a Python program that the runtime's own code is, or starts."""

from __future__ import annotations

from typing import Any

from tests.e2e import attacking

_BOOTSTRAP = """#!/usr/bin/python3
import http.client, json, os, sys

sys.path.insert(0, "/code")
from handler import handler

PATH = "/2018-06-01/runtime/invocation/"

def ask(method, path, body=None):
    api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    api.request(method, path, body)
    told = api.getresponse()
    body = told.read()
    api.close()
    return told, body

while True:
    told, body = ask("GET", PATH + "next")
    event = {**json.loads(body), "credential": told.getheader("Fuyun-Credential")}
    path = PATH + told.getheader("Lambda-Runtime-Aws-Request-Id") + "/response"
    ask("POST", path, json.dumps(handler(event, None)))
"""
_SERVER = """
import json, os
from http.server import BaseHTTPRequestHandler, HTTPServer

from handler import handler

class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        event = json.loads(self.rfile.read(int(self.headers["content-length"])))
        event["credential"] = self.headers["fuyun-credential"]
        body = json.dumps(handler(event, None)).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

HTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"""
#: Answers the event on its standard input.
_ONCE = """
import json, os, sys

sys.path.insert(0, "/code")
from handler import handler

event = {**json.load(sys.stdin), "credential": os.environ["CREDENTIAL"]}
sys.stdout.write(json.dumps(handler(event, None)))
"""
_NODE = """
const { spawnSync } = require('node:child_process');

exports.handler = async (event, context) => {
  const env = { ...process.env, CREDENTIAL: context.credential };
  const input = JSON.stringify(event);
  const done = spawnSync('/usr/bin/python3', ['once.py'], { env, input, maxBuffer: 1 << 24 });
  if (done.status !== 0) throw new Error(`${done.signal || done.status}: ${done.stderr}`);
  return JSON.parse(done.stdout.toString());
};
"""
_JAVA = """
import java.nio.charset.StandardCharsets;

public class Carrier {
    static byte[] handle(String event, fuyun.runtime.Context context) throws Exception {
        var builder = new ProcessBuilder("/usr/bin/python3", "once.py");
        builder.environment().put("CREDENTIAL", context.getCredential());
        var process = builder.redirectError(ProcessBuilder.Redirect.INHERIT).start();
        try (var in = process.getOutputStream()) {
            in.write(event.getBytes(StandardCharsets.UTF_8));
        }
        byte[] told = process.getInputStream().readAllBytes();
        if (process.waitFor() != 0) {
            throw new IllegalStateException("exit status " + process.exitValue());
        }
        return told;
    }
}
"""
#: How many processes of the function's own stand before an attempt: the program, and what it starts to make attempts.
GENERATIONS = {"nodejs": 2, "java": 2}
#: Runtime -> its files beside the attempts, and how it is described.
CARRIERS: dict[str, tuple[dict[str, str | bytes], dict[str, Any]]] = {
    "custom": ({"bootstrap": _BOOTSTRAP}, {}),
    "web": ({"server.py": _SERVER}, {"command": "exec /usr/bin/python3 server.py", "concurrency": 1}),
    "nodejs": ({"index.js": _NODE, "once.py": _ONCE}, {"handler": "index.handler"}),
    "java": ({"Carrier.java": _JAVA, "once.py": _ONCE}, {"handler": "Carrier", "memory_bytes": 256 << 20}),
}


def carrier(runtime: str) -> tuple[dict[str, str | bytes], dict[str, Any]]:
    """Code and description of a function of `runtime` that makes the attempts it is asked for."""
    if runtime == "python3":
        return attacking.code("runner"), {}
    files, spec = CARRIERS[runtime]
    return {**attacking.code("runner"), **files}, {"runtime": runtime, **spec}
