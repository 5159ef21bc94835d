"""Numbers that go up and down from touch to touch and stay above a floor, for all pages of a batch at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.pages import Int64s
from pinnerfs.kernel.segments import Segments

__all__ = ["Walks"]

APART = 1 << 40  # more than the references of a page can rise or fall in a batch


class Walks(NamedTuple):
    """Stretches of touches in which a number goes up and down: segments, cut after each free."""

    begin: Int64s
    number: Int64s  # of each touch: its stretch
    segment: Int64s  # places of the stretches that start segments

    @classmethod
    def of(cls, segments: Segments, after_free: Int64s) -> Walks:
        """Return the stretches of all segments."""
        opens = np.zeros(len(segments.row), dtype=np.int64)
        opens[segments.begin] = 1
        opens[after_free] = 1
        number = np.cumsum(opens) - 1
        return cls(np.flatnonzero(opens), number, number.take(segments.begin))

    def walk(self, step: Int64s, least: Int64s, start: npt.NDArray[np.generic]) -> Int64s:
        """Return the number after each touch: max(number before + step, least). After a free it starts from 0."""
        starts = np.zeros_like(self.begin)
        starts[self.segment] = start
        total = np.cumsum(step)
        base = total.take(self.begin) - step.take(self.begin) - starts
        number = total - base.take(self.number)
        # What is missing up to a touch is the largest shortfall so far: a running maximum, apart for each stretch.
        apart = self.number * APART
        missing = np.maximum.accumulate(least - number + apart) - apart
        return number + np.maximum(missing, 0)
