"""Layers on a real platform, and functions whose instances come from a zygote of theirs."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Mapping
from typing import Any

from tests.running import Platform
from tests.waiting import wait_until

#: Takes long enough to import for a zygote of it, and says in which process that was done.
HEAVY = {"python/heavy.py": "import time, uuid\ntime.sleep(0.2)\ntoken = uuid.uuid4().hex\n"}
#: What a load leaves behind that keeps a version from being forked, so that each of its instances loads it.
_HELD = 'import heavy\nopen("/tmp/held", "w").close()\n'


def publish(platform: Platform, name: str, files: Mapping[str, str]) -> str:
    """Publish a layer by the command line; what that says."""
    folder = platform.root / f"layer-{name}"
    for path, text in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755 if path.startswith("bin/") else 0o644)
    ran = platform.cli("layer", "publish", name, str(folder))
    assert ran.returncode == 0, ran.stderr.decode()
    return ran.stdout.decode().strip()


def zygotes(platform: Platform, besides: Collection[int] = ()) -> list[dict[str, Any]]:
    """What `fuyun node` says of zygotes of layers in the namespace `default`, without those of the pids `besides`."""
    found = json.loads(platform.cli("node", "--json").stdout)["processes"]
    ours = [one for one in found if one["kind"] == "zygote" and one["version"].startswith("default: ")]
    return [one for one in ours if one["pid"] not in besides]


def deploy(platform: Platform, name: str, files: Mapping[str, str | bytes], **spec: Any) -> None:
    """Deploy a function whose instances start from a zygote of its layer, which is there when this returns."""
    # Content of its own: a zygote that served a function just removed is about to be ended, and is not taken for this.
    before = {one["pid"] for one in zygotes(platform)}
    publish(platform, "burden", {**HEAVY, "python/own.py": f"token = {uuid.uuid4().hex!r}\n"})
    handler = files["handler.py"]
    assert isinstance(handler, str)
    platform.deploy(name, {**files, "handler.py": _HELD + handler}, layers=["burden"], **spec)
    wait_until(lambda: zygotes(platform, before), "a zygote of its layer")
