"""The loop of these tests."""

from __future__ import annotations

import pytest
import uvloop


@pytest.fixture(scope="session", autouse=True)
def _libuv_is_loaded() -> None:
    """libuv keeps one pair of descriptors for the life of the process: open it before descriptors are counted."""
    uvloop.new_event_loop().close()
