"""Messages with descriptors."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from fuyun.runtime import descriptors


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a connection of messages."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, other:
        yield one, other


def test_messages_stay_apart_and_in_order(pair: tuple[socket.socket, socket.socket]) -> None:
    for number in range(5):
        descriptors.send(pair[0], {"n": number, "text": "ü\n"})
    for number in range(5):
        assert descriptors.receive(pair[1]) == ({"n": number, "text": "ü\n"}, [])


def test_descriptors_arrive_in_order_and_are_the_receivers(pair: tuple[socket.socket, socket.socket]) -> None:
    pipes = [os.pipe() for _ in range(4)]
    descriptors.send(pair[0], {}, [writer for _, writer in pipes])
    message, found = descriptors.receive(pair[1])
    assert message == {}
    assert len(found) == 4
    for (reader, writer), received in zip(pipes, found, strict=True):
        os.close(writer)
        os.write(received, b"x")
        os.close(received)
        assert os.read(reader, 9) == b"x"
        assert os.read(reader, 9) == b""
        os.close(reader)


def test_the_end_of_a_connection(pair: tuple[socket.socket, socket.socket]) -> None:
    descriptors.send(pair[0], {"last": 1})
    pair[0].close()
    assert descriptors.receive(pair[1]) == ({"last": 1}, [])
    assert descriptors.receive(pair[1]) == (None, [])
    with pytest.raises(OSError, match="Broken pipe"):
        descriptors.send(pair[1], {})


def test_a_connection_that_was_left_with_messages_unread(pair: tuple[socket.socket, socket.socket]) -> None:
    descriptors.send(pair[1], {"unread": 1})
    pair[0].close()
    assert descriptors.receive(pair[1]) == (None, [])


def test_a_message_that_is_too_long_is_refused_whole(pair: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(OSError, match=r"a message of 70\d+ bytes, 65536 are the most"):
        descriptors.send(pair[0], {"text": "x" * 70_000})
    fits = {"text": "x" * (65536 - 11)}
    descriptors.send(pair[0], fits)
    assert descriptors.receive(pair[1])[0] == fits


def test_who_does_not_read_is_not_waited_for(pair: tuple[socket.socket, socket.socket]) -> None:
    def fill() -> None:
        for _ in range(100_000):
            descriptors.send(pair[0], {"x": "y" * 1000}, wait=False)

    with pytest.raises(BlockingIOError):
        fill()


def test_more_descriptors_than_expected_do_not_leak(pair: tuple[socket.socket, socket.socket]) -> None:
    """Eight are the most; the kernel closes what does not fit."""
    before = len(os.listdir("/proc/self/fd"))
    descriptors.send(pair[0], {}, [0] * 12)
    message, found = descriptors.receive(pair[1])
    assert message == {}
    assert len(found) <= 8
    for descriptor in found:
        os.close(descriptor)
    assert len(os.listdir("/proc/self/fd")) == before
