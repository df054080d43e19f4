"""The runtime `custom`: an executable `bootstrap` that asks for its invocations over the AWS Lambda Runtime API.

docs/contracts/runtime.md, section "Custom programs". Source of names and behaviour: AWS Lambda developer guide,
"Building a custom runtime", "Using the Lambda runtime API", "Defined runtime environment variables".
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections import deque
from time import time_ns

from fuyun.runtime.answers import BadAnswer, shape
from fuyun.runtime.context import Context
from fuyun.runtime.events import BadPayload, http_event, payload
from fuyun.runtime.jsontext import dumps
from fuyun.runtime.keeper import Keeper, keep
from fuyun.runtime.problems import LoadProblem, problem
from fuyun.runtime.runtimeapi import Api, Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any, Callable, Optional

    from fuyun.runtime.answers import Answer, Headers
    from fuyun.runtime.calls import Call
    from fuyun.runtime.runtimeapi import Answered, Request

#: Where the API listens in a network namespace of its own; without one the system chooses.
PORT = 9001
#: Longest body of an error report.
_REPORT_BYTES = 256 * 1024
_STATE = "InvalidStateTransition"


class Custom(Keeper):
    """Calls wait until the program asks for them; `taken` are with it, by request id."""

    def __init__(self, sock: socket.socket, task: dict[str, Any]) -> None:
        super().__init__(sock, task)
        self._waiting: deque[Call] = deque()
        self._arrived = threading.Condition()
        self._taken: dict[str, Call] = {}
        self._most = int(task["concurrency"])
        self._limit = int(task["output_bytes"])

    # the keeper's side -----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start the API, then the bootstrap, which is ready when it asks for its first invocation."""
        path = _bootstrap(self.task)
        api = Api(self, PORT if self.isolated else 0)
        api.start()
        self.household.watch()
        self.launch([path], environment(self.task, api.address))

    def take(self, call: Call) -> None:
        with self._arrived:
            self._waiting.append(call)
            self._arrived.notify()

    # the program's side ----------------------------------------------------------------------------------------------

    def next(self, gone: Callable[[], bool]) -> Optional[Answered]:
        """The next invocation, waiting for it; None when the one who asked is gone. Refusal."""
        if len(self._taken) >= self._most:
            raise Refusal(403, _STATE, f"{len(self._taken)} invocations are not answered yet; answer before the next")
        self.ready()
        while True:
            with self._arrived:
                self._arrived.notify_all()  # those whose client is gone leave
                self._arrived.wait_for(lambda: bool(self._waiting) or gone())
                if gone():
                    self._arrived.notify()
                    return None
                call = self._waiting.popleft()
            try:
                event = self._event(call)
            except BadPayload as error:
                self.refuse(call, problem("bad_request", str(error)))
                continue
            request_id = self._enter(call)
            self.hand_over(call)
            return 200, self._headers(call, request_id), event

    def _event(self, call: Call) -> bytes:
        if not call.ended:
            self.collect(call)
        if call.head["kind"] == "http":
            return dumps(http_event(call.head, call.body, self.task))
        payload(call.body)
        return call.body or b"{}"

    def _enter(self, call: Call) -> str:
        request_id = str(call.head["id"])
        with self._arrived:
            if request_id in self._taken:  # two attempts of one invocation at once
                request_id = f"{request_id}-{call.stream}"
            self._taken[request_id] = call
        return request_id

    def _headers(self, call: Call, request_id: str) -> list[tuple[str, str]]:
        context = Context(call.head, self.task)
        deadline_ms = call.head.get("deadline_ms") or time_ns() // 1_000_000 + context.remaining_time_ms()
        headers = [
            ("Content-Type", "application/json"),
            ("Lambda-Runtime-Aws-Request-Id", request_id),
            ("Lambda-Runtime-Deadline-Ms", str(deadline_ms)),
            ("Lambda-Runtime-Invoked-Function-Arn", context.invoked_function_arn),
        ]
        if context.trace:
            headers.append(("Lambda-Runtime-Trace-Id", _trace(context.trace)))
        return headers

    def _leave(self, request_id: str) -> Call:
        with self._arrived:
            call = self._taken.pop(request_id, None)
        if call is None:
            raise Refusal(400, "InvalidRequestID", f"{request_id} is not an invocation that waits for its answer")
        return call

    def respond(self, request_id: str, request: Request) -> None:
        """The program's answer."""
        call = self._leave(request_id)
        body, size = request.read(self._limit)
        if size > self._limit:
            text = f"the result is {size} bytes, over the limit of {self._limit}; stream it or raise `output`"
            self.refuse(call, problem("response_too_large", text))
            raise Refusal(413, "RequestEntityTooLarge", text)
        try:
            answer = self._shape(call, body)
        except BadAnswer as error:
            self.refuse(call, problem(error.code, str(error)))
            return
        self.result(call, answer)

    def _shape(self, call: Call, body: bytes) -> Answer:
        """As `answers.shape` for what the body says; what is not JSON is text, or bytes."""
        http = call.head["kind"] == "http"
        try:
            value = json.loads(body, parse_constant=_no_number)
        except ValueError:
            return 200, _plain(body), body
        if http and (isinstance(value, str) or (isinstance(value, dict) and "statusCode" in value)):
            answer = shape(value, True, self._limit)
            assert isinstance(answer, tuple)
            return answer
        return 200, None, body

    def report(self, request_id: str, request: Request) -> None:
        """The program could not answer."""
        call = self._leave(request_id)
        self.refuse(call, _reported(request, "function_raised"))

    def init_error(self, request: Request) -> None:
        """The program could not start."""
        if self.is_ready:
            raise Refusal(403, _STATE, "the program has asked for an invocation already: it was ready")
        found = _reported(request, "function_init_failed")
        self.fail_start(LoadProblem(found["code"], found["message"], found["error_type"], found["traceback"]))


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _plain(body: bytes) -> Headers:
    try:
        str(body, "utf-8")
    except UnicodeDecodeError:
        return [("content-type", "application/octet-stream")]
    return [("content-type", "text/plain; charset=utf-8")]


