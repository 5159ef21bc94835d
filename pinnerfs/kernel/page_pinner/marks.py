"""The mark GET through a batch: imitates the PAGE_EXT_GET bit of mm/page_pinner.c."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.calls import Event
from pinnerfs.kernel.page_pinner.generations import Generation
from pinnerfs.kernel.pages import FrameValues, Int64s
from pinnerfs.kernel.segments import Segments

__all__ = ["Marks"]

Bools = npt.NDArray[np.bool_]
Int32s = npt.NDArray[np.int32]


class Marks:
    """The mark GET that each touch finds.

    pins, releases: the touches that set and clear it. freed: those that free the page.
    found: the handle of the pin that set the mark, or 0 without a mark. since: its time, where there is a mark.
    released: the releases that find a mark. ended: the frees that find a mark which their own release did not clear.
    """

    def __init__(
        self,
        generation: Generation,
        kept: FrameValues,
        segments: Segments,
        kind: npt.NDArray[np.uint8],
        handle: Int32s,
        time: Int64s,
        freed: Bools,
    ) -> None:
        self._segments, self._handle, self._time = segments, handle, time
        self._was, self._was_ts = kept.attribution, kept.ts
        self.pins = _table(generation.pins).take(kind)
        self.releases = _table(generation.releases).take(kind)
        self.freed = freed
        at_start = np.maximum(self._was, 0)
        carry = segments.carry(self.pins | self.releases | freed)
        self._left = carry.left(handle * self.pins, at_start)
        self.found = segments.before(self._left, at_start)
        self.since = segments.before(carry.left(time, self._was_ts), self._was_ts)
        self.marked = self.found > 0
        self.released = self.marked & self.releases
        self.ended = self.marked & freed & ~self.released
        self._forgets = generation.release_clears_ts or generation.free_clears_ts

    def change_in(self, first: int, end: int) -> int:
        """Return how many more frames from `first` up to `end` carry the mark after the batch."""
        segments = self._segments
        part = slice(*np.searchsorted(segments.frame, (first, end)))
        marked = self._left.take(segments.end[part]) > 0
        change = marked.view(np.int8) - (self._was[part] > 0).view(np.int8)
        return int((change * segments.width[part]).sum())

    def handles(self) -> Int32s:
        """Return the handle of the last pin before each touch, or 0 if there was none, with or without a mark."""
        was = np.abs(self._was)
        return self._segments.before(self._segments.carry(self.pins).left(self._handle, was), was)

    def times(self, cleared: Bools) -> Int64s:
        """Return the time that each touch leaves, if it is that of the last pin, and 0 after the touches `cleared`."""
        return self._segments.carry(self.pins | cleared).left(self._time * self.pins, self._was_ts)

    def leave(self, kept: FrameValues) -> None:
        """Replace what each segment keeps by what the batch leaves."""
        segments = self._segments
        last_pin = np.maximum.accumulate(np.arange(1, len(self.pins) + 1, dtype=np.int32) * self.pins)
        last_pin = last_pin.take(segments.end) - 1
        repinned = last_pin >= segments.begin
        handle = np.where(repinned, self._handle.take(last_pin), np.abs(self._was))
        marked = self._left.take(segments.end) > 0
        ts = np.where(repinned, self._time.take(last_pin), self._was_ts)
        kept.attribution = np.where(marked, handle, -handle)
        kept.ts = ts * marked if self._forgets else ts


@cache
def _table(kinds: frozenset[Event]) -> Bools:
    return np.array([kind in kinds for kind in Event])
