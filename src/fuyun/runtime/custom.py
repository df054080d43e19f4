"""The runtime `custom`: an executable `bootstrap` that asks for its invocations over the AWS Lambda Runtime API.

docs/contracts/runtime.md, section "Custom programs". Source of names and behaviour: AWS Lambda developer guide,
"Building a custom runtime", "Using the Lambda runtime API", "Defined runtime environment variables".
"""

from __future__ import annotations

import json
import signal
import threading
from base64 import b64decode
from collections import deque
from time import monotonic, time_ns

from fuyun.runtime.answers import BINARY, BadAnswer, shape
from fuyun.runtime.calls import current
from fuyun.runtime.context import Context
from fuyun.runtime.events import BadPayload, http_event, payload
from fuyun.runtime.extensions import Extensions
from fuyun.runtime.jsontext import dumps
from fuyun.runtime.keeper import Keeper, keep
from fuyun.runtime.lambdaenv import bootstrap, environment, image_command
from fuyun.runtime.problems import LoadProblem, problem
from fuyun.runtime.runtimeapi import Api, Broken, Refusal
from fuyun.runtime.streams import spool

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any, Callable, Iterator, Optional

    from fuyun.runtime.answers import Answer, Headers
    from fuyun.runtime.calls import Call
    from fuyun.runtime.program import Program
    from fuyun.runtime.runtimeapi import Answered, Request

#: Where the API listens in a network namespace of its own; without one the system chooses.
PORT = 9001
#: How long the end of a program may take to be known after its connection broke off in the middle of an answer. The
#: kernel closes the descriptors of a process before it tells its parent.
_VERDICT_S = 2.0
#: Longest body of an error report.
_REPORT_BYTES = 256 * 1024
_STATE = "InvalidStateTransition"
_MODE, _INTEGRATION = "Lambda-Runtime-Function-Response-Mode", "application/vnd.awslambda.http-integration-response"
_ERROR_TYPE, _ERROR_BODY = "Lambda-Runtime-Function-Error-Type", "Lambda-Runtime-Function-Error-Body"
_DELIMITER, _PRELUDE_BYTES = bytes(8), 64 * 1024


