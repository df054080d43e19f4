"""Objects whose files the kernel sends: whole, in ranges, to slow clients and to those that leave."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from typing import Any

import httpx
import pytest

from tests.transports.s3.clients import Served, signed
from tests.waiting import wait_until

SIZE = 9_000_017
BODY = os.urandom(SIZE)


@pytest.fixture
def large(s3: Any, bucket: str) -> str:
    """Where an object of several files is: two parts, of which the first is as small as may be."""
    upload = s3.create_multipart_upload(Bucket=bucket, Key="large")["UploadId"]
    named = {"Bucket": bucket, "Key": "large", "UploadId": upload}
    cut = 5 * 2**20
    pieces = (BODY[:cut], BODY[cut:])
    parts = [
        {"PartNumber": number, "ETag": s3.upload_part(**named, PartNumber=number, Body=piece)["ETag"]}
        for number, piece in enumerate(pieces, 1)
    ]
    s3.complete_multipart_upload(**named, MultipartUpload={"Parts": parts})
    return f"/{bucket}/large"


def test_wholes_and_ranges(served: Served, large: str) -> None:
    spans = [(0, SIZE), (1, SIZE - 1), (5 * 2**20 - 300_000, 5 * 2**20 + 300_000), (SIZE - 400_000, SIZE), (7, 9)]
    with httpx.Client() as http:  # one connection for all of them
        for start, end in spans:
            answer = http.send(signed(served, "GET", large, **{"range": f"bytes={start}-{end - 1}"}))
            assert (answer.status_code, answer.content == BODY[start:end]) == (206, True), (start, end)
            head = http.send(signed(served, "HEAD", large))
            assert (head.headers["content-length"], head.content) == (str(SIZE), b"")
        assert http.send(signed(served, "GET", large)).content == BODY


def raw_get(served: Served, path: str) -> bytes:
    request = signed(served, "GET", path)
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in request.headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def read_answer(sock: socket.socket, step: int) -> bytes:
    """Head and body of one answer, read in small steps."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(step)
    head, _, body = data.partition(b"\r\n\r\n")
    size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    found = bytearray(body)
    while len(found) < size:
        piece = sock.recv(min(step, size - len(found)))
        assert piece, f"broken off {size - len(found)} bytes before the end"
        found += piece
    return bytes(found)


def test_a_client_with_a_small_window_and_requests_in_a_row(served: Served, large: str) -> None:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", served.port))
        sock.sendall(raw_get(served, large) * 2)  # the second one while the first is answered
        for _ in range(2):
            assert read_answer(sock, 65536) == BODY


def test_clients_that_leave_take_nothing_along(served: Served, large: str) -> None:
    """No descriptor of theirs stays open, and others are served meanwhile."""
    folder = f"/proc/{served.process.pid}/fd"

    def links() -> list[str]:
        found = []
        for name in os.listdir(folder):
            with contextlib.suppress(OSError):
                found.append(os.readlink(f"{folder}/{name}"))
        return found

    def sockets() -> int:
        return sum(link.startswith("socket:") for link in links())

    assert sockets() > 0
    before = sockets()
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", served.port)) as sock:
            sock.sendall(raw_get(served, large))
            sock.recv(1000)
    with httpx.Client() as http:
        assert http.send(signed(served, "GET", large)).content == BODY
    wait_until(lambda: sockets() <= before, "descriptors to be closed", 20)
    wait_until(lambda: not [link for link in links() if "/contents/" in link], "files to be closed", 20)


def test_many_at_once(served: Served, large: str) -> None:
    wrong: list[int] = []

    def fetch() -> None:
        with httpx.Client() as http:
            if http.send(signed(served, "GET", large)).content != BODY:
                wrong.append(1)

    threads = [threading.Thread(target=fetch) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
