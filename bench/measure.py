"""What a row is, how it is repeated, and what is kept of it."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from bench.stage import Stage


@dataclass(frozen=True, slots=True)
class Sample:
    """One repetition: our figure, the reference's, and what else is worth knowing."""

    ours: float
    reference: float
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """Ours to the reference; ours itself where there is no reference."""
        return self.ours / self.reference if self.reference else self.ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table. `better` says which way the ratio should go; `unit` is that of both figures."""

    name: str
    what: str
    reference: str
    unit: str
    budget: float
    goal: float
    better: Literal["higher", "lower"]
    measure: Callable[[Stage], Sample]
    absolute: bool = False  # judged by our figure, not by a ratio


@dataclass(frozen=True, slots=True)
class Result:
    """All repetitions of a row."""

    row: Row
    samples: tuple[Sample, ...]

    @property
    def ratios(self) -> list[float]:
        """The judged figures, ascending."""
        return sorted(sample.ratio for sample in self.samples)

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.ratios)

    @property
    def middle(self) -> Sample:
        """The repetition whose figure is nearest to the median."""
        return min(self.samples, key=lambda sample: abs(sample.ratio - self.median))

    def reaches(self, bound: float) -> bool:
        """Whether the median is at least as good as `bound`."""
        return self.median >= bound if self.row.better == "higher" else self.median <= bound

    @property
    def verdict(self) -> str:
        """goal, budget or over."""
        return "goal" if self.reaches(self.row.goal) else "budget" if self.reaches(self.row.budget) else "OVER"

    def as_json(self) -> dict[str, Any]:
        """What is written to disk."""
        return {
            "name": self.row.name, "what": self.row.what, "reference": self.row.reference, "unit": self.row.unit,
            "budget": self.row.budget, "goal": self.row.goal, "better": self.row.better,
            "median": self.median, "lowest": self.ratios[0], "highest": self.ratios[-1], "verdict": self.verdict,
            "samples": [{"ours": s.ours, "reference": s.reference, "notes": s.notes} for s in self.samples],
        }  # fmt: skip


def repeat(row: Row, stage: Stage, times: int) -> Result:
    """Measure `times` times."""
    return Result(row, tuple(row.measure(stage) for _ in range(times)))