class Custom(Keeper):
    """Calls wait until the program asks for them; `taken` are with it, by request id."""

    def __init__(self, sock: socket.socket, task: dict[str, Any]) -> None:
        super().__init__(sock, task)
        self._waiting: deque[Call] = deque()
        self._arrived = threading.Condition()
        self._taken: dict[str, Call] = {}
        self._most = int(task["concurrency"])
        self._argv, self._env = [""], {"": ""}
        self._program: Optional[Program] = None  # the last that was started
        self._answered = False  # something, since the program was started
        self.extensions = Extensions(self)
        self._limit = int(task["output_bytes"])

    # the keeper's side -----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start the API, the extensions, then the bootstrap, which is ready when it asks for its first invocation."""
        self._argv = self.command()
        api = Api(self, PORT if self.isolated else 0)
        api.start()
        self.household.watch()
        self._env = environment(self.task, api.address)
        self.extensions.start(self._env)
        self._program = self.launch(self._argv, self._env)

    def command(self) -> list[str]:
        """The program and its arguments. LoadProblem."""
        return image_command(self.task) if self.task.get("image") else [bootstrap(self.task)]

    def lost(self, program: Program) -> None:
        """The program is started again when it owes no answer and has given one: some handle one event and exit."""
        again = self.is_ready and not (self.stopping or self.running) and self._answered
        if not again or program.status == -signal.SIGKILL or self.extensions.own(program):
            super().lost(program)
            return
        self.household.output.drain()
        spool.record("info", f"{program.name} {program.end()} and is started again")
        self._answered = False
        try:
            self._program = self.launch(self._argv, self._env)
        except LoadProblem:
            super().lost(program)

    def stop(self) -> None:
        """The program first, then those that watch it."""
        self.stopping = True
        ends_s = monotonic() + self.app.hook_limit("pre_stop")
        for program in self.household.living():
            if not self.extensions.own(program):
                program.signal(signal.SIGTERM)
                program.ended.wait()
        self.extensions.stop(max(0.0, ends_s - monotonic()))

    def take(self, call: Call) -> None:
        with self._arrived:
            self._waiting.append(call)
            self._arrived.notify()

    # the program's side ----------------------------------------------------------------------------------------------

    def next(self, gone: Callable[[], bool]) -> Optional[Answered]:
        """The next invocation, waiting for it; None when the one who asked is gone. Refusal."""
        if len(self._taken) >= self._most:
            raise Refusal(403, _STATE, f"{len(self._taken)} invocations are not answered yet; answer before the next")
        self.extensions.wait_ready()
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
            headers = self._headers(call, request_id)
            self.hand_over(call)
            self._tell_extensions(dict(headers))
            return 200, headers, event

    def _tell_extensions(self, headers: dict[str, str]) -> None:
        told: dict[str, Any] = {
            "deadlineMs": int(headers["Lambda-Runtime-Deadline-Ms"]),
            "requestId": headers["Lambda-Runtime-Aws-Request-Id"],
            "invokedFunctionArn": headers["Lambda-Runtime-Invoked-Function-Arn"],
        }
        if "Lambda-Runtime-Trace-Id" in headers:
            told["tracing"] = {"type": "X-Amzn-Trace-Id", "value": headers["Lambda-Runtime-Trace-Id"]}
        self.extensions.tell_invoked(told)

    def _event(self, call: Call) -> bytes:
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
        if context.credential:
            headers.append(("Fuyun-Credential", context.credential))
        if context.trace:
            headers.append(("Lambda-Runtime-Trace-Id", _trace(context.trace)))
        client = next((value for name, value in call.head["headers"] if name == "x-amz-client-context"), "")
        if client:
            headers.append(("Lambda-Runtime-Client-Context", _client_context(client)))
        return headers

    def _leave(self, request_id: str) -> Call:
        with self._arrived:
            call = self._taken.pop(request_id, None)
        if call is None:
            raise Refusal(400, "InvalidRequestID", f"{request_id} is not an invocation that waits for its answer")
        self._answered = True
        return call

    def respond(self, request_id: str, request: Request) -> None:
        """The program's answer."""
        call = self._leave(request_id)
        try:
            if request.headers.get(_MODE, "").lower() == "streaming":
                self._stream(call, request)
            else:
                self._take_whole(call, request)
        except Broken as error:
            self._break_off(call, problem("bad_response", f"the program's response: {error}"))
            raise
        except BadAnswer as error:
            self.refuse(call, problem(error.code, str(error)))

    def _take_whole(self, call: Call, request: Request) -> None:
        body, size = request.read(self._limit)
        if size > self._limit:
            text = f"the result is {size} bytes, over the limit of {self._limit}; stream it or raise `output`"
            self.refuse(call, problem("response_too_large", text))
            raise Refusal(413, "RequestEntityTooLarge", text)
        self.result(call, self._shape(call, body))

    def _stream(self, call: Call, request: Request) -> None:
        """Pass the pieces on as they come; an error that comes after them, in trailers, ends the answer."""
        pieces = request.pieces()
        status, headers, first = self._opening(call, request, pieces)
        self.head(call, status, headers)
        going = self.write(call, first)
        for piece in pieces:
            going = going and self.write(call, piece)  # without a caller the rest is read and dropped
        trailers = request.trailers
        if trailers is None or _ERROR_TYPE not in trailers:
            self.finish(call)
            return
        try:
            body = b64decode(trailers.get(_ERROR_BODY, ""))
        except ValueError:
            body = b""
        self.refuse(call, _told(body, trailers[_ERROR_TYPE], "function_raised"))

    def _opening(self, call: Call, request: Request, pieces: Iterator[bytes]) -> tuple[int, Headers, bytes]:
        """Status, headers and first bytes of a streamed answer."""
        kind = request.headers.get("content-type", BINARY)
        if kind.partition(";")[0].strip().lower() != _INTEGRATION:
            return 200, [("content-type", kind)], next(pieces, b"")
        found = b""
        while _DELIMITER not in found:
            piece = next(pieces, b"")
            found += piece
            if not piece or len(found) > _PRELUDE_BYTES:
                raise BadAnswer("the streamed response has no prelude: JSON, then eight NUL bytes, then the body")
        prelude, _, first = found.partition(_DELIMITER)
        try:
            told = dict(json.loads(prelude))
        except (ValueError, TypeError):
            raise BadAnswer(f"the prelude of the streamed response is not a JSON object: {prelude!r:.80}") from None
        answer = shape({"statusCode": 200, **told, "body": None}, True, self._limit)
        assert isinstance(answer, tuple)
        status, headers = answer[0], answer[1] or []
        if not any(name == "content-type" for name, _ in headers):
            headers = [*headers, ("content-type", BINARY)]
        return status if call.head["kind"] == "http" else 200, headers, first

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
        try:
            told = _reported(request, "function_raised")
            current.var.set(call)  # of this thread, which has no other call
            spool.record("error", told["message"])
            self.refuse(call, told)
        except Broken as error:
            self._break_off(call, problem("function_raised", f"the program reported an error, but {error}"))
            raise
        finally:
            current.var.set(None)

    def _break_off(self, call: Call, found: dict[str, Any]) -> None:
        """The connection ended before the answer did. When that is because the program ended, `lost` is about to end
        the instance, whose exit status tells more than `found`."""
        program = self._program
        if program is None or not program.ended.wait(_VERDICT_S) or self.stopping:
            self.refuse(call, found)

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
    body, _ = request.read(_REPORT_BYTES)
    return _told(body, request.headers.get(_ERROR_TYPE) or "", code)


def _told(body: bytes, error_type: str, code: str) -> dict[str, Any]:
    """The Problem of an error report: `{"errorMessage", "errorType", "stackTrace"}`, or whatever was sent instead."""
    try:
        told = json.loads(body)
    except ValueError:
        told = {"errorMessage": str(body, "utf-8", "replace")}
    told = told if isinstance(told, dict) else {"errorMessage": str(told)}
    error_type = str(told.get("errorType") or error_type)
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


def _client_context(value: str) -> str:
    """What the caller sent in base64, as the JSON it is, in ASCII; "" when it is none."""
    try:
        return json.dumps(json.loads(b64decode(value, validate=True)))
    except ValueError:
        return ""


def main(sock: socket.socket, task: dict[str, Any]) -> int:
    """Be an instance of `task` until the platform hangs up; the exit status."""
    return keep(Custom(sock, task))
