"""The times of the next holds of many instances, drawn at once.

Each instance draws from its own stream, so it does not matter which instances are drawn together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pinnerfs.kernel.pages import Int64s
from pinnerfs.scenario.distributions import TimeDistribution
from pinnerfs.workload.arrivals import Arrivals, PhaseTimes
from pinnerfs.workload.draws import draw_each, joined
from pinnerfs.workload.tasks import FOREVER

__all__ = ["HoldTimes", "draw_blocks"]


class HoldTimes(NamedTuple):
    """The holds of some blocks, one block after the other. Those of a block are in order of their begin.

    begin, end: boot time in µs; the end is FOREVER if the hold is never released.
    """

    begin: Int64s
    end: Int64s


def draw_blocks(phase: PhaseTimes, blocks: Sequence[Arrivals]) -> HoldTimes:
    """Draw the next block of each of these instances, and set its results. All are of this phase and of one size."""
    if phase.every is not None:
        return _grid(phase, phase.every, blocks)
    if phase.gap is not None:
        return _gaps(phase, phase.gap, blocks)
    assert phase.mean_wait is not None  # a phase without arrivals has no blocks
    return _poisson(phase, phase.mean_wait, blocks)


def _grid(phase: PhaseTimes, every: int, blocks: Sequence[Arrivals]) -> HoldTimes:
    size = blocks[0].size
    begin = (_at(blocks) + every * np.arange(size, dtype=np.int64)).ravel()
    for block in blocks:
        block.count, block.reached = size, block.at + every * (size - 1)
        block.at += every * size
    return HoldTimes(begin, _ends(phase, blocks, begin))


def _gaps(phase: PhaseTimes, gap: TimeDistribution, blocks: Sequence[Arrivals]) -> HoldTimes:
    size, at = blocks[0].size, _at(blocks)
    hold = np.zeros((len(blocks), size), dtype=np.int64)
    if phase.hold is not None:
        hold = _draw_rows(phase.hold, blocks)
    # At least 1 µs, or a hold and a gap drawn as 0 would repeat for ever at one moment.
    after = at + np.maximum(1, hold + _draw_rows(gap, blocks)).cumsum(axis=1)
    begin = np.concatenate([at, after[:, :-1]], axis=1)
    for block, begins, holds, next_begin in zip(blocks, begin, hold, after[:, -1].tolist(), strict=True):
        block.at = next_begin
        block.count = size if next_begin < block.end else int(begins.searchsorted(block.end))
        block.last = block.reached = int(begins[block.count - 1])
        block.free_at = block.last + int(holds[block.count - 1])
    begin, hold = _kept(blocks, begin), _kept(blocks, hold)
    return HoldTimes(begin, begin + hold if phase.hold is not None else _ends(phase, blocks, begin))


def _poisson(phase: PhaseTimes, wait: float, blocks: Sequence[Arrivals]) -> HoldTimes:
    size = blocks[0].size
    waits = np.empty((len(blocks), size))
    for block, row in zip(blocks, waits, strict=True):
        block.rng.standard_exponential(out=row)
    waits *= wait
    # Round the sums down. If each wait were rounded by itself, short waits would be too short on average.
    passed = waits.cumsum(axis=1, out=waits)
    passed += np.array([[block.fraction] for block in blocks])
    begin = passed.astype(np.int64)
    begin += _at(blocks)
    for block, begins, at, last in zip(blocks, begin, begin[:, -1].tolist(), passed[:, -1].tolist(), strict=True):
        block.at, block.fraction = at, last % 1
        block.count, block.reached = size, at
        if at >= block.end:
            block.count = int(begins.searchsorted(block.end))
            block.reached = int(begins[block.count - 1]) if block.count else block.end
    begin = _kept(blocks, begin)
    return HoldTimes(begin, _ends(phase, blocks, begin))


def _at(blocks: Sequence[Arrivals]) -> Int64s:
    """Return a column with the moment from which each block goes on."""
    return np.array([[block.at] for block in blocks], dtype=np.int64)


def _draw_rows(times: TimeDistribution, blocks: Sequence[Arrivals]) -> Int64s:
    """Return a row of drawn times for each block."""
    size = blocks[0].size
    return draw_each(times, [block.rng for block in blocks], [size] * len(blocks)).reshape(-1, size)


def _kept(blocks: Sequence[Arrivals], rows: Int64s) -> Int64s:
    """Return of each row as many values as its block has holds, one row after the other."""
    return joined([row[: block.count] for block, row in zip(blocks, rows, strict=True)])


def _ends(phase: PhaseTimes, blocks: Sequence[Arrivals], begin: Int64s) -> Int64s:
    if phase.hold is None:
        return np.full(len(begin), FOREVER, dtype=np.int64)
    return begin + draw_each(phase.hold, [block.rng for block in blocks], [block.count for block in blocks])
