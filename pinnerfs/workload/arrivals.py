"""Which block of holds an instance draws next. `blocks.py` draws the blocks of many instances at once.

The size of a block depends on the scenario alone. So the draws are the same for every way to advance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import NamedTuple

import numpy as np

from pinnerfs.scenario.distributions import TimeDistribution
from pinnerfs.scenario.phases import Phase
from pinnerfs.scenario.quantities import parse_rate, parse_time
from pinnerfs.scenario.schema import Task
from pinnerfs.workload.draws import draw
from pinnerfs.workload.tasks import FOREVER

__all__ = ["NO_LIMIT", "QUIET_PHASES", "Arrivals", "PhaseTimes", "largest_block"]

# The first block of a phase is small and each later one is twice as large: a short phase then wastes few draws.
FIRST_BLOCK = 16  # holds
# A block is large enough for numpy to pay off, and small enough to bound the memory: every instance keeps one block.
BLOCK_ROWS = 8192  # holds times pages
TASK_ROWS = 1 << 20  # of all instances of a task together

NO_LIMIT = 1 << 62  # holds of a phase without `repeat`

# After this many phases without an arrival comes a block without holds.
QUIET_PHASES = 16


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


def largest_block(task: Task) -> int:
    """Return the most holds in a block."""
    return max(1, min(BLOCK_ROWS, TASK_ROWS // task.instances) // (task.pages or 1))


class Arrivals:
    """The holds of one instance, a block at a time. None begins at `stop` (µs) or later.

    `blocks` tells which block to draw next:

    phase: the number of its phase. size: the number of holds to draw, or 0 for none. end: no hold of the phase begins
    at this moment (µs) or later. phases: the number of phases that began since the block before.
    at: the begin of the first hold to draw, or with a `rate`, of the last hold that was drawn. fraction: the part of a
    µs by which that hold came later.

    `draw_blocks` draws it, and sets what `blocks` needs for the next one: `at` and `fraction`, and

    count: the number of holds drawn that begin before `end`. reached: no later block has a hold that begins before this
    moment. last, free_at: the begin and the end of the last hold of a phase with `gap`.
    """

    __slots__ = (
        "_most",
        "_now",
        "_phases",
        "_stop",
        "at",
        "count",
        "end",
        "fraction",
        "free_at",
        "instance",
        "last",
        "phase",
        "phases",
        "reached",
        "rng",
        "size",
    )

    def __init__(
        self, task: Task, phases: Sequence[PhaseTimes], instance: int, rng: np.random.Generator, start: int, stop: int
    ) -> None:
        self.instance = instance
        self.rng = rng
        self._phases = phases
        self._stop = stop
        self._most = largest_block(task)
        self._now = start  # the begin of the current phase
        self.phase = self.phases = self.at = self.size = self.end = self.count = self.reached = self.last = 0
        self.fraction = 0.0
        self.free_at: int | None = None

    def blocks(self) -> Iterator[Arrivals]:
        """Yield this object for each block of all phases, over and over, until the scenario's end.

        It must be drawn before the next one is asked for, unless its size is 0. The last one has no holds and reaches
        FOREVER.
        """
        for number, phase in cycle(enumerate(self._phases)):
            if self._now >= self._stop:
                break
            self.phase = number
            self.phases += 1
            for _ in self._phase(phase):
                yield self
                self.phases = 0
            if self.phases >= QUIET_PHASES and self._now < self._stop:
                self.size, self.reached = 0, self._now
                yield self
                self.phases = 0
        self.size, self.reached = 0, FOREVER
        yield self

    def _phase(self, phase: PhaseTimes) -> Iterator[None]:
        self.at, self.end = self._now, self._stop
        if phase.lasts is not None:
            # At least 1 µs, or phases drawn as 0 would repeat for ever at one moment.
            self.end = min(self._stop, self._now + max(1, int(draw(phase.lasts, self.rng, 1)[0])))
        left = NO_LIMIT if phase.repeat is None else phase.repeat
        if phase.every is not None:
            left = min(left, -(-(self.end - self.at) // phase.every))
        elif phase.gap is not None and self.free_at is not None:
            self.at = max(self.at, self.last + 1, self.free_at + int(draw(phase.gap, self.rng, 1)[0]))
        elif phase.gap is None and phase.mean_wait is None:
            left = 0  # a pause
        size = FIRST_BLOCK
        while left > 0 and self.at < self.end:
            self.size = min(left, size, self._most)
            yield
            left -= self.count
            size *= 2
        if phase.lasts is not None:
            self._now, self.fraction = self.end, 0.0
        elif phase.gap is None:
            self._now = self.at
        elif left == 0 and self.free_at is not None:
            self._now = self.free_at
        else:
            self._now = self.end  # the scenario's end cut it off before its last hold
