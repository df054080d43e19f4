"""Contract suites live in the package; their assertions are to explain themselves like a test's own."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("fuyun.testing.contracts")
