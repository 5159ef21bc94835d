"""The pin count of the announced feature: imitates the `count` of `struct page_pinner`. No later kernel prints it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.page_pinner.marks import Marks
from pinnerfs.kernel.pages import Int64s
from pinnerfs.kernel.segments import Segments

__all__ = ["PinCounts"]

MAX_INT = (1 << 31) - 1

Int32s = npt.NDArray[np.int32]


class PinCounts(NamedTuple):
    """The pin count of a segment's frames after each touch."""

    was: Int32s  # count of each segment before the batch
    total: Int64s  # sum of the steps up to each touch
    base: Int64s  # `total` minus the count, for each segment
    begin: Int64s  # first touch of each segment
    frees: Int64s  # touches that set the count to 0

    @staticmethod
    def may_overflow(was: Int32s, was_count: Int32s, events: int) -> bool:
        """Tell whether a count may overflow in these events, or did before. `was` is the attribution.

        Then a release may leave the count as it is, so that what an event does to it depends on the one before.
        """
        overflowed = was_count.min() < 0 or ((was > 0) & (was_count == 0)).any()
        return bool(overflowed or was_count.max() > MAX_INT - events)

    @classmethod
    def of(cls, segments: Segments, was: Int32s, marks: Marks) -> PinCounts:
        """Return the counts of segments whose count was `was` before the batch."""
        # As `atomic_dec_if_positive`: only a count above 0 falls. If several events touch a frame, it is above 0.
        released = marks.released
        falls = released & (was > 0) if len(released) == len(was) else released
        step = marks.pins.view(np.int8) - falls.view(np.int8)
        total = np.cumsum(step, dtype=np.int64)
        base = total.take(segments.begin) - step.take(segments.begin) - was
        return cls(was, total, base, segments.begin, np.flatnonzero(marks.freed))

    def left_by(self, touches: Int64s, segment: Int64s | slice) -> Int64s:
        """Return the count after each of these touches of these segments."""
        base = self.base[segment]
        if len(self.frees):
            last = np.searchsorted(self.frees, touches, side="right") - 1
            freed = np.where(last >= 0, self.frees.take(last), -1)
            base = np.where(freed >= self.begin[segment], self.total.take(freed), base)
        return self.total.take(touches) - base

    def found_by(self, touches: Int64s, segment: Int64s) -> Int64s:
        """Return the count before each of these touches of these segments."""
        first = touches == self.begin.take(segment)
        return np.where(first, self.was.take(segment), self.left_by(touches - 1, segment))
