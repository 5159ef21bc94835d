"""A batch of events brought into the books frame by frame, all frames at once, with the result of one by one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.events import IS_PIN, Event, EventBatch
from pinnerfs.kernel.order import stable_order
from pinnerfs.kernel.page_pinner.outcome import Outcome, records_of
from pinnerfs.kernel.page_pinner.runs import apply_runs
from pinnerfs.kernel.pages import Int64s, MemoryMap, PinnerState

__all__ = ["apply_frames"]

MAX_INT = (1 << 31) - 1

Bools = npt.NDArray[np.bool_]


class _Frames(NamedTuple):
    """A batch spread over single frames and sorted by frame, each frame's events in the order they happened."""

    order: Int64s  # place of each row in the order in which things happened
    row: Int64s  # the row of the batch that it comes from
    frame: Int64s  # index from the base PFN
    begin: Int64s  # the rows here at which a frame begins
    end: Int64s  # and those at which it ends


def apply_frames(state: PinnerState, memory: MemoryMap, batch: EventBatch, threshold: int) -> Outcome:
    """Imitates `__set_page_pinner` and `__reset_page_pinner` for every event of a batch, which is not empty."""
    frames = _spread(batch, memory)
    begin, end = frames.begin, frames.end
    frame = frames.frame.take(begin)  # the frames touched, each once
    was, was_ts, was_count = state.attribution.take(frame), state.ts.take(frame), state.count.take(frame)
    if was_count.min() < 0 or was_count.max() > MAX_INT - len(frames.row):
        return apply_runs(state, memory, batch, threshold)  # knows what an int does at its end

    kind, time = batch.kind.take(frames.row), batch.time.take(frames.row)
    pins, frees = IS_PIN.take(kind), kind == Event.free
    # Whether a frame is pinned when an event finds it, and since when, is what its event before has left, or the state:
    # only a pin leaves it pinned.
    pinned, since = np.empty_like(pins), np.empty_like(time)
    pinned[1:], since[1:] = pins[:-1], time[:-1]
    pinned[begin], since[begin] = was > 0, was_ts
    released = pinned & ~pins & ~frees
    counts = _Counts.of(frames, was_count, pins, released, frees)

    ended = np.flatnonzero(released)
    elapsed = np.maximum(time.take(ended) - since.take(ended), 0)
    long = np.flatnonzero(elapsed > threshold)
    long = long[stable_order(frames.order.take(ended.take(long)))]
    ended, elapsed = ended.take(long), elapsed.take(long)
    group = np.searchsorted(begin, ended, side="right") - 1
    stack = np.where(begin.take(group) == ended, was.take(group), batch.handle.take(frames.row.take(ended - 1)))
    rows = frames.row.take(ended)
    count = counts.after(ended, group) + 1
    records = records_of(memory, batch, rows, frames.frame.take(ended), elapsed, stack, count)

    # Of each frame the last pin, if there is one.
    last_pin = np.maximum.accumulate(np.where(pins, np.arange(len(pins)), -1)).take(end)
    repinned = last_pin >= begin
    handle = np.where(repinned, batch.handle.take(frames.row.take(last_pin)), np.abs(was))
    left_pinned = pins.take(end)
    state.attribution[frame] = np.where(left_pinned, handle, -handle)
    state.ts[frame] = np.where(repinned, time.take(last_pin), was_ts)
    state.count[frame] = counts.after(end, np.arange(len(end)))
    change = left_pinned.view(np.int8) - (was > 0).view(np.int8)
    # The frames touched are in ascending order, and so a range of them is a slice.
    cma = (slice(*np.searchsorted(frame, one)) for one in memory.cma)
    return Outcome(records, rows, int(change.sum()), sum(int(change[part].sum()) for part in cma))


def _spread(batch: EventBatch, memory: MemoryMap) -> _Frames:
    first = batch.pfn - memory.base_pfn
    sizes = batch.frames()
    if len(sizes) == sizes.sum():
        order = row = stable_order(first)
        frame = first.take(order)
    else:
        spread = np.repeat(np.arange(len(batch)), sizes)
        touched = first[spread] + np.arange(len(spread)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        order = stable_order(touched)
        row, frame = spread.take(order), touched.take(order)
    new = np.empty(len(frame), dtype=np.bool_)
    new[0] = True
    np.not_equal(frame[1:], frame[:-1], out=new[1:])
    begin = np.flatnonzero(new)
    return _Frames(order, row, frame, begin, np.append(begin[1:], len(frame)) - 1)


class _Counts(NamedTuple):
    """The count that each event leaves. Below 0 it cannot fall: a release that counts has a pin before it."""

    total: Int64s  # of all rows, up to each
    begin: Int64s  # the row at which each frame begins
    base: Int64s  # what the total is ahead of a frame's count from there on
    freed: Int64s  # the rows at which counting starts anew, from 0

    @classmethod
    def of(cls, frames: _Frames, start: npt.NDArray[np.int32], pins: Bools, released: Bools, frees: Bools) -> _Counts:
        step = pins.view(np.int8) - released.view(np.int8)
        total = np.cumsum(step, dtype=np.int64)
        base = total.take(frames.begin) - step.take(frames.begin) - start
        return cls(total, frames.begin, base, np.flatnonzero(frees))

    def after(self, rows: Int64s, group: Int64s) -> Int64s:
        """The count that these rows leave, of which `group` says the frames, by their number among those touched."""
        base = self.base.take(group)
        if len(self.freed):
            last = np.searchsorted(self.freed, rows, side="right") - 1
            freed = np.where(last >= 0, self.freed.take(last), -1)
            base = np.where(freed >= self.begin.take(group), self.total.take(freed), base)
        return self.total.take(rows) - base
