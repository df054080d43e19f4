"""Lambda extensions: programs beside the function's own that are told of its invocations and of its end.

Source: AWS Lambda developer guide, "Using the Lambda Extensions API to create extensions" (version 2020-01-01).
"""

from __future__ import annotations

import json
import os
import signal
import threading
import uuid
from collections import deque
from time import time_ns

from fuyun.runtime.jsontext import dumps
from fuyun.runtime.problems import LoadProblem
from fuyun.runtime.runtimeapi import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional

    from fuyun.runtime.keeper import Keeper
    from fuyun.runtime.program import Program
    from fuyun.runtime.runtimeapi import Answered, Request

FOLDER = "extensions"
_EVENTS = ("INVOKE", "SHUTDOWN")
_REQUEST_BYTES = 64 * 1024


class Extension:
    """One that has registered. `program` is None for one inside the function's own program."""

    def __init__(self, name: str, events: frozenset[str], program: Optional[Program]) -> None:
        self.name = name
        self.identifier = str(uuid.uuid4())
        self.events = events
        self.program = program
        self.waiting: deque[dict[str, Any]] = deque()
        self.asked = False  # for an event: it is ready


class Extensions:
    """All of one instance."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._changed = threading.Condition()
        self._programs: dict[str, Program] = {}
        self._known: dict[str, Extension] = {}

    def start(self, env: dict[str, str]) -> None:
        """Start those of the code and its layers, and wait until all have registered. LoadProblem."""
        paths = find(self._keeper.task)
        for path in paths:
            with self._changed:
                program = self._keeper.household.start([path], env, self._keeper.lost)
                self._programs[program.name] = program
        with self._changed:
            self._changed.wait_for(lambda: len(self._external()) == len(paths))

    def own(self, program: Program) -> bool:
        """Whether it is one of them."""
        return self._programs.get(program.name) is program

    def wait_ready(self) -> None:
        """Wait until each has asked for its first event."""
        with self._changed:
            self._changed.wait_for(lambda: all(each.asked for each in self._known.values()))

    def tell_invoked(self, told: dict[str, Any]) -> None:
        """An invocation goes to the program."""
        self._tell("INVOKE", told)

    def stop(self, limit_s: float) -> None:
        """The program has ended: tell them, within `limit_s`, and wait until they have ended."""
        deadline_ms = time_ns() // 1_000_000 + int(limit_s * 1000)
        self._tell("SHUTDOWN", {"shutdownReason": "spindown", "deadlineMs": deadline_ms})
        told = {each.name for each in self._external() if "SHUTDOWN" in each.events}
        for name, program in self._programs.items():
            if name not in told:
                program.signal(signal.SIGTERM)
        for program in self._programs.values():
            program.ended.wait()

    # requests --------------------------------------------------------------------------------------------------------

    def register(self, request: Request) -> Answered:
        """`POST register`."""
        name = request.headers.get("Lambda-Extension-Name", "")
        body, _ = request.read(_REQUEST_BYTES)
        try:
            events = frozenset(json.loads(body or b"{}").get("events") or ())
        except (ValueError, AttributeError, TypeError):
            raise Refusal(400, "InvalidRequestFormat", 'the body is not {"events": [...]}') from None
        strange = sorted(str(each) for each in events if each not in _EVENTS)
        if strange:
            raise Refusal(400, "InvalidEventType", f"{strange[0]} is no event; use {' and '.join(_EVENTS)}")
        if not name:
            raise Refusal(400, "InvalidExtensionName", "the header Lambda-Extension-Name is missing")
        with self._changed:
            program = self._programs.get(name)
            self._admit(name, program, events)
            extension = Extension(name, events, program)
            self._known[extension.identifier] = extension
            self._changed.notify_all()
        task = self._keeper.task
        told = {"functionName": task["function"], "functionVersion": task["version"], "handler": task["handler"]}
        if "accountId" in request.headers.get("Lambda-Extension-Accept-Feature", ""):
            told["accountId"] = task["namespace"]
        headers = [("Content-Type", "application/json"), ("Lambda-Extension-Identifier", extension.identifier)]
        return 200, headers, dumps(told)

    def _admit(self, name: str, program: Optional[Program], events: frozenset[str]) -> None:
        if any(each.name == name for each in self._known.values()):
            raise Refusal(403, "Extension.AlreadyRegistered", f"{name} has registered already")
        if self._keeper.is_ready:
            raise Refusal(403, "Extension.RegistrationClosed", "extensions register before the first invocation")
        if program is None and "SHUTDOWN" in events:
            text = f"{name} is not a file in {FOLDER}/, and SHUTDOWN is for those only"
            raise Refusal(403, "ShutdownEventNotSupportedForInternalExtension", text)

    def next(self, identifier: str, gone: Callable[[], bool]) -> Optional[Answered]:
        """`GET event/next`: waits for an event; None when the one who asked is gone."""
        extension = self._find(identifier)
        with self._changed:
            extension.asked = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: bool(extension.waiting) or gone())
            if gone():
                return None
            told = extension.waiting.popleft()
        headers = [("Content-Type", "application/json"), ("Lambda-Extension-Event-Identifier", str(uuid.uuid4()))]
        return 200, headers, dumps(told)

    def fail(self, identifier: str, phase: str, request: Request) -> None:
        """`POST init/error` and `exit/error`: it cannot go on, and neither can the instance."""
        extension = self._find(identifier)
        error_type = request.headers.get("Lambda-Extension-Function-Error-Type", "Extension.Error")
        body, _ = request.read(_REQUEST_BYTES)
        text = f"extension {extension.name} failed ({error_type}): {str(body, 'utf-8', 'replace')[:1000]}"
        if phase == "init" and not self._keeper.is_ready:
            self._keeper.fail_start(LoadProblem("function_init_failed", text, error_type))
        self._keeper.note_failure(text)

    def _find(self, identifier: str) -> Extension:
        extension = self._known.get(identifier)
        if extension is None:
            text = (
                f"{identifier!r} is no extension; register, and send what the header Lambda-Extension-Identifier says"
            )
            raise Refusal(403, "Extension.UnknownExtensionIdentifier", text)
        return extension

    def _external(self) -> list[Extension]:
        return [each for each in self._known.values() if each.program is not None]

    def _tell(self, kind: str, told: dict[str, Any]) -> None:
        with self._changed:
            for extension in self._known.values():
                if kind in extension.events:
                    extension.waiting.append({"eventType": kind, **told})
            self._changed.notify_all()


def find(task: dict[str, Any]) -> list[str]:
    """Executables in the `extensions` folders of /opt, the layers and the code, by name; the last of each name."""
    found: dict[str, str] = {}
    for folder in ("/opt", *task["layers"], task["code"]):
        place = os.path.join(folder, FOLDER)
        if not os.path.isdir(place):
            continue
        for name in os.listdir(place):
            path = os.path.join(place, name)
            if os.path.isfile(path) and os.access(path, os.X_OK):
                found[name] = path
    return [found[name] for name in sorted(found)]
