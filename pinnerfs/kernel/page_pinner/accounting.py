"""The accounting of page_pinner for a batch of events at once, with the result of one event after the other.

Imitates `__set_page_pinner` and `__reset_page_pinner` of early android12-5.10. A frame's mark is the handle of its last
pin, or 0 once it has been released or freed.
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
Int32s = npt.NDArray[np.int32]
Records = npt.NDArray[np.void]


def account(state: PinnerState, memory: MemoryMap, batch: EventBatch, threshold: int, counters: Counters) -> Records:
    """Update the state by a batch, which is not empty, and return the records (dtype RECORD) in order of release."""
    segments = Segments.of(batch.pfn - memory.base_pfn, batch.frames(), memory, state)
    was, was_ts = state.attribution.take(segments.frame), state.ts.take(segments.frame)
    was_count = state.count.take(segments.frame)
    if len(batch) > 1 and _may_overflow(was, was_count, len(batch)):
        rows = (batch[row : row + 1] for row in range(len(batch)))
        return np.concatenate([account(state, memory, row, threshold, counters) for row in rows])

    kind, time = batch.kind.take(segments.row), batch.time.take(segments.row)
    handle = batch.handle.take(segments.row)
    pins, frees, puts = IS_PIN.take(kind), kind == Event.free, kind == Event.put_page
    left, left_ts = _marks_left(segments, handle * pins, time, puts, was, was_ts)
    mark, since = _marks_found(segments, left, left_ts, was, was_ts)
    marked = mark > 0
    released = marked & IS_RELEASE.take(kind)
    counts = _Counts.of(segments, was_count, pins, released, frees)

    frames = segments.width_by_touch()

    def count(counter: Counter, touches: Int64s, handles: Int32s) -> None:
        counters.add(counter, handles.take(touches), None if frames is None else frames.take(touches))

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
    segment = segments.of_touch(ends).take(in_order)
    ends, elapsed = ends.take(in_order), elapsed.take(in_order)
    records = _records(memory, batch, segments, ends, segment)
    width = segments.width.take(segment)
    records["elapsed"] = np.repeat(elapsed, width)
    records["handle"] = np.repeat(mark.take(ends), width)
    records["count"] = np.repeat(counts.left_by(ends, segment) - counts.step.take(ends), width)

    end = segments.end
    last_pin = np.maximum.accumulate(np.arange(1, len(pins) + 1, dtype=np.int32) * pins).take(end) - 1
    repinned = last_pin >= segments.begin
    last_handle = np.where(repinned, handle.take(last_pin), np.abs(was))
    is_marked = left.take(end) > 0
    segments.fill(state.attribution, np.where(is_marked, last_handle, -last_handle))
    segments.fill(state.ts, np.where(repinned, time.take(last_pin), was_ts))
    segments.fill(state.count, counts.left_by(end, slice(None)))
    for area in memory.cma:
        part = slice(*np.searchsorted(segments.frame, area))
        change = is_marked[part].view(np.int8) - (was[part] > 0).view(np.int8)
        counters.pinned_now_in_cma += int((change * segments.width[part]).sum())
    return records


def _may_overflow(was: Int32s, was_count: Int32s, events: int) -> bool:
    """Tell whether a count may overflow in these events, or did before.

    Then a release may leave the count as it is, so that what an event does to it depends on the one before.
    """
    overflowed = was_count.min() < 0 or ((was > 0) & (was_count == 0)).any()
    return bool(overflowed or was_count.max() > MAX_INT - events)


def _marks_left(
    segments: Segments, set_by: Int32s, time: Int64s, puts: Bools, was: Int32s, was_ts: Int64s
) -> tuple[Int32s, Int64s]:
    """Return the mark that each touch leaves, and its time: a pin's own, none, or with put_page the one it found."""
    if not puts.any():
        return set_by, time
    left, left_ts = set_by.copy(), time.copy()
    opening = np.flatnonzero(puts.take(segments.begin))
    at = segments.begin.take(opening)
    left[at], left_ts[at] = np.maximum(was.take(opening), 0), was_ts.take(opening)
    known = ~puts
    known[segments.begin] = True
    source = np.maximum.accumulate(np.where(known, np.arange(len(puts)), 0))
    return left.take(source), left_ts.take(source)


def _marks_found(
    segments: Segments, left: Int32s, left_ts: Int64s, was: Int32s, was_ts: Int64s
) -> tuple[Int32s, Int64s]:
    """Return the mark that each touch finds, and its time: what the touch before has left, or the state."""
    mark, since = np.empty_like(left), np.empty_like(left_ts)
    mark[1:], since[1:] = left[:-1], left_ts[:-1]
    mark[segments.begin], since[segments.begin] = np.maximum(was, 0), was_ts
    return mark, since


class _Counts(NamedTuple):
    """The count of a segment's frames after each touch."""

    step: npt.NDArray[np.int8]  # what each touch adds
    total: Int64s  # sum of the steps up to each touch
    base: Int64s  # `total` minus the count, for each segment
    begin: Int64s  # first touch of each segment
    frees: Int64s  # touches that set the count to 0

    @classmethod
    def of(cls, segments: Segments, was: Int32s, pins: Bools, released: Bools, frees: Bools) -> _Counts:
        """Return the counts of segments whose count was `was` before the batch."""
        # As `atomic_dec_if_positive`: only a count above 0 falls. If several events touch a frame, it is above 0.
        falls = released & (was > 0) if len(released) == len(was) else released
        step = pins.view(np.int8) - falls.view(np.int8)
        total = np.cumsum(step, dtype=np.int64)
        base = total.take(segments.begin) - step.take(segments.begin) - was
        return cls(step, total, base, segments.begin, np.flatnonzero(frees))

    def left_by(self, touches: Int64s, segment: Int64s | slice) -> Int64s:
        """Return the count after each of these touches of these segments."""
        base = self.base[segment]
        if len(self.frees):
            last = np.searchsorted(self.frees, touches, side="right") - 1
            freed = np.where(last >= 0, self.frees.take(last), -1)
            base = np.where(freed >= self.begin[segment], self.total.take(freed), base)
        return self.total.take(touches) - base


def _records(memory: MemoryMap, batch: EventBatch, segments: Segments, touches: Int64s, segment: Int64s) -> Records:
    """Return a record for each frame of these touches, with what it says about the page."""
    row, width = segments.row.take(touches), segments.width.take(segment)
    first = np.repeat(batch.pfn.take(row), width)
    order = np.repeat(batch.order.take(row), width).astype(np.int64)
    frame = memory.base_pfn + concatenated_ranges(segments.frame.take(segment), width)
    # Every frame of a compound page has its head's PFN and flags.
    pfn = first + (frame - first >> order << order)
    records = np.empty(len(pfn), dtype=RECORD)
    records["pfn"] = pfn
    records["flags"] = memory.flags_of(pfn) | np.where(order > 0, PAGE_HEAD, 0).astype(np.uint64)
    records["migratetype"] = memory.migratetype_of(pfn)
    return records
