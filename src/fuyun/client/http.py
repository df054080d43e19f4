"""HTTP to the control API: one request, one answer, and problem documents turned back into the error tree."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import fuyun
from fuyun.client.config import Profile
from fuyun.domain import errors
from fuyun.domain.errors import BadRequest, FuyunError, PlatformError, Unavailable

if TYPE_CHECKING:
    import httpx

#: Connecting to a listening server takes microseconds on loopback and a round trip elsewhere.
CONNECT_S = 5.0
#: Longest silence of the API while it answers; reads that wait (deploy, invoke, follow) choose their own.
ANSWER_S = 60.0

#: How much of a body is sent between two words about how it goes.
PIECE = 64 * 2**10

#: Code for an answer that carries no problem document (a proxy in between, a wrong address).
_BY_STATUS = {400: "bad_request", 401: "unauthenticated", 403: "forbidden", 404: "not_found", 409: "conflict",
              412: "precondition_failed", 413: "payload_too_large", 429: "throttled", 503: "unavailable"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `path` is below the API's address and percent-encoded (see `path_of`)."""

    method: str
    path: str
    body: bytes | None = None
    content_type: str = "application/json"
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    answer_s: float | None = ANSWER_S
    progress: Callable[[int], None] | None = None  # told how much of the body was sent


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer. Header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON; PlatformError when it is none."""
        try:
            return json.loads(self.body)
        except ValueError as exc:
            raise PlatformError(
                f"the platform answered {self.status} with a body that is not JSON: {self.body[:80]!r}",
                hint="check that the address is Fuyun's API: `fuyun config`",
            ) from exc


def load_httpx() -> None:
    """Import httpx without the command line that it brings along: with click and rich, two thirds of what the import
    takes."""
    if "httpx" not in sys.modules:
        # What is None there cannot be imported, which httpx takes for an installation without those packages.
        sys.modules["httpx._main"] = None  # type: ignore[assignment]
        try:
            import httpx  # noqa: F401
        finally:
            del sys.modules["httpx._main"]


def path_of(*segments: str) -> str:
    """`/v1/...` of unencoded segments."""
    return "/v1/" + "/".join(quote(segment, safe="$") for segment in segments)


def error_classes() -> dict[str, type[FuyunError]]:
    """Code -> class, for every class of the error tree."""
    found: dict[str, type[FuyunError]] = {}
    pending: list[type[FuyunError]] = [FuyunError]
    while pending:
        cls = pending.pop()
        found[cls.code] = cls
        pending.extend(cls.__subclasses__())
    return found


def error_of(problem: Mapping[str, Any], status: int) -> FuyunError:
    """The error a problem document means; a code this client does not know keeps its name in `fields["code"]`."""
    standard = ("type", "title", "status", "code", "detail", "hint", "instance")
    fields = {str(name): value for name, value in problem.items() if name not in standard}
    code = str(problem.get("code") or _BY_STATUS.get(status, ""))
    detail = str(problem.get("detail") or problem.get("title") or f"the platform answered {status}")
    hint = str(problem.get("hint") or "")
    cls = error_classes().get(code)
    if cls is None:
        cls = PlatformError if status >= 500 else errors.CallerError
        fields["code"] = code
    nested = fields.pop("fields", None)
    if isinstance(nested, dict):
        fields = {**nested, **fields}
    fields.pop("self", None)
    return cls(detail, hint=hint, **{name: value for name, value in fields.items() if name not in ("detail", "hint")})


class Http:
    """A connection to one platform's API. Close it, or use it as a context manager."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self._client: httpx.Client | None = None

    def __enter__(self) -> Http:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def send(self, request: Request) -> Answer:
        """The answer, or the error it stands for."""
        with self.open(request) as response:
            body = response.read()
        return Answer(response.status_code, dict(response.headers), body)

    @contextmanager
    def open(self, request: Request) -> Iterator[httpx.Response]:
        """The response before its body was read; a status of 400 or more raises its error."""
        load_httpx()
        import httpx

        client = self._connected()
        timeout = httpx.Timeout(request.answer_s, connect=CONNECT_S)
        headers = (
            {"Content-Type": request.content_type, "Content-Length": str(len(request.body)), **request.headers}
            if request.body is not None
            else request.headers
        )
        try:
            with client.stream(
                request.method,
                request.path,
                content=_content(request),
                params=dict(request.query),
                headers=dict(headers),
                timeout=timeout,
            ) as response:
                if response.status_code >= 400:
                    raise _failure(response.status_code, response.read(), dict(response.headers))
                yield response
        except httpx.HTTPError as exc:
            raise self._translated(exc) from exc

    def lines(self, request: Request) -> Generator[dict[str, Any], None, None]:
        """The objects of an `application/x-ndjson` answer as they arrive; a `problem` line raises its error."""
        with self.open(request) as response:
            for line in response.iter_lines():
                if not line.strip():
                    continue
                try:
                    item = json.loads(line)
                except ValueError as exc:
                    raise PlatformError(f"the platform sent a line that is not JSON: {line[:80]!r}") from exc
                if not isinstance(item, dict):
                    raise PlatformError(f"the platform sent a line that is no object: {line[:80]!r}")
                if isinstance(item.get("problem"), dict):
                    problem = item["problem"]
                    raise error_of(problem, int(problem.get("status") or 500))
                yield item

    def _connected(self) -> httpx.Client:
        if self._client is None:
            import httpx

            url = urlsplit(self.profile.api)
            if url.scheme not in ("http", "https") or not url.hostname:
                raise BadRequest(
                    f"{self.profile.api!r} is not an address of an API",
                    hint="write one like http://127.0.0.1:8081 into FUYUN_API or `fuyun config set api ...`",
                )
            headers = {"User-Agent": f"fuyun/{fuyun.__version__}"}
            if self.profile.key:
                headers["Authorization"] = f"Bearer {self.profile.key}"
            # Proxies of the environment are for other hosts; TLS roots are only loaded where TLS is spoken.
            local = url.hostname in ("127.0.0.1", "::1", "localhost")
            self._client = httpx.Client(
                base_url=self.profile.api, headers=headers, trust_env=not local, verify=url.scheme == "https"
            )
        return self._client

    def _translated(self, exc: httpx.HTTPError) -> FuyunError:
        import httpx

        api = self.profile.api
        if isinstance(exc, httpx.ConnectError | httpx.ConnectTimeout):
            hint = (
                "start one with: fuyun up"
                if "127.0.0.1" in api or "localhost" in api
                else "check the address and the network"
            )
            return Unavailable(
                f"no platform at {api} ({exc})" if "refused" not in str(exc) else f"no platform at {api}", hint=hint
            )
        if isinstance(exc, httpx.TimeoutException):
            return Unavailable(
                f"the platform at {api} did not answer in time", hint="look at `fuyun status` and its log"
            )
        if isinstance(exc, httpx.RemoteProtocolError | httpx.ReadError | httpx.WriteError):
            return Unavailable(
                f"the platform at {api} closed the connection", hint="it may be stopping; look at `fuyun status`"
            )
        return PlatformError(
            f"talking to {api} failed: {type(exc).__name__}: {exc}", hint="check the address: `fuyun config`"
        )


