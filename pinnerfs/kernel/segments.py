"""The frames of a batch, grouped into segments: neighbouring frames that see the same events and share one state.

Drivers pin buffers of hundreds of pages. The accounting handles a whole segment at the cost of a single frame.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.order import stable_order
from pinnerfs.kernel.pages import FrameState, FrameValues, Int64s, MemoryMap, concatenated_ranges

__all__ = ["Carry", "Segments"]

_Item = TypeVar("_Item", bound=np.generic)


class Segments(NamedTuple):
    """Segments in ascending order, and their touches: one touch for each segment that an event touches.

    Touches are sorted by segment, and within a segment by time. Frames are counted from the base PFN.
    """

    frame: Int64s  # first frame of each segment
    width: Int64s  # frames of each segment
    begin: Int64s  # first touch of each segment
    end: Int64s  # last touch of each segment
    row: Int64s  # row of the batch of each touch
    rank: Int64s  # place of each touch in the order of events
    frames: Int64s  # every frame of every segment
    kept: FrameValues  # what is kept about the frames of each segment

    @classmethod
    def of(cls, first: Int64s, size: Int64s, memory: MemoryMap, state: FrameState) -> Segments:
        """Return the segments of events that touch `size` frames each, from `first` on.

        No segment crosses the border of a region.
        """
        by_frame = stable_order(first)
        start = first.take(by_frame)
        if len(size) == size.sum():  # single frames, the most frequent case
            begin = np.flatnonzero(_changes(start))
            frame = start.take(begin)
            end, kept = _ends(begin, len(first)), state.rows(frame).values()
            return cls(frame, np.ones_like(frame), begin, end, by_frame, by_frame, frame, kept)

        stop = start + size.take(by_frame)
        frames, at = _union(start, stop)
        to = at + (stop - start)
        cut = np.zeros(len(frames) + 1, dtype=np.bool_)
        cut[at], cut[to] = True, True
        cut[np.searchsorted(frames, memory.borders)] = True
        rows = state.rows(frames)
        for words in rows.words():
            cut[:-1] |= _changes(words)
        begins = np.flatnonzero(cut[:-1])
        width = np.diff(begins, append=len(frames))

        # Every range begins and ends at a cut.
        number = np.empty(len(cut), dtype=np.int64)
        number[begins], number[len(frames)] = np.arange(len(begins)), len(begins)
        low = number.take(at)
        touches = number.take(to) - low
        if len(low) == touches.sum():
            segment, row, rank = low, by_frame, by_frame
        else:
            low[by_frame], touches[by_frame] = low.copy(), touches.copy()  # in the order of events
            segment = concatenated_ranges(low, touches)
            rank = stable_order(segment)
            segment = segment.take(rank)
            row = np.repeat(np.arange(len(first)), touches).take(rank)
        begin = np.flatnonzero(_changes(segment))
        kept = rows.take(begins).values()
        return cls(frames.take(begins), width, begin, _ends(begin, len(row)), row, rank, frames, kept)

    def of_touch(self, touch: Int64s) -> Int64s:
        """Return the segment of each of these touches."""
        return np.searchsorted(self.begin, touch, side="right") - 1

    def width_by_touch(self) -> Int64s | None:
        """Return the width of each touch's segment, or None where all are single frames."""
        return None if len(self.frame) == len(self.frames) else np.repeat(self.width, self.lengths())

    def lengths(self) -> Int64s:
        """Return the number of touches of each segment."""
        return self.end - self.begin + 1

    def before(self, left: npt.NDArray[_Item], start: npt.NDArray[Any]) -> npt.NDArray[_Item]:
        """Return what each touch finds, from what each touch leaves and what each segment starts with."""
        found = np.empty_like(left)
        found[1:] = left[:-1]
        found[self.begin] = start
        return found

    def carry(self, known: npt.NDArray[np.bool_]) -> Carry:
        """Return a way to fill in values that only some touches set."""
        if known.all():
            return Carry(self, None)
        sources = known.copy()
        sources[self.begin] = True
        places = np.maximum.accumulate(np.where(sources, np.arange(len(sources)), 0))
        return Carry(self, places, np.flatnonzero(~known.take(self.begin)))


class Carry(NamedTuple):
    """What touches leave where only some of them set a value: the others leave what they find."""

    segments: Segments
    source: Int64s | None  # the touch whose value each touch leaves; None if every touch sets its own
    opening: Int64s = np.empty(0, dtype=np.int64)  # segments whose first touch sets none

    def left(self, values: npt.NDArray[_Item], start: npt.NDArray[Any]) -> npt.NDArray[_Item]:
        """Return the value that each touch leaves. `start` has what each segment starts with."""
        if self.source is None:
            return values
        left = values.copy()
        left[self.segments.begin.take(self.opening)] = start.take(self.opening)
        return left.take(self.source)


def _changes(values: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """Tell which values differ from the one before; the first one does."""
    changed = np.empty(len(values), dtype=np.bool_)
    changed[:1] = True
    np.not_equal(values[1:], values[:-1], out=changed[1:])
    return changed


def _ends(begin: Int64s, total: int) -> Int64s:
    return np.append(begin[1:], total) - 1


def _union(start: Int64s, stop: Int64s) -> tuple[Int64s, Int64s]:
    """Return all frames of ranges sorted by start, each frame once, and the place there of each range's first."""
    reach = np.maximum.accumulate(stop)
    apart = np.empty(len(start), dtype=np.bool_)
    apart[0] = True
    np.greater(start[1:], reach[:-1], out=apart[1:])
    # An island is a set of ranges without a gap between them.
    begin = np.flatnonzero(apart)
    island = start.take(begin)
    length = reach.take(_ends(begin, len(start))) - island
    gap = island - (np.cumsum(length) - length)
    return concatenated_ranges(island, length), start - gap.take(np.cumsum(apart) - 1)
