"""A served API per test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.transports.api.serving import Served, served


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Served]:
    """The control API on a free port over fresh stores."""
    async with served(tmp_path) as running:
        yield running
