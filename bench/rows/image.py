"""Images and OCI runtimes: a server on an image's own root, and a handler in an instance that crun makes, both cold."""

from __future__ import annotations

from bench.measure import Row, Sample
from bench.rows.cold import first_calls
from bench.stage import BARE_PYTHON, HELLO, Stage
from tests.images import BUSYBOX, Image, busybox, layer

_ENTRYPOINT = ["/bin/sh", "-c", 'exec httpd -f -p "$PORT" -h /srv']
_BARE = [BARE_PYTHON, "-I", "-S", "-c", "pass"]


def server(stage: Stage) -> Sample:
    """To the moment busybox's server listens, and through it."""
    image = Image([layer({**busybox(), "srv/index.html": b"hello"})], Entrypoint=_ENTRYPOINT)
    return first_calls(stage, "bench-image", image.layout(), 20, _BARE, runtime="image", image="./image")


def contained(stage: Stage) -> Sample:
    """Two interpreters and a runtime, to the handler's answer."""
    return first_calls(stage, "bench-oci", HELLO, 10, _BARE, isolation="oci:crun")


ROWS = (
    Row(
        name="cold-image", what=f"cold start p50, HTTP to HTTP, {BUSYBOX.name}'s HTTP server in an image",
        reference='python3 -I -S -c "pass"', unit="ms", budget=6.0, goal=3.0, better="lower", measure=server,
    ),
    Row(
        name="cold-oci", what="cold start p50, HTTP to HTTP, standard library, isolation oci:crun",
        reference='python3 -I -S -c "pass"', unit="ms", budget=40.0, goal=15.0, better="lower", measure=contained,
    ),
)  # fmt: skip
