"""The accounting of page_pinner for a batch of events at once, with the result of one event after the other.

Imitates `__set_page_pinner` and `__reset_page_pinner` of early android12-5.10.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.events import IS_PIN, IS_RELEASE, Event, EventBatch
from pinnerfs.kernel.order import stable_order
from pinnerfs.kernel.page_pinner.counters import Counter, Counters
from pinnerfs.kernel.page_pinner.ring import RECORD
from pinnerfs.kernel.page_pinner.segments import Segments
from pinnerfs.kernel.pageflags import PAGE_HEAD
from pinnerfs.kernel.pages import Int64s, MemoryMap, PinnerState, concatenated_ranges

__all__ = ["account"]

MAX_INT = (1 << 31) - 1

Bools = npt.NDArray[np.bool_]
Records = npt.NDArray[np.void]


def account(
    state: PinnerState, memory: MemoryMap, batch: EventBatch, threshold: int, counters: Counters
) -> Records:
    """Update the state by a batch, which is not empty, and return the records (dtype RECORD) in order of release."""
    segments = Segments.of(batch.pfn - memory.base_pfn, batch.frames(), memory, state)
    begin, end, width = segments.begin, segments.end, segments.width
    was, was_ts, was_count = (kept.take(segments.frame) for kept in (state.attribution, state.ts, state.count))
    if len(batch) > 1 and (was_count.min() < 0 or was_count.max() > MAX_INT - len(batch)):
        # A count that overflows, as an int does, or has done so, needs one event after the other.
        rows = (batch[row : row + 1] for row in range(len(batch)))
        return np.concatenate([account(state, memory, row, threshold, counters) for row in rows])

    kind, time, handle = (column.take(segments.row) for column in (batch.kind, batch.time, batch.handle))
    pins, frees, puts = IS_PIN.take(kind), kind == Event.free, kind == Event.put_page
    was_mark = np.maximum(was, 0)
    # The mark that each touch leaves: only a pin sets one, and only put_page leaves the one that it finds.
    left, left_ts = handle * pins, time
    if puts.any():
        opens = np.flatnonzero(puts.take(begin))
        left_ts = time.copy()
        left[begin.take(opens)], left_ts[begin.take(opens)] = was_mark.take(opens), was_ts.take(opens)
        leaves = ~puts
        leaves[begin] = True
        source = np.maximum.accumulate(np.where(leaves, np.arange(len(puts)), 0))
        left, left_ts = left.take(source), left_ts.take(source)
    # The mark that it finds is the one that the touch before has left.
    mark, since = np.empty_like(left), np.empty_like(left_ts)
    mark[1:], since[1:] = left[:-1], left_ts[:-1]
    mark[begin], since[begin] = was_mark, was_ts
    marked = mark > 0
    released = marked & IS_RELEASE.take(kind)
    counts = _Counts.of(segments, was_count, pins, released, frees)

    def count(counter: Counter, touches: Int64s, handles: npt.NDArray[np.int32]) -> None:
        counters.add(counter, handles.take(touches), width.take(segments.of_touch(touches)))

    ends = np.flatnonzero(released)
    elapsed = np.maximum(time.take(ends) - since.take(ends), 0)
    long = elapsed > threshold
    count(Counter.below_threshold, ends[~long], mark)
    count(Counter.marks_overwritten, np.flatnonzero(marked & pins), mark)
    count(Counter.marks_freed, np.flatnonzero(marked & frees), mark)
    count(Counter.put_page_without_mark, np.flatnonzero(puts & ~marked), handle)
    ends, elapsed = ends[long], elapsed[long]
    count(Counter.longterm_records, ends, mark)
    in_order = stable_order(segments.rank.take(ends))
    ends, elapsed = ends.take(in_order), elapsed.take(in_order)
    records = _records(memory, batch, segments, ends, elapsed, mark.take(ends), counts.found_by(ends))

    last_pin = np.maximum.accumulate(np.where(pins, np.arange(len(pins)), -1)).take(end)
    repinned = last_pin >= begin
    last_handle = np.where(repinned, handle.take(last_pin), np.abs(was))
    is_marked = left.take(end) > 0
    segments.fill(state.attribution, np.where(is_marked, last_handle, -last_handle))
    segments.fill(state.ts, np.where(repinned, time.take(last_pin), was_ts))
    segments.fill(state.count, counts.left_by(end))
    change = (is_marked.view(np.int8) - (was > 0).view(np.int8)) * width
    for area in memory.cma:
        counters.pinned_now_in_cma += int(change[slice(*np.searchsorted(segments.frame, area))].sum())
    return records


class _Counts(NamedTuple):
    """The count of the frames before and after each touch."""

    segments: Segments
    step: npt.NDArray[np.int8]  # what each touch adds
    total: Int64s  # of all touches up to each
    base: Int64s  # what the total is ahead of the count, for each segment
    freed: Int64s  # the touches after which the count starts anew at 0

    @classmethod
    def of(
        cls, segments: Segments, start: npt.NDArray[np.int32], pins: Bools, released: Bools, frees: Bools
    ) -> _Counts:
        # As `atomic_dec_if_positive`: only a count above 0 falls. Between events of one batch it always is.
        falls = released.copy()
        falls[segments.begin] &= start > 0
        step = pins.view(np.int8) - falls.view(np.int8)
        total = np.cumsum(step, dtype=np.int64)
        base = total.take(segments.begin) - step.take(segments.begin) - start
        return cls(segments, step, total, base, np.flatnonzero(frees))

    def left_by(self, touches: Int64s) -> Int64s:
        """Return the count after each of these touches."""
        segment = self.segments.of_touch(touches)
        base = self.base.take(segment)
        if len(self.freed):
            last = np.searchsorted(self.freed, touches, side="right") - 1
            freed = np.where(last >= 0, self.freed.take(last), -1)
            base = np.where(freed >= self.segments.begin.take(segment), self.total.take(freed), base)
        return self.total.take(touches) - base

    def found_by(self, touches: Int64s) -> Int64s:
        """Return the count before each of these touches, none of which frees the frame."""
        return self.left_by(touches) - self.step.take(touches)


def _records(
    memory: MemoryMap,
    batch: EventBatch,
    segments: Segments,
    touches: Int64s,
    elapsed: Int64s,
    handle: npt.NDArray[np.int32],
    count: Int64s,
) -> Records:
    """Return a record for each frame that these touches release."""
    segment, row = segments.of_touch(touches), segments.row.take(touches)
    width = segments.width.take(segment)
    # Every frame of a compound page has its head's PFN and flags.
    first, order = np.repeat(batch.pfn.take(row), width), np.repeat(batch.order.take(row), width).astype(np.int64)
    pfn = memory.base_pfn + concatenated_ranges(segments.frame.take(segment), width)
    pfn = first + (pfn - first >> order << order)
    records = np.empty(len(pfn), dtype=RECORD)
    records["elapsed"] = np.repeat(elapsed, width)
    records["handle"] = np.repeat(handle, width)
    records["count"] = np.repeat(count, width)
    records["pfn"] = pfn
    records["flags"] = memory.flags_of(pfn) | np.where(order > 0, PAGE_HEAD, 0).astype(np.uint64)
    records["migratetype"] = memory.migratetype_of(pfn)
    return records
