"""The SQLite drivers keep their ports' contracts."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from sqlalchemy import select

from fuyun.drivers.queues.topics import SqlTopics
from fuyun.drivers.sql.outbox import outbox
from fuyun.testing.contracts.queues import Places, QueueStoreContract
from fuyun.testing.contracts.topics import TopicStoreContract
from tests.drivers.queues.places import opened


class TestSqliteQueues(QueueStoreContract):
    def open(self, folder: Path) -> AbstractAsyncContextManager[Places]:
        return opened(folder)


class TestSqliteTopics(TopicStoreContract):
    def open(self, folder: Path) -> AbstractAsyncContextManager[Places]:
        return opened(folder)

    async def waiting(self, places: Places, topic: str) -> list[str]:
        assert isinstance(places.topics, SqlTopics)
        where = (outbox.c.namespace == "default", outbox.c.kind == "topic", outbox.c.origin == topic)
        query = select(outbox.c.event).where(*where).order_by(outbox.c.number)
        return await places.topics.database.read(lambda connection: [row.event.id for row in connection.execute(query)])
