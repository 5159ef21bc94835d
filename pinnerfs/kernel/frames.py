"""A batch of events brought into the books frame by frame, all frames at once, with the result of one by one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.events import IS_PIN, Event, EventBatch
from pinnerfs.kernel.outcome import Outcome, records_of
from pinnerfs.kernel.pageflags import Migratetype
from pinnerfs.kernel.pages import Int64s, MemoryMap, PinnerState

__all__ = ["apply_frames"]

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Frames:
    """A batch spread over single frames and sorted by frame, each frame's events in the order they happened."""

    order: Int64s  # place of each row in the order in which things happened
    event: Int64s  # the row of the batch that it comes from
    frame: Int64s  # index from the base PFN
    first: Bools  # the frame's first event in this batch
    last: Bools  # and its last


def apply_frames(state: PinnerState, memory: MemoryMap, batch: EventBatch, threshold: int) -> Outcome:
    """Imitates `__set_page_pinner` and `__reset_page_pinner` for every event of a batch, which is not empty."""
    frames = _spread(batch, memory)
    frame = frames.frame[frames.first]  # the frames touched, each once
    group = np.cumsum(frames.first) - 1  # which of them a row belongs to
    was_pinned = state.pinned[frame]

    kind = batch.kind[frames.event]
    pins = IS_PIN[kind]
    frees = kind == Event.free
    # Whether a frame is pinned when an event finds it is what its last event left: only a pin leaves it pinned.
    pinned = np.where(frames.first, was_pinned[group], np.roll(pins, 1))
    released = pinned & ~pins & ~frees

    count = _counts(frames, group, state.count[frame], pins, released, frees)
    records = _records(state, memory, batch, frames, released, count, threshold)

    # Of each frame the last pin, if there is one: the rows of a frame lie together, so it is the last of all up to
    # the frame's last row.
    last_pin = np.maximum.accumulate(np.where(pins, np.arange(len(pins)), -1))[frames.last]
    repinned = last_pin >= np.flatnonzero(frames.first)
    pin_event = frames.event[last_pin[repinned]]
    state.ts[frame[repinned]] = batch.time[pin_event]
    state.handle[frame[repinned]] = batch.handle[pin_event]
    left_pinned = pins[frames.last]
    state.pinned[frame] = left_pinned
    state.count[frame] = count[frames.last]
    in_cma = memory.migratetype_of(frame + memory.base_pfn) == Migratetype.CMA
    change = left_pinned.astype(np.int8) - was_pinned
    return Outcome(records, int(change.sum()), int(change[in_cma].sum()))


def _spread(batch: EventBatch, memory: MemoryMap) -> _Frames:
    if batch.order.any():
        sizes = np.left_shift(1, batch.order.astype(np.int64))
        event = np.repeat(np.arange(len(batch)), sizes)
        offset = np.arange(len(event)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        frame = batch.pfn[event] - memory.base_pfn + offset
    else:
        event = np.arange(len(batch))
        frame = batch.pfn - memory.base_pfn
    # Sorted as one number: the frame above, the place below. A stable sort of places takes six times as long.
    bits = len(frame).bit_length()
    key = np.sort((frame << bits) | np.arange(len(frame)))
    order = key & ((1 << bits) - 1)
    frame = key >> bits
    first = np.empty(len(frame), dtype=np.bool_)
    first[0] = True
    np.not_equal(frame[1:], frame[:-1], out=first[1:])
    return _Frames(order, event[order], frame, first, np.roll(first, -1))


def _counts(
    frames: _Frames, group: Int64s, start: npt.NDArray[np.int32], pins: Bools, released: Bools, frees: Bools
) -> Int64s:
    """The count that each event leaves. Below 0 it cannot fall: a release that counts has a pin before it."""
    step = pins.astype(np.int8) - released
    total = np.cumsum(step, dtype=np.int64)
    # Counting starts anew at a frame's first event, from what the state holds, and at a free, from 0.
    base = np.where(frames.first, total - step - start[group], 0)
    base = np.where(frees, total, base)
    anchors = frames.first | frees
    return total - base[np.maximum.accumulate(np.where(anchors, np.arange(len(total)), 0))]


def _records(
    state: PinnerState,
    memory: MemoryMap,
    batch: EventBatch,
    frames: _Frames,
    released: Bools,
    count: Int64s,
    threshold: int,
) -> npt.NDArray[np.void]:
    rows = np.flatnonzero(released)
    # The pin that a release ends: the frame's event just before, or the one that the state remembers.
    before = frames.event[rows - 1]
    stored = frames.frame[rows]
    here = ~frames.first[rows]
    ts = np.where(here, batch.time[before], state.ts[stored])
    elapsed = np.maximum(batch.time[frames.event[rows]] - ts, 0)
    long = np.flatnonzero(elapsed > threshold)
    long = long[np.argsort(frames.order[rows[long]])]
    rows, elapsed = rows[long], elapsed[long]
    handle = np.where(here[long], batch.handle[before[long]], state.handle[stored[long]])
    event = frames.event[rows]
    return records_of(memory, batch.pfn[event], batch.order[event] > 0, elapsed, handle, count[rows] + 1)
