"""Functions, versions and aliases, and the rules a valid one keeps."""

from __future__ import annotations

from typing import Any, Literal

from fuyun.domain.names import LATEST
from fuyun.domain.runtimes import IMAGES, JAVA_MAIN, JAVAS, SERVERS
from fuyun.domain.triggers import Auth as Auth
from fuyun.domain.triggers import Cors as Cors
from fuyun.domain.triggers import HttpTrigger as HttpTrigger
from fuyun.domain.triggers import Trigger as Trigger
from fuyun.domain.wire import Wire as Wire

MIB = 1024 * 1024
#: Mount points a sandbox prepares, less the one for dependencies (`runtime.sandbox.LAYER_SLOTS`).
MOST_LAYERS = 11
#: Functions that one function's permissions may name.
MOST_NAMED = 100

Isolation = Literal["sandbox", "process", "oci:crun", "oci:runc", "oci:runsc", "oci:kata"]
Network = Literal["none", "internet"]
Protocol = Literal["web", "custom"]
StartPolicy = Literal["auto", "template", "blank", "plain"]


def is_oci(isolation: str) -> bool:
    """Whether an OCI runtime makes the instances of this class."""
    return isolation.startswith("oci:")


HOOKS = ("initializer", "pre_freeze", "pre_stop")


class Hooks(Wire, frozen=True, kw_only=True):
    """Lifecycle hooks as `module.callable`, each with a limit in seconds."""

    initializer: str = ""
    initializer_timeout_s: float = 30.0
    pre_freeze: str = ""
    pre_freeze_timeout_s: float = 3.0
    pre_stop: str = ""
    pre_stop_timeout_s: float = 3.0


class Readiness(Wire, frozen=True, kw_only=True):
    """When a server is ready: as soon as it takes connections on its port and, with a `path`, answers a GET of it with
    a status below 400. `timeout_s` is the limit of its start."""

    path: str = ""
    timeout_s: float = 30.0


class WarmUp(Wire, frozen=True, kw_only=True):
    """The call that a deployment makes before the version takes traffic: `event`, any JSON, as `fuyun invoke` sends it;
    or with a `path` a GET of that. A failure of a `required` one fails the deployment."""

    event: Any = None
    path: str = ""
    required: bool = True


class Allowed(Wire, frozen=True, kw_only=True):
    """A network policy: entries `HOST:PORT[/PROTOCOL]` of what may be reached (`domain.networks`)."""

    allow: tuple[str, ...]


class Permissions(Wire, frozen=True, kw_only=True):
    """What a function may ask of the platform at its own address. `invoke`: functions of its namespace by name, or `*`
    for all of them; `queues`, `topics`, `streams`, `tables`, `objects` (buckets) and `buses` likewise; with nothing
    named it has no address."""

    invoke: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()
    buses: tuple[str, ...] = ()

    @property
    def any(self) -> bool:
        """Whether anything is named."""
        return any(getattr(self, field) for field in self.__struct_fields__)


class Asynchronous(Wire, frozen=True, kw_only=True):
    """What becomes of asynchronous invocations. `max_attempts` counts failures that are the function's own (errors and
    timeouts); throttles and failures of the platform are tried again until `max_age_s`. `on_success` and `on_failure`
    are `domain.events.Target`s as text, which get an event with the outcome."""

    max_attempts: int = 3
    max_age_s: float = 6 * 3600.0
    on_success: str = ""
    on_failure: str = ""
    concurrency: int = 10  # deliveries inside the function at once


class Provisioned(Wire, frozen=True, kw_only=True):
    """A window in which more instances are kept: from each time the cron `schedule` fires, for `duration_s`."""

    schedule: str
    duration_s: float
    instances: int
    timezone: str = "UTC"


