"""Sweeps: what a point costs, compared with a dump of it in a shell loop."""

from __future__ import annotations

import resource

from tests.bench.measure import FEW_REPEATS, python, ratios
from tests.bench.table import Group, Target

__all__ = ["groups", "point_for_dump"]

THRESHOLDS = ("100ms", "300ms", "1s")
SEEDS = 100

POINT = Target(
    f"pinnerfs sweep, {3 * SEEDS} points of camera-stall in one process, each : pinnerfs dump of a point"
    " (processor time)",
    0.1,
    0.05,
)


def groups() -> list[Group]:
    """Return the group of a point."""
    return [Group([POINT], lambda: [point_for_dump(SEEDS, FEW_REPEATS)])]


def point_for_dump(seeds: int, repeats: int) -> list[float]:
    """Return the processor time of a point of a sweep over so many seeds, divided by that of a dump of a point."""
    sweep = ("-m", "pinnerfs", "sweep", "camera-stall", "--at", "60s", "--seeds", f"0..{seeds - 1}")
    points = seeds * len(THRESHOLDS)
    return ratios(lambda: _spent(*sweep, "--thresholds", ",".join(THRESHOLDS)) / points, _dumps, repeats)


def _dumps() -> float:
    """Return the processor time of a dump, on average over the thresholds."""
    dump = ("-m", "pinnerfs", "dump", "camera-stall", "--at", "60s", "--seed", "7")
    return sum(_spent(*dump, "--threshold", threshold) for threshold in THRESHOLDS) / len(THRESHOLDS)


def _spent(*arguments: str) -> float:
    """Return the processor time (s) of a Python process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    python(*arguments)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
