"""What every table is made of: one `MetaData` for all, and kinds of columns."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Dialect, MetaData, Text, TypeDecorator

#: Every driver's tables, whatever module declares them: migrations are compared with all of them.
metadata = MetaData()


class Packed(TypeDecorator[Any]):
    """A msgspec type as JSON text."""

    impl = Text
    cache_ok = True

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.kind = kind

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else msgspec.json.encode(value).decode()

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else msgspec.json.decode(value, type=self.kind)
