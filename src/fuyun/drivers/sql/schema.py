"""Migrations: which revision a database is at, which this program knows, and the way from one to the other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from fuyun.base import faults
from fuyun.domain.errors import SchemaTooNew

if TYPE_CHECKING:
    from alembic.config import Config

#: The newest revision in `migrations/versions` (a test compares them). Knowing it here spares the usual start Alembic.
HEAD = "r0012"
#: Revisions this program can migrate from.
KNOWN = frozenset({f"r{number:04}" for number in range(1, int(HEAD[1:]) + 1)})

SCRIPTS = Path(__file__).with_name("migrations")


def current(connection: Connection) -> str:
    """The database's revision; "" when it is new."""
    if not inspect(connection).has_table("alembic_version"):
        return ""
    return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or "")


def upgrade(connection: Connection, path: Path) -> None:
    """Bring the database to HEAD inside the caller's transaction: after a crash it is as before or done.

    SchemaTooNew when its revision is not known here.
    """
    found = current(connection)
    if found == HEAD:
        return
    if found and found not in KNOWN:
        raise SchemaTooNew(
            f"{path} has schema {found}; this Fuyun knows schemas up to {HEAD}",
            hint="start it with the Fuyun version that wrote it, or a newer one; or restore an older backup",
            found=found,
            known=HEAD,
        )
    from alembic import command  # 11 MB that only a new or an old database needs

    command.upgrade(config(connection), HEAD)
    faults.point("catalog.migrated")


def config(connection: Connection) -> Config:
    """Alembic's settings for an open connection."""
    from alembic.config import Config

    made = Config()
    made.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    made.set_main_option("path_separator", "os")
    made.attributes["connection"] = connection
    return made
