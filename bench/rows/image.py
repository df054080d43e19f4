"""Images and OCI runtimes: a server on an image's own root, and a handler in an instance of crun's, cold and warm."""

from __future__ import annotations

from typing import Any

from bench.measure import Row, Sample
from bench.rows.cold import first_calls
from bench.rows.warm import Files, latency
from bench.stage import BARE_PYTHON, HELLO, Stage
from tests.images import BUSYBOX, Image, busybox, layer

_ENTRYPOINT = ["/bin/sh", "-c", 'exec httpd -f -p "$PORT" -h /srv']
_BARE = [BARE_PYTHON, "-I", "-S", "-c", "pass"]
_IMAGE: dict[str, Any] = {"runtime": "image", "image": "./image"}


def _files() -> Files:
    return Image([layer({**busybox(), "srv/index.html": b"hello"})], Entrypoint=_ENTRYPOINT).layout()


def server(stage: Stage) -> Sample:
    """To the moment busybox's server listens, and through it."""
    return first_calls(stage, "bench-image", _files(), 20, _BARE, **_IMAGE)


def warm_server(stage: Stage) -> Sample:
    """One client in a closed loop; the server forks for each."""
    return latency(stage, "bench-image", _files(), 500, **_IMAGE)


def contained(stage: Stage) -> Sample:
    """Two interpreters and a runtime, to the handler's answer."""
    return first_calls(stage, "bench-oci", HELLO, 10, _BARE, isolation="oci:crun")


def warm_contained(stage: Stage) -> Sample:
    """One client in a closed loop."""
    return latency(stage, "bench-oci", HELLO, 1000, isolation="oci:crun")


ROWS = (
    Row(
        name="cold-image", what=f"cold start p50, HTTP to HTTP, {BUSYBOX.name}'s HTTP server in an image",
        reference='python3 -I -S -c "pass"', unit="ms", budget=6.0, goal=3.0, better="lower", measure=server,
    ),
    Row(
        name="cold-oci", what="cold start p50, HTTP to HTTP, standard library, isolation oci:crun",
        reference='python3 -I -S -c "pass"', unit="ms", budget=40.0, goal=15.0, better="lower", measure=contained,
    ),
    Row(
        name="latency-image", what=f"warm latency p50, one client, {BUSYBOX.name}'s HTTP server in an image",
        reference="bare uvloop+httptools hello server", unit="µs", budget=40.0, goal=15.0, better="lower",
        measure=warm_server,
    ),
    Row(
        name="latency-oci", what="warm latency p50, one client, standard library, isolation oci:crun",
        reference="bare uvloop+httptools hello server", unit="µs", budget=4.0, goal=2.0, better="lower",
        measure=warm_contained,
    ),
)  # fmt: skip
