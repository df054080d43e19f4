"""Everything the platform can do, as one object: a synchronous façade over the control API.

    with Platform() as platform:
        print(platform.invoke("hello", b'{"name": "Ada"}').body)

Every method may raise Unavailable (no platform, or it stopped), Unauthenticated, Forbidden, and what its docstring
adds; the classes are those of `fuyun.domain.errors`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import msgspec

from fuyun.client.buses import BusesOfPlatform
from fuyun.client.deliveries import DeliveryCaller
from fuyun.client.documents import Documents
from fuyun.client.http import Request, path_of
from fuyun.client.messaging import Messaging
from fuyun.client.streaming import Streaming
from fuyun.domain.errors import PlatformError
from fuyun.domain.functions import Alias, Artifact, Function, FunctionSpec, Version, Weight
from fuyun.domain.invocations import Invocation, LogLine
from fuyun.domain.layers import LayerVersion
from fuyun.domain.names import LATEST
from fuyun.domain.objects import Bucket
from fuyun.domain.tenants import AuditEntry, Key, Namespace, Quotas

#: A dependency build may compile for minutes; the API sends progress meanwhile, this is the longest silence.
BUILD_SILENCE_S = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What `deploy` sends. `code` is the digest of an uploaded archive, `requirements` a requirements.txt text."""

    spec: FunctionSpec
    code: str
    requirements: str = ""
    alias: str = ""
    publish: bool = False
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A function's answer. `timing` is the waterfall: phase -> milliseconds, in order. `status` is the one that an
    application (WSGI, ASGI) answered with; 200 for every other function."""

    body: bytes
    content_type: str
    request_id: str
    version: str
    start_kind: str
    timing: dict[str, float] = field(default_factory=dict)
    status: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """Which log lines. `since_s` is wall-clock seconds; `request` narrows to one invocation."""

    since_s: float = 0.0
    request: str = ""
    limit: int = 1000


def parse_timing(value: str) -> dict[str, float]:
    """`queue;dur=0.01, run;dur=3` -> {"queue": 0.01, "run": 3.0}; what is not of that form is left out."""
    found: dict[str, float] = {}
    for metric in value.split(","):
        name, *attributes = (part.strip() for part in metric.split(";"))
        for attribute in attributes:
            key, _, number = attribute.partition("=")
            try:
                if name and key == "dur":
                    found[name] = float(number)
            except ValueError:
                continue
    return found


class Platform(BusesOfPlatform, Messaging, DeliveryCaller, Streaming, Documents):
    """A platform reached over its API. `namespace` is where functions are looked for; default: the profile's."""

    # --- the platform itself ---------------------------------------------------------------------------------------

    def get_info(self) -> dict[str, Any]:
        """Version, addresses and features."""
        return self._dict(self._send("GET", path_of("info")))

    def get_status(self) -> dict[str, Any]:
        """Nodes with their zygotes, blanks, templates, instances and queues."""
        return self._dict(self._send("GET", path_of("status")))

    def get_node(self) -> dict[str, Any]:
        """The node's processes, their memory in bytes, what each takes and saves in milliseconds. For platform keys."""
        return self._dict(self._send("GET", path_of("node")))

    def get_openapi(self) -> dict[str, Any]:
        """The API's own description."""
        return self._dict(self._send("GET", path_of("openapi.json")))

    def list_audit(self, namespace: str = "", after: str = "", limit: int = 100) -> list[AuditEntry]:
        """A page of the audit log, oldest first; `namespace` "" is every one the key may see."""
        query = (
            {"limit": str(limit)}
            | ({"after": after} if after else {})
            | ({"namespace": namespace} if namespace else {})
        )
        return self._items(self._send("GET", path_of("audit"), query=query), AuditEntry)[0]

    # --- namespaces, keys, secrets ---------------------------------------------------------------------------------

    def list_namespaces(self) -> list[Namespace]:
        """All namespaces this key may see, by name."""
        return self._all(path_of("namespaces"), Namespace)

    def get_namespace(self, name: str) -> Namespace:
        """NotFound when absent."""
        return self._one(self._send("GET", path_of("namespaces", name)), Namespace)

    def create_namespace(self, name: str) -> Namespace:
        """Conflict when the name is taken."""
        return self._one(self._send("POST", path_of("namespaces"), {"name": name}), Namespace)

    def set_quotas(self, name: str, quotas: Quotas) -> Namespace:
        """Replace a namespace's quotas."""
        return self._one(
            self._send("PUT", path_of("namespaces", name, "quotas"), msgspec.to_builtins(quotas)), Namespace
        )

    def delete_namespace(self, name: str) -> None:
        """Conflict while it holds functions."""
        self._send("DELETE", path_of("namespaces", name))

    def list_keys(self, namespace: str = "") -> list[Key]:
        """The namespace's keys, without their tokens; "*" the platform's own."""
        return self._all(path_of("namespaces", namespace or self.namespace, "keys"), Key)

    def create_key(self, name: str, role: str, namespace: str = "", expires_s: float | None = None) -> tuple[Key, str]:
        """A new key and its token, which is never shown again. `expires_s` is wall-clock seconds."""
        body: dict[str, Any] = {"name": name, "role": role}
        if expires_s is not None:
            body["expires_s"] = expires_s
        answer = self._dict(self._send("POST", path_of("namespaces", namespace or self.namespace, "keys"), body))
        token = str(answer.pop("token", ""))
        return self._convert(answer.get("key", answer), Key), token

    def delete_key(self, key_id: str, namespace: str = "") -> None:
        """Revoke a key: its next request is refused."""
        self._send("DELETE", path_of("namespaces", namespace or self.namespace, "keys", key_id))

    def list_secrets(self) -> list[str]:
        """Names of the namespace's secrets; values never leave the platform."""
        raw, _ = self._page(
            self._send("GET", path_of("namespaces", self.namespace, "secrets"), query={"limit": "1000"})
        )
        return [str(item["name"]) if isinstance(item, dict) else str(item) for item in raw]

    def put_secret(self, name: str, value: str) -> None:
        """Create or replace a secret."""
        self._send("PUT", path_of("namespaces", self.namespace, "secrets", name), {"value": value})

    def delete_secret(self, name: str) -> None:
        """NotFound when absent."""
        self._send("DELETE", path_of("namespaces", self.namespace, "secrets", name))

    # --- functions and versions ------------------------------------------------------------------------------------

    def upload(self, archive: bytes, progress: Callable[[int], None] | None = None) -> Artifact:
        """Store a code archive (a zip of `base.archive.pack`); the same bytes are stored once. `progress` is told how
        many bytes were sent so far."""
        path = path_of("namespaces", self.namespace, "archives")
        request = Request("POST", path, archive, "application/zip", progress=progress)
        return self._one(self._http.send(request), Artifact)

    def deploy(self, function: str, release: Release, progress: Callable[[str], None] | None = None) -> Version:
        """Build, store, publish and warm; `progress` gets lines for people. BuildFailed, FunctionLoadFailed, BadRequest
        leave the version that served before in place."""
        body = msgspec.json.encode(
            {
                "spec": release.spec,
                "code": release.code,
                "requirements": release.requirements,
                "alias": release.alias,
                "publish": release.publish,
                "description": release.description,
            }
        )
        path = path_of("namespaces", self.namespace, "functions", function)
        headers = {"Accept": "application/x-ndjson"}
        request = Request("PUT", path, body, headers=headers, answer_s=BUILD_SILENCE_S)
        with closing(self._http.lines(request)) as lines:
            for line in lines:
                if "version" in line and isinstance(line["version"], dict):
                    return self._convert(line["version"], Version)
                if progress is not None and isinstance(line.get("progress"), str):
                    progress(line["progress"])
        raise PlatformError(f"the platform ended the deployment of {function!r} without a result", hint="deploy again")

    def list_functions(self) -> list[Function]:
        """The namespace's functions, by name."""
        return self._all(self._functions(), Function)

    def get_function(self, function: str) -> Function:
        """NotFound when absent."""
        return self._one(self._send("GET", self._functions(function)), Function)

    def delete_function(self, function: str) -> None:
        """Remove it with all versions and aliases."""
        self._send("DELETE", self._functions(function))

    def list_versions(self, function: str) -> list[Version]:
        """All versions, the draft first."""
        return self._all(self._functions(function, "versions"), Version)

    def get_version(self, function: str, version: str = LATEST) -> Version:
        """A version by number or `$LATEST`."""
        return self._one(self._send("GET", self._functions(function, "versions", version)), Version)

    def get_start(self, function: str, version: str = LATEST) -> dict[str, Any]:
        """`policy`, `rung` and `reason` of the next start of a version. NotFound when it is absent."""
        return self._dict(self._send("GET", self._functions(function, "versions", version, "start")))

    def publish(self, function: str, description: str = "") -> Version:
        """Freeze the draft as the next version; an unchanged draft gives the version it already is."""
        return self._one(
            self._send("POST", self._functions(function, "versions"), {"description": description}), Version
        )

    # --- layers ----------------------------------------------------------------------------------------------------

    def list_layers(self) -> list[LayerVersion]:
        """The namespace's layers by name, each as its newest version."""
        return self._all(self._layers(), LayerVersion)

    def list_layer_versions(self, layer: str) -> list[LayerVersion]:
        """All versions of a layer, by number. NotFound when it is absent."""
        return self._all(self._layers(layer, "versions"), LayerVersion)

    def get_layer(self, layer: str, number: int = 0) -> LayerVersion:
        """Version `number` of a layer, or its newest (0). NotFound when absent."""
        path = self._layers(layer, "versions", str(number)) if number else self._layers(layer)
        return self._one(self._send("GET", path), LayerVersion)

    def publish_layer(self, layer: str, content: str, description: str = "") -> LayerVersion:
        """Publish what `upload` stored under the digest `content` as the layer's next version; what the newest version
        holds already gives that one. QuotaExceeded."""
        body = {"content": content, "description": description}
        return self._one(self._send("POST", self._layers(layer, "versions"), body), LayerVersion)

    def delete_layer(self, layer: str, number: int) -> None:
        """Delete a version; functions that mount it keep what it held. NotFound when absent."""
        self._send("DELETE", self._layers(layer, "versions", str(number)))

    # --- buckets and objects ---------------------------------------------------------------------------------------

    def list_buckets(self) -> list[Bucket]:
        """The namespace's buckets, by name."""
        return self._all(self._buckets(), Bucket)

    def get_bucket(self, bucket: str) -> Bucket:
        """A bucket with its rules and what it holds. NotFound when absent."""
        return self._one(self._send("GET", self._buckets(bucket)), Bucket)

    def create_bucket(self, bucket: str) -> Bucket:
        """Conflict when the name is taken, by whomever on the platform; QuotaExceeded."""
        return self._one(self._send("PUT", self._buckets(bucket)), Bucket)

    def delete_bucket(self, bucket: str) -> None:
        """Conflict while it holds anything."""
        self._send("DELETE", self._buckets(bucket))

    def list_objects(
        self, bucket: str, prefix: str = "", delimiter: str = "", after: str = "", limit: int = 1000
    ) -> tuple[list[dict[str, Any]], str]:
        """A page of objects by key (`key`, `size_bytes`, `etag`, `content_type`, `created_s`; `prefix` true: all keys
        that begin so), and the key it goes on after, "" at the end."""
        query = {"prefix": prefix, "delimiter": delimiter, "after": after, "limit": str(limit)}
        return self._page(self._send("GET", self._buckets(bucket, "objects"), query=query))

    def delete_object(self, bucket: str, key: str, version: str = "") -> None:
        """Delete an object, or one version of it. NotFound when there is no such bucket."""
        query = {"key": key, "version": version}
        self._send("DELETE", self._buckets(bucket, "objects"), query=query)

    def presign(self, bucket: str, key: str, method: str = "GET", lasts_s: int = 3600) -> str:
        """An address of S3 at which whoever has it may do `method` to the object for so long."""
        body = {"method": method, "key": key, "lasts_s": lasts_s}
        return str(self._dict(self._send("POST", self._buckets(bucket, "presign"), body)).get("url", ""))

    def get_access_key(self, key_id: str, namespace: str = "") -> dict[str, str]:
        """A key as S3's clients take it: `access_key`, `secret_key`, `endpoint`, `region`."""
        path = path_of("namespaces", namespace or self.namespace, "keys", key_id, "s3")
        return {name: str(value) for name, value in self._dict(self._send("GET", path)).items()}

    # --- aliases ---------------------------------------------------------------------------------------------------

    def list_aliases(self, function: str) -> list[Alias]:
        """All aliases of the function, by name."""
        return self._all(self._functions(function, "aliases"), Alias)

    def set_alias(
        self,
        function: str,
        alias: str,
        weights: Sequence[Weight],
        sticky_header: str = "",
        expected_revision: int | None = None,
    ) -> Alias:
        """Create or move an alias. PreconditionFailed unless it is at `expected_revision` (0: absent; None: any)."""
        body = {"weights": [msgspec.to_builtins(weight) for weight in weights], "sticky_header": sticky_header}
        headers = {}
        if expected_revision is not None:
            headers = {"If-None-Match": "*"} if expected_revision == 0 else {"If-Match": f'"{expected_revision}"'}
        return self._one(self._send("PUT", self._functions(function, "aliases", alias), body, headers=headers), Alias)

    def delete_alias(self, function: str, alias: str) -> None:
        """NotFound when absent."""
        self._send("DELETE", self._functions(function, "aliases", alias))

    def rollback(self, function: str, alias: str) -> Alias:
        """Point the alias back at what it served before; Conflict when there is nothing before."""
        return self._one(self._send("POST", self._functions(function, "aliases", alias, "rollback")), Alias)

    # --- invocations and logs --------------------------------------------------------------------------------------

    def invoke(self, function: str, payload: bytes, qualifier: str = "", *, answer_s: float | None = None) -> Outcome:
        """Run the function on a JSON payload and wait for its answer (the function's own timeout bounds it).

        Raises the function's error (FunctionError and below, with `error_type`, `traceback` and `request_id` among its
        fields), Throttled, Unavailable."""
        query = {"qualifier": qualifier} if qualifier else {}
        path = self._functions(function, "invoke")
        answer = self._http.send(Request("POST", path, payload, query=query, answer_s=answer_s))
        return Outcome(
            body=answer.body,
            content_type=answer.headers.get("content-type", ""),
            request_id=answer.headers.get("fuyun-request-id", ""),
            version=answer.headers.get("fuyun-version", ""),
            start_kind=answer.headers.get("fuyun-start", ""),
            timing=parse_timing(answer.headers.get("server-timing", "")),
            status=int(answer.headers.get("fuyun-status", "200")),
        )

    def list_invocations(
        self, function: str, *, since_s: float = 0.0, status: str = "", limit: int = 100
    ) -> list[Invocation]:
        """The newest `limit` records since `since_s` (wall clock), oldest first."""
        query = {"since": _number(since_s), "limit": str(limit)} | ({"status": status} if status else {})
        return self._items(self._send("GET", self._functions(function, "invocations"), query=query), Invocation)[0]

    def get_invocation(self, function: str, request_id: str) -> Invocation:
        """NotFound when absent."""
        return self._one(self._send("GET", self._functions(function, "invocations", request_id)), Invocation)

    def list_logs(self, function: str, query: LogQuery) -> list[LogLine]:
        """The newest matching lines, oldest first."""
        answer = self._send("GET", self._functions(function, "logs"), query=_log_query(query))
        return self._items(answer, LogLine)[0]

    def follow_logs(self, function: str, query: LogQuery) -> Generator[LogLine, None, None]:
        """The matching lines so far, then new ones as they are written, until the iterator is closed."""
        path = self._functions(function, "logs")
        headers = {"Accept": "application/x-ndjson"}
        request = Request("GET", path, query=_log_query(query) | {"follow": "1"}, headers=headers, answer_s=None)
        with closing(self._http.lines(request)) as lines:
            for line in lines:
                if "text" in line:
                    yield self._convert(line, LogLine)

    def _functions(self, *segments: str) -> str:
        return path_of("namespaces", self.namespace, "functions", *segments)

    def _buckets(self, *segments: str) -> str:
        return path_of("namespaces", self.namespace, "buckets", *segments)

    def _layers(self, *segments: str) -> str:
        return path_of("namespaces", self.namespace, "layers", *segments)


def _number(value: float) -> str:
    return repr(value) if value % 1 else str(int(value))


def _log_query(query: LogQuery) -> dict[str, str]:
    found = {"since": _number(query.since_s), "limit": str(query.limit)}
    return found | ({"request": query.request} if query.request else {})
