"""Code archives near the limit, over it, and cut short: on disk while they arrive, never in the platform's memory."""

from __future__ import annotations

import re
import socket
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.running import Platform
from tests.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

MIB = 2**20
LIMIT = 192 * MIB
#: What an upload may add to the platform's peak: blocks on their way, the pieces that wait in the server's buffers.
ROOM = 24 * MIB


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zip a little below the limit."""
    path = tmp_path_factory.mktemp("large") / "code.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as packed, packed.open("model.bin", "w") as file:
        for number in range(LIMIT // MIB - 1):
            file.write(number.to_bytes(4, "big") * (MIB // 4))
    return path


def pieces(path: Path, most: int) -> Iterator[bytes]:
    """The file in pieces, again from its beginning until there are `most` bytes."""
    sent = 0
    while sent < most:
        with path.open("rb") as file:
            while sent < most and (piece := file.read(65536)):
                sent += len(piece)
                yield piece


def peak_bytes(platform: Platform) -> int:
    """The most memory the platform's process has held since `forget_peak`."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{platform.process.pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def forget_peak(platform: Platform) -> int:
    """Begin anew (`5` in clear_refs resets the peak, proc(5)); what it holds now."""
    Path(f"/proc/{platform.process.pid}/clear_refs").write_text("5")
    return peak_bytes(platform)


def arriving(platform: Platform) -> list[str]:
    """What lies in the store's temporary folder."""
    return [path.name for path in (platform.data / "objects" / ".tmp").iterdir()]


def test_uploads_take_disk_not_memory(start_platform: Callable[..., Platform], large: Path) -> None:
    platform = start_platform(FUYUN_UPLOAD_BYTES=str(LIMIT))
    url = f"{platform.api}/v1/namespaces/default/archives"
    headers = {"content-type": "application/zip"}
    before = forget_peak(platform)

    size = large.stat().st_size
    stored = platform.http.post(
        url, content=pieces(large, size), headers={**headers, "content-length": str(size)}, timeout=90
    )
    assert stored.status_code == 200, stored.text
    assert stored.json()["size_bytes"] == LIMIT - MIB
    assert peak_bytes(platform) - before < ROOM
    assert arriving(platform) == []

    over = platform.http.post(url, content=pieces(large, LIMIT + MIB), headers=headers, timeout=90)  # chunked
    assert (over.status_code, over.json()["code"]) == (413, "payload_too_large")
    assert peak_bytes(platform) - before < ROOM
    wait_until(lambda: arriving(platform) == [], "what arrived of it to be removed", 10)

    address = httpx.URL(url)
    with socket.create_connection((address.host, address.port or 80)) as client:
        head = f"POST {address.path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {platform.key}\r\n"
        client.sendall(f"{head}content-type: application/zip\r\ncontent-length: {size}\r\n\r\n".encode())
        for piece in pieces(large, 8 * MIB):
            client.sendall(piece)
        wait_until(lambda: arriving(platform), "some of it to arrive", 10)
    wait_until(lambda: arriving(platform) == [], "what arrived of it to be removed", 10)
    assert platform.http.get(f"{platform.api}/healthz").status_code == 200
