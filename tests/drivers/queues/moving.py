"""A process that sends, receives, acknowledges and publishes until it is killed, and says on stdout what was
acknowledged to it: `sent ID`, `done ID`, `published ID`; `got ID` before it acknowledges.

With a second argument its files may grow to that many bytes only; it says the refusal after a "!" and ends.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from pathlib import Path

from fuyun.base import clock
from fuyun.domain.errors import FuyunError
from fuyun.testing.contracts.queues import PLENTY, Places, outgoing
from tests.drivers.queues.places import opened


def say(word: str, id_: str) -> None:
    print(word, id_, flush=True)


async def send(places: Places, lane: int) -> None:
    for count in range(10_000):
        sent = await places.send(f"s{lane}-{count}", f"s{lane}-{count}b", to="q", at_s=clock.wall_s(), data=b"1" * 500)
        for one in sent:
            say("sent", one.id)
        id_ = f"p{lane}-{count}"
        await places.topics.publish("default", "t", [outgoing(id_)], PLENTY, clock.wall_s())
        say("published", id_)


async def receive(places: Places) -> None:
    while True:
        for message in await places.receive(4, at_s=clock.wall_s()):
            say("got", message.id)
            if message.id.endswith("b"):
                continue  # it is never acknowledged
            assert await places.settle(message.receipt, at_s=clock.wall_s()) == {}
            say("done", message.id)


async def main(folder: Path, limit_bytes: int) -> None:
    async with opened(folder) as places:
        if limit_bytes:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
        work = [send(places, lane) for lane in range(3)] + ([] if limit_bytes else [receive(places) for _ in range(2)])
        try:
            await asyncio.gather(*work)
        except FuyunError as error:
            say("!", f"{error.code} {error.hint}")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int([*sys.argv, 0][2])))
