"""The frames of a batch, grouped into segments: neighbouring frames that see the same events and share one state.

Drivers pin buffers of hundreds of pages. The accounting handles a whole segment at the cost of a single frame.

A second way through the accounting, event by event for long buffers, was removed. With segments alone, buffers of 64 to
1024 pages take 13 % less time and single pages 3 % more. An hour of a gallery scenario takes 0.6 to 1.16 times as long
(only `vfio-guest` takes longer: 0.7 ms instead of 0.4 ms).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.order import stable_order
from pinnerfs.kernel.pages import Int64s, MemoryMap, PinnerState, concatenated_ranges

__all__ = ["Segments"]


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

    @classmethod
    def of(cls, first: Int64s, size: Int64s, memory: MemoryMap, state: PinnerState) -> Segments:
        """Return the segments of events that touch `size` frames each, from `first` on.

        No segment crosses the border of a CMA area.
        """
        by_frame = stable_order(first)
        start = first.take(by_frame)
        if len(size) == size.sum():  # single frames, the most frequent case
            begin = np.flatnonzero(_changes(start))
            frame = start.take(begin)
            return cls(frame, np.ones_like(frame), begin, _ends(begin, len(first)), by_frame, by_frame, frame)

        stop = start + size.take(by_frame)
        frames, at = _union(start, stop)
        to = at + (stop - start)
        cut = np.zeros(len(frames) + 1, dtype=np.bool_)
        cut[at], cut[to] = True, True
        cut[np.searchsorted(frames, np.array(memory.cma, dtype=np.int64).ravel())] = True
        for kept in (state.attribution, state.ts, state.count):
            cut[:-1] |= _changes(kept.take(frames))
        begins = np.flatnonzero(cut[:-1])
        width = np.diff(begins, append=len(frames))

        segment_of = np.cumsum(cut[:-1]) - 1
        low = segment_of.take(at)
        touches = segment_of.take(to - 1) + 1 - low
        if len(low) == touches.sum():
            segment, row, rank = low, by_frame, by_frame
        else:
            low[by_frame], touches[by_frame] = low.copy(), touches.copy()  # in the order of events
            segment = concatenated_ranges(low, touches)
            rank = stable_order(segment)
            segment = segment.take(rank)
            row = np.repeat(np.arange(len(first)), touches).take(rank)
        begin = np.flatnonzero(_changes(segment))
        return cls(frames.take(begins), width, begin, _ends(begin, len(row)), row, rank, frames)

    def of_touch(self, touch: Int64s) -> Int64s:
        """Return the segment of each of these touches."""
        return np.searchsorted(self.begin, touch, side="right") - 1

    def width_by_touch(self) -> Int64s | None:
        """Return the width of each touch's segment, or None where all are single frames."""
        return None if len(self.frame) == len(self.frames) else np.repeat(self.width, self.end - self.begin + 1)

    def fill(self, kept: npt.NDArray[np.signedinteger], values: Int64s | npt.NDArray[np.int32]) -> None:
        """Write one value for each segment to all of its frames."""
        kept[self.frames] = values if len(values) == len(self.frames) else np.repeat(values, self.width)


def _changes(values: npt.NDArray[np.signedinteger]) -> npt.NDArray[np.bool_]:
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