class FunctionSpec(Wire, frozen=True, kw_only=True):
    """Everything a version freezes, except its code. Sizes in bytes, durations in seconds."""

    runtime: str = "python3"
    handler: str = "handler.handler"
    memory_bytes: int = 256 * MIB
    timeout_s: float = 30.0
    concurrency: int = 1
    min_instances: int = 0
    provisioned: tuple[Provisioned, ...] = ()
    max_instances: int = 100
    idle_timeout_s: float = 300.0
    freeze_after_s: float = 0.0  # idle time after which an instance gets no CPU until its next call; 0 never
    cpu: float = 1.0  # cores at most (quota); shares follow memory
    pids: int = 128
    tmp_bytes: int = 64 * MIB
    payload_bytes: int = 6 * MIB  # largest request body
    output_bytes: int = 6 * MIB  # largest buffered result; streamed results are not limited
    log_bytes: int = 1 * MIB  # log text kept of one invocation
    isolation: Isolation = "sandbox"
    network: Network | Allowed = "none"
    permissions: Permissions = Permissions()
    start: StartPolicy = "auto"
    env: dict[str, str] = {}
    secrets: dict[str, str] = {}  # environment name -> name of a secret of the namespace
    layers: tuple[str, ...] = ()  # NAME:NUMBER, searched in this order; NAME alone until a deployment freezes it
    hooks: Hooks = Hooks()
    image: str = ""  # of runtime image: ./FOLDER, ./ARCHIVE, or REGISTRY/NAME:TAG
    protocol: Protocol = "web"  # of runtime image: which runtime's program it holds
    command: str = ""  # of a server: what starts it, by /bin/sh; "" is the executable `bootstrap`
    readiness: Readiness = Readiness()  # of a server
    warm_up: WarmUp | None = None
    asynchronous: Asynchronous = Asynchronous()
    tags: dict[str, str] = {}
    triggers: tuple[Trigger, ...] = ()
    description: str = ""

    @property
    def is_server(self) -> bool:
        """Whether its program is an HTTP server."""
        if self.runtime in JAVAS:
            return self.handler.endswith(JAVA_MAIN)
        return self.runtime in SERVERS or (self.runtime in IMAGES and self.protocol == "web")


class Artifact(Wire, frozen=True, kw_only=True):
    """Immutable bytes a version mounts: its code or a built layer. `digest` is sha256 in hex."""

    digest: str
    size_bytes: int


class Version(Wire, frozen=True, kw_only=True):
    """An immutable snapshot; `number` 0 is the draft `$LATEST`, the only one that changes."""

    namespace: str
    function: str
    number: int
    spec: FunctionSpec
    code: Artifact
    layers: tuple[Artifact, ...] = ()  # built dependencies and layers, in mount order
    created_s: float
    description: str = ""
    revision: int = 1  # rises with every change of the draft; never reused

    @property
    def qualifier(self) -> str:
        """`$LATEST` or the number as text."""
        return LATEST if self.number == 0 else str(self.number)

    @property
    def key(self) -> str:
        """Names one immutable content: a draft's key changes with its revision."""
        return f"{self.namespace}/{self.function}@{self.number or f'0.{self.revision}'}"


class Weight(Wire, frozen=True, kw_only=True):
    """A share of an alias's traffic. `version` 0 is `$LATEST`; weights of one alias sum to 100."""

    version: int
    weight: float


class Alias(Wire, frozen=True, kw_only=True):
    """A mutable name for one version, or several by weight. `revision` is what If-Match compares (`"<revision>"`)."""

    namespace: str
    function: str
    name: str
    weights: tuple[Weight, ...]
    previous: tuple[Weight, ...] = ()  # where `rollback` goes
    sticky_header: str = ""  # requests with the same value of this header meet the same version
    revision: int = 1
    updated_s: float = 0.0


class Function(Wire, frozen=True, kw_only=True):
    """A function's name and its counters. The draft is version 0; `last_version` is the highest number ever given."""

    namespace: str
    name: str
    last_version: int
    created_s: float
    updated_s: float