def _content(request: Request) -> bytes | Iterator[bytes] | None:
    """The body; in pieces when somebody wants to know how it goes."""
    if request.body is None or request.progress is None:
        return request.body
    return _pieces(request.body, request.progress)


def _pieces(body: bytes, progress: Callable[[int], None]) -> Iterator[bytes]:
    for start in range(0, len(body), PIECE):
        piece = body[start : start + PIECE]
        yield piece
        progress(start + len(piece))


def _failure(status: int, body: bytes, headers: Mapping[str, str]) -> FuyunError:
    try:
        problem = json.loads(body)
    except ValueError:
        problem = None
    if not isinstance(problem, dict) or "detail" not in problem:
        start = body[:120].decode("utf-8", "replace").strip()
        problem = {
            "detail": f"the platform answered {status} without saying why" + (f": {start}" if start else ""),
            "hint": "check that the address is Fuyun's API: `fuyun config`",
        }
    if headers.get("fuyun-request-id"):
        problem.setdefault("request_id", headers["fuyun-request-id"])
    error = error_of(problem, status)
    for name in ("server-timing", "fuyun-version", "fuyun-start"):
        if headers.get(name):
            error.fields[name] = headers[name]
    if headers.get("retry-after", "").isdigit():
        error.fields.setdefault("retry_after_s", int(headers["retry-after"]))
    return error
