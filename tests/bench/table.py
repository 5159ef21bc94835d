"""Figures and their targets, as a table and as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["Group", "Row", "Target", "as_json", "as_text", "machine"]

HEADINGS = ("what", "median", "spread", "must reach", "aim", "verdict")


@dataclass(frozen=True)
class Target:
    """A row's text, the figure that it must reach and the one to aim at: an upper bound, or with `more` a lower one."""

    what: str
    must: float | None = None
    aim: float | None = None
    more: bool = False


@dataclass(frozen=True)
class Group:
    """Targets that are measured together. `measure` returns the figures of each, one for every repeat."""

    targets: Sequence[Target]
    measure: Callable[[], Sequence[Sequence[float]]]


@dataclass(frozen=True)
class Row:
    """A target with its figures, or with the reason why there are none."""

    target: Target
    figures: Sequence[float] = ()
    why_not: str = ""

    @property
    def verdict(self) -> str:
        """Return `aim met`, `reached` or `missed`, or `-` for a target without bounds."""
        if not self.figures:
            return f"not measured: {self.why_not}"
        for bound, word in (self.target.aim, "aim met"), (self.target.must, "reached"):
            if bound is not None and self._reaches(bound):
                return word
        return "-" if self.target.must is None else "missed"

    def _reaches(self, bound: float) -> bool:
        median = statistics.median(self.figures)
        return median >= bound if self.target.more else median <= bound

    def cells(self) -> tuple[str, ...]:
        """Return the cells of the table."""
        median = spread = ""
        if self.figures:
            median = _figure(statistics.median(self.figures))
            spread = f"{_figure(min(self.figures))} to {_figure(max(self.figures))}"
        return (self.target.what, median, spread, _figure(self.target.must), _figure(self.target.aim), self.verdict)


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    # More than three digits are noise.
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def machine() -> dict[str, str | int]:
    """Return facts about this machine, with its load."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "kernel": platform.release(),
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count() or 0,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "load": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def as_text(rows: Sequence[Row], facts: dict[str, str | int]) -> str:
    """Return the facts, one on each line, and the table."""
    table = [HEADINGS, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in list(zip(*table, strict=True))[:-1]]
    lines = [f"{name}: {value}" for name, value in facts.items()]
    lines.append("")
    for what, *figures, verdict in table:
        numbers = [cell.rjust(width) for cell, width in zip(figures, widths[1:], strict=True)]
        lines.append("  ".join([what.ljust(widths[0]), *numbers, verdict]).rstrip())
    return "\n".join(lines) + "\n"


def as_json(rows: Sequence[Row], facts: dict[str, str | int]) -> str:
    """Return the same as JSON, with the figures of all repeats."""
    rows_as_json = [
        {
            "what": row.target.what,
            "median": statistics.median(row.figures) if row.figures else None,
            "figures": list(row.figures),
            "must": row.target.must,
            "aim": row.target.aim,
            "more_is_better": row.target.more,
            "verdict": row.verdict,
        }
        for row in rows
    ]
    return json.dumps({"machine": facts, "rows": rows_as_json}, indent=2) + "\n"
