"""A batch of events brought into the books frame by frame, all frames at once, with the result of one by one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.events import IS_PIN, Event, EventBatch
from pinnerfs.kernel.order import stable_order
from pinnerfs.kernel.outcome import Outcome, records_of
from pinnerfs.kernel.pageflags import Migratetype
from pinnerfs.kernel.pages import Int64s, MemoryMap, PinnerState
from pinnerfs.kernel.runs import apply_runs

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
    frame = frames.frame[begin]  # the frames touched, each once
    was, was_ts, was_count = state.attribution.take(frame), state.ts.take(frame), state.count.take(frame)
    if was_count.min() < 0 or was_count.max() > MAX_INT - len(frames.row):
        return apply_runs(state, memory, batch, threshold)  # knows what an int does at its end

    kind, time = batch.kind.take(frames.row), batch.time.take(frames.row)
    pins = IS_PIN.take(kind)
    frees = kind == Event.free
    # Whether a frame is pinned when an event finds it is what its last event left: only a pin leaves it pinned.
    pinned = np.empty_like(pins)
    pinned[1:] = pins[:-1]
    pinned[begin] = was > 0
    released = pinned & ~pins & ~frees

    counts = _Counts.of(frames, was_count, pins, released, frees)
    ended = np.flatnonzero(released)
    # The pin that a release ends: the frame's event just before, or the one that the state remembers.
    since = np.empty_like(time)
    since[1:] = time[:-1]
    since[begin] = was_ts
    elapsed = np.maximum(time[ended] - since[ended], 0)
    long = elapsed > threshold
    ended, elapsed = ended[long], elapsed[long]
    place = frames.order[ended]
    in_time = stable_order(place)
    ended, elapsed, place = ended[in_time], elapsed[in_time], place[in_time]
    row = frames.row[ended]
    group = np.searchsorted(begin, ended, side="right") - 1
    handle = np.where(begin[group] == ended, was[group], batch.handle[frames.row[ended - 1]])
    head = memory.base_pfn + frames.frame[ended]
    order = batch.order[row].astype(np.int64)
    head = batch.pfn[row] + ((head - batch.pfn[row]) >> order << order)
    records = records_of(memory, head, order > 0, elapsed, handle, counts.after(ended) + 1)

    # Of each frame the last pin, if there is one.
    last_pin = np.maximum.accumulate(np.where(pins, np.arange(len(pins)), -1)).take(end)
    repinned = last_pin >= begin
    handle = np.where(repinned, batch.handle.take(frames.row.take(last_pin)), np.abs(was))
    left_pinned = pins.take(end)
    state.attribution[frame] = np.where(left_pinned, handle, -handle)
    state.ts[frame] = np.where(repinned, time.take(last_pin), was_ts)
    state.count[frame] = counts.after(end)
    change = left_pinned.view(np.int8) - (was > 0).view(np.int8)
    # The frames touched are in ascending order, and so a range of them is a slice.
    in_cma = sum(
        int(change[np.searchsorted(frame, start) : np.searchsorted(frame, stop)].sum())
        for start, stop in memory.ranges_of(Migratetype.CMA)
    )
    return Outcome(records, row, int(change.sum()), in_cma)


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
    """The count that each event leaves. Below 0 it cannot fall: a release that counts has a pin before it.

    Counting starts anew at a frame's first event, from what the state holds, and at a free, from 0.
    """

    total: Int64s  # of all rows, up to each
    anchors: Int64s  # where counting starts anew
    base: Int64s  # what `total` is ahead of the count from there on

    @classmethod
    def of(cls, frames: _Frames, start: npt.NDArray[np.int32], pins: Bools, released: Bools, frees: Bools) -> _Counts:
        step = pins.view(np.int8) - released.view(np.int8)
        total = np.cumsum(step, dtype=np.int64)
        base = total.take(frames.begin) - step.take(frames.begin) - start
        anchors = frames.begin
        if frees.any():
            freed = np.flatnonzero(frees)
            both = np.concatenate([anchors, freed])
            # At a frame's first event that is a free, the free comes second, and counts.
            in_order = np.argsort(both, kind="stable")
            anchors, base = both[in_order], np.concatenate([base, total[freed]])[in_order]
        return cls(total, anchors, base)

    def after(self, rows: Int64s) -> Int64s:
        """The count that these rows leave."""
        count: Int64s = self.total[rows] - self.base[np.searchsorted(self.anchors, rows, side="right") - 1]
        return count
