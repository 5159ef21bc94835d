"""A batch of events brought into the books run by run: pages side by side that see the same call at the same moment.

Drivers pin buffers: hundreds of pages at once. A run of them is a slice of the state, which costs hardly more than one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.events import PINS, Event, EventBatch
from pinnerfs.kernel.outcome import Outcome, records_of
from pinnerfs.kernel.pageflags import Migratetype
from pinnerfs.kernel.pages import Int64s, MemoryMap, PinnerState

__all__ = ["apply_runs", "run_starts"]


def run_starts(batch: EventBatch) -> Int64s:
    """The rows at which a run begins, of a batch that is not empty."""
    begins = np.empty(len(batch), dtype=np.bool_)
    begins[0] = True
    size = np.left_shift(1, batch.order[:-1].astype(np.int64)) if batch.order.any() else 1
    np.not_equal(batch.pfn[1:] - batch.pfn[:-1], size, out=begins[1:])
    for column in (batch.time, batch.kind, batch.order, batch.handle):
        begins[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(begins)


def apply_runs(state: PinnerState, memory: MemoryMap, batch: EventBatch, starts: Int64s, threshold: int) -> Outcome:
    """Imitates `__set_page_pinner` and `__reset_page_pinner` for every run of a batch, one after the other."""
    last = np.append(starts[1:], len(batch)) - 1
    order = batch.order[starts]
    begin = batch.pfn[starts] - memory.base_pfn
    end = batch.pfn[last] - memory.base_pfn + np.left_shift(1, order.astype(np.int64))
    cma = memory.ranges_of(Migratetype.CMA)
    ended: list[_Ended] = []
    pinned = pinned_in_cma = 0
    columns = (begin, end, batch.kind[starts], batch.time[starts], batch.handle[starts], order)
    for at, to, kind, time, handle, size in zip(*(column.tolist() for column in columns), strict=True):
        was = state.pinned[at:to]
        before = np.count_nonzero(was)
        pinned -= int(before)
        pinned_in_cma -= sum(int(np.count_nonzero(state.pinned[a:b])) for a, b in _cut(at, to, cma))
        if kind in PINS:
            was.fill(True)
            state.handle[at:to].fill(handle)
            state.ts[at:to].fill(time)
            state.count[at:to] += 1
            pinned += to - at
            pinned_in_cma += sum(b - a for a, b in _cut(at, to, cma))
        elif kind == Event.free:
            was.fill(False)
            state.count[at:to].fill(0)
        elif before:
            # A slice where all of them are pinned, as is usual: a list of frames costs four times as much.
            frames = slice(at, to) if before == to - at else np.flatnonzero(was) + at
            elapsed = np.maximum(time - state.ts[frames], 0)
            if elapsed.max() > threshold:
                ended.append(_Ended.of(state, frames, elapsed, threshold, at, size))
            state.count[frames] -= 1
            was.fill(False)
    return Outcome(_records(memory, ended), pinned, pinned_in_cma)


def _cut(at: int, to: int, ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The parts of these ranges that lie from `at` to `to`."""
    return [(max(at, start), min(to, stop)) for start, stop in ranges if start < to and at < stop]


@dataclass(frozen=True)
class _Ended:
    """The pins of a run that lasted too long: `head`, the first frame of each one's page, and what is recorded."""

    head: Int64s
    order: int
    elapsed: Int64s
    handle: npt.NDArray[np.int32]
    count: npt.NDArray[np.int32]

    @classmethod
    def of(
        cls, state: PinnerState, frames: slice | Int64s, elapsed: Int64s, threshold: int, at: int, order: int
    ) -> _Ended:
        """Those of the released frames of a run, which begins at frame `at`."""
        long = elapsed > threshold
        index = np.arange(frames.start, frames.stop)[long] if isinstance(frames, slice) else frames[long]
        head = at + ((index - at) >> order << order) if order else index
        return cls(head, order, elapsed[long], state.handle[frames][long], state.count[frames][long])


def _records(memory: MemoryMap, ended: Sequence[_Ended]) -> npt.NDArray[np.void]:
    """All of them, in the order in which they were released."""
    none = np.empty(0, dtype=np.int64)
    return records_of(
        memory,
        memory.base_pfn + np.concatenate([none, *(one.head for one in ended)]),
        np.repeat([one.order > 0 for one in ended], [len(one.head) for one in ended]),
        np.concatenate([none, *(one.elapsed for one in ended)]),
        np.concatenate([none, *(one.handle for one in ended)]),
        np.concatenate([none, *(one.count for one in ended)]),
    )
