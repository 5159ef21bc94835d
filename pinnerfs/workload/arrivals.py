"""The times of one instance's holds, drawn in blocks.

The size of a block depends on the scenario alone. So the draws are the same for every way to advance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import NamedTuple

import numpy as np

from pinnerfs.kernel.pages import Int64s
from pinnerfs.scenario.distributions import TimeDistribution
from pinnerfs.scenario.phases import Phase
from pinnerfs.scenario.quantities import parse_rate, parse_time
from pinnerfs.scenario.schema import Task
from pinnerfs.workload.draws import draw
from pinnerfs.workload.tasks import FOREVER

__all__ = ["NO_LIMIT", "QUIET_PHASES", "Arrivals", "PhaseTimes", "hold_times"]

# The first block of a phase is small and each later one is twice as large: a short phase then wastes few draws.
FIRST_BLOCK = 16  # holds
# A block is large enough for numpy to pay off, and small enough to bound the memory: every instance keeps one block.
BLOCK_ROWS = 8192  # holds times pages
TASK_ROWS = 1 << 20  # of all instances of a task together

NO_LIMIT = 1 << 62  # holds of a phase without `repeat`

# After this many phases without an arrival comes a block without holds.
QUIET_PHASES = 16

NONE = np.empty(0, dtype=np.int64)


class Arrivals(NamedTuple):
    """The holds of a block, in order of their begin; perhaps none.

    begin, end: boot time in µs; the end is FOREVER if the hold is never released. reached: no later block has a hold
    that begins before this moment. phases: the number of phases that began since the block before.
    """

    begin: Int64s
    end: Int64s
    reached: int
    phases: int


class PhaseTimes(NamedTuple):
    """A phase with its values parsed."""

    lasts: TimeDistribution | None
    repeat: int | None
    every: int | None
    gap: TimeDistribution | None
    mean_wait: float | None  # µs between arrivals of a rate
    hold: TimeDistribution | None
    search: int  # work for the times of a hold, see `TimeDistribution.search`

    @classmethod
    def of(cls, phase: Phase) -> PhaseTimes:
        """Parse the values of a phase. All instances of a task share the result."""
        gap, hold = phase.gap_distribution, phase.hold_distribution
        return cls(
            lasts=phase.lasts_distribution,
            repeat=phase.repeat,
            every=None if phase.every is None else parse_time("every", phase.every),
            gap=gap,
            mean_wait=None if phase.rate is None else 1 / parse_rate("rate", phase.rate),
            hold=hold,
            search=sum(times.search for times in (gap, hold) if times is not None),
        )


def hold_times(task: Task, phases: Sequence[PhaseTimes], rng: np.random.Generator, stop: int) -> Iterator[Arrivals]:
    """Return the holds of an instance with these phases, a block at a time. None begins at `stop` (µs) or later.

    If the instance ends, its last block has no holds and reaches FOREVER.
    """
    return _HoldTimes(task, phases, rng, stop).blocks()


class _HoldTimes:
    """The state from which an instance draws its next holds."""

    def __init__(self, task: Task, phases: Sequence[PhaseTimes], rng: np.random.Generator, stop: int) -> None:
        self._phases = phases
        self._rng = rng
        self._stop = stop
        self._block = max(1, min(BLOCK_ROWS, TASK_ROWS // task.instances) // (task.pages or 1))
        self._now = int(draw(task.start_distribution, rng, 1)[0])  # the begin of the current phase
        self._fraction = 0.0  # part of a µs by which the last arrival of a `rate` came after its time
        # After a hold of a `gap` phase: the earliest begin of the next hold, and the end of this one.
        self._begin_after = 0
        self._free_at: int | None = None

    def blocks(self) -> Iterator[Arrivals]:
        """Yield the holds of all phases, over and over, until the scenario's end."""
        phases = 0
        for phase in cycle(self._phases):
            if self._now >= self._stop:
                break
            phases += 1
            for begin, end in self._phase(phase):
                yield Arrivals(begin, end, int(begin[-1]), phases)
                phases = 0
            if phases >= QUIET_PHASES and self._now < self._stop:
                yield Arrivals(NONE, NONE, self._now, phases)
                phases = 0
        yield Arrivals(NONE, NONE, FOREVER, 0)

    def _phase(self, phase: PhaseTimes) -> Iterator[tuple[Int64s, Int64s]]:
        end = self._stop
        if phase.lasts is not None:
            # At least 1 µs, or phases drawn as 0 would repeat for ever at one moment.
            end = min(self._stop, self._now + max(1, int(draw(phase.lasts, self._rng, 1)[0])))
        left = phase.repeat if phase.repeat is not None else NO_LIMIT
        if phase.every is not None:
            yield from self._grid(phase, phase.every, end, left)
        elif phase.gap is not None:
            yield from self._gaps(phase, phase.gap, end, left)
        elif phase.mean_wait is not None:
            yield from self._poisson(phase, phase.mean_wait, end, left)
        if phase.lasts is not None:
            self._now, self._fraction = end, 0.0

    def _sizes(self) -> Iterator[int]:
        """Yield the number of holds in each block of a phase."""
        size = FIRST_BLOCK
        while True:
            yield min(size, self._block)
            size = min(2 * size, self._block)

    def _ends(self, phase: PhaseTimes, begin: Int64s) -> Int64s:
        if phase.hold is None:
            return np.full(len(begin), FOREVER, dtype=np.int64)
        return begin + draw(phase.hold, self._rng, len(begin))

    def _grid(self, phase: PhaseTimes, every: int, end: int, left: int) -> Iterator[tuple[Int64s, Int64s]]:
        start = self._now
        total = min(left, -(-(end - start) // every))
        first = 0
        for size in self._sizes():
            if first >= total:
                break
            begin = start + every * np.arange(first, min(first + size, total), dtype=np.int64)
            first += size
            yield begin, self._ends(phase, begin)
        self._now = start + every * total

    def _gaps(self, phase: PhaseTimes, gap: TimeDistribution, end: int, left: int) -> Iterator[tuple[Int64s, Int64s]]:
        begin_next = self._now
        if self._free_at is not None:
            begin_next = max(begin_next, self._begin_after, self._free_at + int(draw(gap, self._rng, 1)[0]))
        for size in self._sizes():
            if left <= 0 or begin_next >= end:
                break
            n = min(left, size)
            hold = np.zeros(n, dtype=np.int64) if phase.hold is None else draw(phase.hold, self._rng, n)
            # At least 1 µs, or a hold and a gap drawn as 0 would repeat for ever at one moment.
            steps = np.maximum(1, hold + draw(gap, self._rng, n))
            begin = begin_next + np.concatenate(([0], np.cumsum(steps)))
            begin_next, begin = int(begin[-1]), begin[:-1]
            kept = begin < end
            begin, hold = begin[kept], hold[kept]
            left -= len(begin)
            self._begin_after = int(begin[-1]) + 1
            self._free_at = self._now = int(begin[-1] + hold[-1])
            yield begin, begin + hold if phase.hold is not None else self._ends(phase, begin)
        if left > 0:
            self._now = end  # the end cut it off before its last hold

    def _poisson(self, phase: PhaseTimes, wait: float, end: int, left: int) -> Iterator[tuple[Int64s, Int64s]]:
        at = self._now
        for size in self._sizes():
            if left <= 0 or at >= end:
                break
            # Round the sums down. If each wait were rounded by itself, short waits would be too short on average.
            passed = self._rng.exponential(wait, min(left, size)).cumsum()
            passed += self._fraction
            begin = passed.astype(np.int64)
            begin += at
            at, self._fraction = int(begin[-1]), float(passed[-1]) % 1
            del passed  # not kept until the next block
            if at >= end:
                begin = begin[: begin.searchsorted(end)]
            left -= len(begin)
            if len(begin):
                yield begin, self._ends(phase, begin)
        self._now = at