def _reported(request: Request, code: str) -> dict[str, Any]:
    """The Problem of an error report: `{"errorMessage", "errorType", "stackTrace"}`, or whatever was sent instead."""
    body, _ = request.read(_REPORT_BYTES)
    try:
        told = json.loads(body)
    except ValueError:
        told = {"errorMessage": str(body, "utf-8", "replace")}
    told = told if isinstance(told, dict) else {"errorMessage": str(told)}
    error_type = str(told.get("errorType") or request.headers.get("Lambda-Runtime-Function-Error-Type") or "")
    message = str(told.get("errorMessage") or "")
    trace = told.get("stackTrace") or told.get("trace") or ()
    lines = [line for item in trace for line in str(item).splitlines()] if isinstance(trace, (list, tuple)) else []
    text = ": ".join(part for part in (error_type, message) if part) or "the program reported an error without a word"
    return problem(code, text, error_type, lines)


def _trace(parent: str) -> str:
    """A W3C traceparent as the header that X-Ray uses."""
    parts = parent.split("-")
    if len(parts) < 4 or len(parts[1]) != 32:
        return parent
    sampled = int(parts[3][-1:] in "13579bdf")
    return f"Root=1-{parts[1][:8]}-{parts[1][8:]};Parent={parts[2]};Sampled={sampled}"


def _bootstrap(task: dict[str, Any]) -> str:
    """The program: in the code folder, else in the first layer that has one."""
    for folder in (task["code"], *task["layers"]):
        path = os.path.join(folder, "bootstrap")
        if os.path.exists(path):
            return path
    try:
        found = ", ".join(sorted(os.listdir(task["code"]))[:12]) or "nothing"
    except OSError as error:
        found = str(error.strerror)
    raise LoadProblem("handler_missing", f"there is no bootstrap in the code, which holds {found}; add an executable")


def environment(task: dict[str, Any], address: str) -> dict[str, str]:
    """The program's variables: the function's over a fixed base, and over those what AWS Lambda defines."""
    layers = list(task["layers"])
    python = [os.path.join(each, "python") for each in layers]
    libraries = [os.path.join(each, "lib") for each in (task["code"], *layers)]
    binaries = [os.path.join(each, "bin") for each in layers]
    mib = str(int(task["memory_bytes"]) // 2**20)
    region = task["env"].get("AWS_REGION", "us-east-1")
    return {
        "LD_LIBRARY_PATH": os.pathsep.join([task["code"], *libraries]),
        "PYTHONPATH": os.pathsep.join([task["code"], *python, *layers]),
        "NODE_PATH": os.pathsep.join(os.path.join(each, "nodejs/node_modules") for each in layers),
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        **task["env"],
        "PATH": os.pathsep.join([task["env"].get("PATH", "/usr/local/bin:/usr/bin:/bin"), *binaries]),
        "AWS_LAMBDA_RUNTIME_API": address,
        "AWS_LAMBDA_FUNCTION_NAME": task["function"],
        "AWS_LAMBDA_FUNCTION_VERSION": task["version"],
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": mib,
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/fuyun/{task['namespace']}/{task['function']}",
        "AWS_LAMBDA_LOG_STREAM_NAME": task["instance"],
        "LAMBDA_TASK_ROOT": task["code"],
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "_HANDLER": task["handler"],
        "FUYUN_NAMESPACE": task["namespace"],
        "FUYUN_FUNCTION": task["function"],
        "FUYUN_VERSION": task["version"],
        "FUYUN_INSTANCE": task["instance"],
        "FUYUN_HANDLER": task["handler"],
        "FUYUN_MEMORY_BYTES": str(task["memory_bytes"]),
        "FUYUN_TIMEOUT_S": str(task["timeout_s"]),
        "FUYUN_PYTHON": sys.executable,
    }


def main(sock: socket.socket, task: dict[str, Any]) -> int:
    """Be an instance of `task` until the platform hangs up; the exit status."""
    return keep(Custom(sock, task))
