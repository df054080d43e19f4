"""HTTP to a program: tunnels, and what becomes of calls when connections cannot be had."""

from __future__ import annotations

import asyncio
import resource
import socket

from fuyun.domain.errors import BadResponse, InstanceLost, Unavailable
from tests.drivers.instances.programs import Counting, Scene, front_of, request_of, run, saying


def test_a_tunnel() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, fields, _ = await request_of(reader)
        assert (fields["connection"], fields["upgrade"]) == ("Upgrade", "websocket")
        writer.write(b"HTTP/1.1 101 Up\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-A: b\r\n\r\nfirst ")
        while data := await reader.read(65536):
            writer.write(data.upper())
        writer.write(b" last")

    async def main() -> None:
        async with front_of(serve) as scene:
            taker = scene.call(end=False, headers=[("upgrade", "websocket")])
            assert taker.call is not None
            taker.call.send_body(b"abc", False)  # before the switch
            await taker.until(lambda: b"ABC" in taker.body)
            assert (taker.status, taker.get("x-a")) == (101, ["b"])
            taker.call.send_body(b"z" * 100000, False)
            await taker.until(lambda: len(taker.body) == 6 + 3 + 100000)
            assert taker.credit == 100003
            taker.call.send_body(b"", True)
            assert (await taker.end()).body.endswith(b"Z last")

    run(main)


def test_a_tunnel_that_is_refused() -> None:
    async def main() -> None:
        async with front_of(saying(b"HTTP/1.1 403 No\r\ncontent-length: 2\r\n\r\nno")) as scene:
            taker = scene.call(end=False, headers=[("upgrade", "websocket")])
            assert ((await taker.end()).status, taker.body) == (403, b"no")

    run(main)


def test_a_port_nobody_listens_on() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as unused:
            port = unused.getsockname()[1]
        scene = Scene(port, 80, 1 << 20)
        taker = await scene.ask()
        assert isinstance(taker.error, BadResponse)
        assert f"port {port}" in taker.error.detail
        assert "ECONNREFUSED" in taker.error.detail
        assert scene.broken
        scene.front.close()
        await asyncio.get_running_loop().run_in_executor(None, scene.porter.join)

    run(main)


def test_the_end_of_the_instance_is_told_by_others() -> None:
    async def main() -> None:
        async with front_of(saying(b"", close=False), concurrency=1) as scene:
            first, second = scene.call(), scene.call()
            await asyncio.sleep(0.02)
            assert len(scene.streams) == 2
            for sink in list(scene.streams.values()):
                sink.on_fail(InstanceLost("it was killed"))
            scene.front.close()
            assert first.error is not None
            assert second.error is not None
            third = scene.call()
            assert isinstance((await third.end()).error, InstanceLost)

    run(main)


def test_a_platform_without_descriptors_says_so_and_keeps_the_instance() -> None:
    async def main() -> None:
        async with front_of(Counting()) as scene:
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            taker = scene.call("POST", body=b"x")
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
            try:
                await taker.end()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert isinstance(taker.error, Unavailable), taker.error
            assert not scene.broken
            assert (await scene.ask()).status == 200

    run(main)


def test_what_a_door_passes_is_looked_at() -> None:
    async def main() -> None:
        from fuyun.drivers.instances.doors import Door

        door = Door()
        inside = socket.socket(fileno=door.inside.detach())
        pair = socket.socketpair()
        asked: asyncio.Future[tuple[socket.socket | None, int]] = asyncio.get_running_loop().create_future()
        door.ask(lambda sock, number: asked.set_result((sock, number)))
        socket.send_fds(inside, [b"\0\0\0\0"], [pair[0].fileno()])
        sock, number = await asked
        assert sock is None
        assert number
        inside.send(b"nobody asked")
        while not door.closed:
            await asyncio.sleep(0.001)
        for end in (inside, *pair):
            end.close()
        door.close()

    run(main)
