"""The books of page_pinner, applied to a whole batch of events at once with the result of one by one.

Imitates `__set_page_pinner`, `__reset_page_pinner` and the hooks in mm/gup.c of early android12-5.10.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.events import PINS, RELEASES, Event, EventBatch
from pinnerfs.kernel.generations import Generation
from pinnerfs.kernel.pages import PAGE_HEAD, Int64s, MemoryMap, Migratetype, PinnerState
from pinnerfs.kernel.ring import RECORD, Ring

__all__ = ["DEFAULT_THRESHOLD", "Counters", "Pinner"]

DEFAULT_THRESHOLD = 300_000  # µs


@dataclass
class Counters:
    """What the books have seen since the start. A compound page counts once in `pins` and `releases`; the rest
    counts frames, one record each."""

    pins: int = 0
    releases: int = 0
    longterm_records: int = 0
    pinned_now: int = 0
    pinned_now_in_cma: int = 0


@dataclass(frozen=True)
class _Frames:
    """A batch spread over single frames and sorted by frame, each frame's events in the order they happened."""

    order: Int64s  # place of each row in the order in which things happened
    event: Int64s  # the row of the batch that it comes from
    frame: Int64s  # index from the base PFN
    first: npt.NDArray[np.bool_]  # the frame's first event in this batch
    last: npt.NDArray[np.bool_]  # and its last


class Pinner:
    """The state of every frame, the ring of records, and the threshold in µs (signed) that is in force."""

    def __init__(self, memory: MemoryMap, generation: Generation, threshold: int = DEFAULT_THRESHOLD) -> None:
        self.memory = memory
        self.state = PinnerState(memory.frames)
        self.ring = Ring()
        self.threshold = threshold
        self.counters = Counters()
        self._tracked = np.array([kind in generation.tracked for kind in Event])

    def write_threshold(self, threshold: int) -> None:
        """Set the threshold, which clears the recorded data: imitates `pp_threshold_set`."""
        self.threshold = threshold
        self.ring.clear()

    def apply(self, batch: EventBatch) -> None:
        """Bring the books up to the end of the batch; records go into the ring in the order of their release.

        Times never fall within a batch, but a batch may start before the last one ended.
        """
        batch = batch[self._tracked[batch.kind]]
        if not len(batch):
            return
        frames = self._spread(batch)
        self.counters.pins += int(np.isin(batch.kind, PINS).sum())
        self.counters.releases += int(np.isin(batch.kind, RELEASES).sum())
        frame = frames.frame[frames.first]  # the frames touched, each once
        group = np.cumsum(frames.first) - 1  # which of them a row belongs to
        was_pinned = self.state.pinned[frame]

        kind = batch.kind[frames.event]
        pins = np.isin(kind, PINS)
        frees = kind == Event.free
        # Whether a frame is pinned when an event finds it is what its last event left: only a pin leaves it pinned.
        pinned = np.where(frames.first, was_pinned[group], np.roll(pins, 1))
        released = pinned & ~pins & ~frees

        count = self._counts(frames, group, self.state.count[frame], pins, released, frees)
        self._record(batch, frames, group, frame, released, count)

        last_pin = np.maximum.reduceat(np.where(pins, np.arange(len(pins)), -1), np.flatnonzero(frames.first))
        repinned = last_pin >= 0
        pin_event = frames.event[last_pin[repinned]]
        self.state.ts[frame[repinned]] = batch.time[pin_event]
        self.state.handle[frame[repinned]] = batch.handle[pin_event]
        self.state.pinned[frame] = pins[frames.last]
        self.state.count[frame] = count[frames.last]
        self._count_pinned(frame, pins[frames.last].astype(np.int64) - was_pinned)

    def _spread(self, batch: EventBatch) -> _Frames:
        sizes = np.left_shift(1, batch.order.astype(np.int64))
        event = np.repeat(np.arange(len(batch)), sizes)
        offset = np.arange(len(event)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        frame = batch.pfn[event] - self.memory.base_pfn + offset
        if frame.min() < 0 or frame.max() >= self.memory.frames:
            raise IndexError("an event lies outside of the memory map")
        order = np.argsort(frame, kind="stable")
        frame = frame[order]
        changes = np.flatnonzero(np.diff(frame)) + 1
        first = np.zeros(len(frame), dtype=np.bool_)
        first[0] = True
        first[changes] = True
        last = np.roll(first, -1)
        return _Frames(order, event[order], frame, first, last)

    @staticmethod
    def _counts(
        frames: _Frames,
        group: Int64s,
        start: npt.NDArray[np.int32],
        pins: npt.NDArray[np.bool_],
        released: npt.NDArray[np.bool_],
        frees: npt.NDArray[np.bool_],
    ) -> Int64s:
        """The count that each event leaves. Below 0 it cannot fall: a release that counts has a pin before it."""
        total = np.cumsum(pins.astype(np.int64) - released)
        # Counting starts anew at a frame's first event, from what the state holds, and at a free, from 0.
        step = pins.astype(np.int64) - released
        base = np.where(frames.first, total - step - start[group], 0)
        base = np.where(frees, total, base)
        anchors = frames.first | frees
        return total - base[np.maximum.accumulate(np.where(anchors, np.arange(len(total)), 0))]

    def _record(
        self,
        batch: EventBatch,
        frames: _Frames,
        group: Int64s,
        frame: Int64s,
        released: npt.NDArray[np.bool_],
        count: Int64s,
    ) -> None:
        rows = np.flatnonzero(released)
        if not len(rows):
            return
        # The pin that a release ends: the frame's event just before, or the one that the state remembers.
        before = frames.event[rows - 1]
        stored = frame[group[rows]]
        here = ~frames.first[rows]
        ts = np.where(here, batch.time[before], self.state.ts[stored])
        elapsed = np.maximum(batch.time[frames.event[rows]] - ts, 0)
        long = elapsed > self.threshold
        rows, elapsed = rows[long], elapsed[long]
        handle = np.where(here, batch.handle[before], self.state.handle[stored])[long]
        order = np.argsort(frames.order[rows])
        rows = rows[order]
        event = frames.event[rows]
        records = np.zeros(len(rows), dtype=RECORD)
        records["elapsed"] = elapsed[order]
        records["handle"] = handle[order]
        records["count"] = count[rows] + 1
        # Every frame of a compound page is recorded with its head's PFN and flags.
        records["pfn"] = batch.pfn[event]
        head = np.where(batch.order[event] > 0, PAGE_HEAD, 0).astype(np.uint64)
        records["flags"] = self.memory.flags_of(batch.pfn[event]) | head
        records["migratetype"] = self.memory.migratetype_of(batch.pfn[event])
        self.counters.longterm_records += len(records)
        self.ring.append(records)

    def _count_pinned(self, frame: Int64s, change: Int64s) -> None:
        self.counters.pinned_now += int(change.sum())
        in_cma = self.memory.migratetype_of(frame + self.memory.base_pfn) == Migratetype.CMA
        self.counters.pinned_now_in_cma += int(change[in_cma].sum())
