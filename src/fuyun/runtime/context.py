"""The second argument of a handler."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from typing import Any


class Client:
    """Who called: `address` (text, "" when unknown), `scheme` (http or https), `user_agent`."""

    __slots__ = ("address", "scheme", "user_agent")

    def __init__(self, head: dict[str, Any]) -> None:
        self.address: str = head.get("source", "")
        self.scheme: str = head.get("scheme", "http")
        self.user_agent: str = next((v for n, v in head.get("headers", ()) if n == "user-agent"), "")

    def __repr__(self) -> str:
        return f"Client(address={self.address!r}, scheme={self.scheme!r}, user_agent={self.user_agent!r})"


class Context:
    """Facts about one invocation. Durations in milliseconds where the name says so, `deadline` in seconds since the
    epoch, sizes in bytes. The names AWS Lambda handlers use (`aws_request_id`, ...) work too."""

    __slots__ = ("_head", "_task")

    def __init__(self, head: dict[str, Any], task: dict[str, Any]) -> None:
        self._head = head
        self._task = task

    @property
    def request_id(self) -> str:
        """Id of the invocation, the one in the `Fuyun-Request-Id` header and in `fuyun logs`."""
        return str(self._head.get("id", ""))

    @property
    def function(self) -> str:
        """Name of the function."""
        return str(self._head.get("function") or self._task.get("function", ""))

    @property
    def namespace(self) -> str:
        """Namespace of the function."""
        return str(self._task.get("namespace", ""))

    @property
    def version(self) -> str:
        """`$LATEST` or the version's number as text."""
        return str(self._head.get("version") or self._task.get("version", ""))

    @property
    def alias(self) -> str:
        """The alias the caller named, "" if none."""
        return str(self._head.get("alias", ""))

    @property
    def instance(self) -> str:
        """Id of the instance that runs this."""
        return str(self._task.get("instance", ""))

    @property
    def attempt(self) -> int:
        """1 for the first try of this invocation."""
        return int(self._head.get("attempt", 1))

    @property
    def delivery(self) -> str:
        """Id of the asynchronous invocation that this is an attempt of, the same in every attempt; "" when somebody
        waits for the answer."""
        return self._field("fuyun-delivery")

    @property
    def hops(self) -> int:
        """Edges (triggers, destinations, asynchronous calls) between this and the event that `trail` names."""
        return int(self._field("fuyun-hops") or 0)

    @property
    def trail(self) -> str:
        """The event or invocation that this follows from, for `fuyun event trail`; "" where it begins something."""
        return self._field("fuyun-trail")

    def _field(self, name: str) -> str:
        return next((str(value) for field, value in self._head.get("headers", ()) if field == name), "")

    @property
    def kind(self) -> str:
        """`http` (the event describes a request) or `event` (the event is the payload itself)."""
        return str(self._head.get("kind", "event"))

    @property
    def trace(self) -> str:
        """W3C traceparent, "" if none."""
        return str(self._head.get("trace", ""))

    @property
    def client(self) -> Client:
        """Who called."""
        return Client(self._head)

    @property
    def deadline(self) -> float:
        """Seconds since the epoch at which the platform ends this invocation; infinity if it does not."""
        deadline_ms = self._head.get("deadline_ms", 0)
        return deadline_ms / 1000 if deadline_ms else float("inf")

    def remaining_time_ms(self) -> int:
        """Milliseconds until the deadline, never below 0; the function's timeout if it has no deadline."""
        deadline_ms = self._head.get("deadline_ms", 0)
        if not deadline_ms:
            return int(self._task.get("timeout_s", 0) * 1000)
        return max(0, int(deadline_ms - time.time_ns() // 1_000_000))

    @property
    def memory_limit_bytes(self) -> int:
        """Memory the instance may use."""
        return int(self._task.get("memory_bytes", 0))

    @property
    def logger(self) -> logging.Logger:
        """A logger named after the function; its lines carry their level in `fuyun logs`."""
        import logging

        return logging.getLogger(self.function or "function")

    @property
    def credential(self) -> str:
        """What proves to the platform's address (`FUYUN_ENDPOINT`) that this invocation asks; good for minutes, and in
        this instance only. "" for a function without permissions."""
        return str(self._head.get("credential", ""))

    @property
    def queues(self) -> Any:
        """`fuyun.sdk.queues`: `context.queues.send("orders", {...})`."""
        from fuyun.sdk import queues

        return queues

    @property
    def objects(self) -> Any:
        """`fuyun.sdk.objects`: `context.objects.put("photos", "out/cat.png", data)`."""
        from fuyun.sdk import objects

        return objects

    @property
    def buses(self) -> Any:
        """`fuyun.sdk.buses`: `context.buses.publish("orders", "order.paid", {...})`."""
        from fuyun.sdk import buses

        return buses

    @property
    def streams(self) -> Any:
        """`fuyun.sdk.streams`: `context.streams.append("orders", {...}, key="4711")`."""
        from fuyun.sdk import streams

        return streams

    @property
    def tables(self) -> Any:
        """`fuyun.sdk.tables`: `context.tables.put("stock", {"id": "a", ...})`."""
        from fuyun.sdk import tables

        return tables

    @property
    def topics(self) -> Any:
        """`fuyun.sdk.topics`: `context.topics.publish("prices", {...})`."""
        from fuyun.sdk import topics

        return topics

    # Names that handlers written for AWS Lambda use.

    def get_remaining_time_in_millis(self) -> int:
        """`remaining_time_ms()`."""
        return self.remaining_time_ms()

    @property
    def aws_request_id(self) -> str:
        """`request_id`."""
        return self.request_id

    @property
    def function_name(self) -> str:
        """`function`."""
        return self.function

    @property
    def function_version(self) -> str:
        """`version`."""
        return self.version

    @property
    def memory_limit_in_mb(self) -> int:
        """`memory_limit_bytes` in MiB."""
        return self.memory_limit_bytes // (1024 * 1024)

    @property
    def invoked_function_arn(self) -> str:
        """`fuyun:NAMESPACE:FUNCTION:QUALIFIER`."""
        return f"fuyun:{self.namespace}:{self.function}:{self.alias or self.version}"

    @property
    def log_group_name(self) -> str:
        """`NAMESPACE/FUNCTION`."""
        return f"{self.namespace}/{self.function}"

    @property
    def log_stream_name(self) -> str:
        """`instance`."""
        return self.instance

    @property
    def identity(self) -> None:
        """None: callers have no Cognito identity here."""
        return None

    @property
    def client_context(self) -> None:
        """None: it belongs to the AWS mobile SDK."""
        return None

    def __repr__(self) -> str:
        return f"Context(request_id={self.request_id!r}, function={self.function!r}, version={self.version!r})"
