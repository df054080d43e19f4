"""What a mode must bring along."""

from __future__ import annotations

import pytest

from fuyun.runtime.desk import Desk


def test_a_mode_that_cannot_wait_is_refused_when_it_is_made() -> None:
    class Hasty(Desk):
        pass

    with pytest.raises(TypeError, match=r"abstract method '?wait"):
        Hasty(None, None)  # type: ignore[abstract,arg-type]
