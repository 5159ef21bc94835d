"""A batch of events brought into the books run by run: pages side by side that see the same call.

Drivers pin buffers: hundreds of pages at once. A run of them is a slice of the state, which costs hardly more than one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.events import IS_PIN, Event, EventBatch
from pinnerfs.kernel.page_pinner.outcome import Outcome, records_of
from pinnerfs.kernel.pages import Int64s, MemoryMap, PinnerState

__all__ = ["apply_runs"]


def apply_runs(state: PinnerState, memory: MemoryMap, batch: EventBatch, threshold: int) -> Outcome:
    """Imitates `__set_page_pinner` and `__reset_page_pinner` for every row of a batch, one after the other.

    A count is a kernel's int: after 2147483647 comes -2147483648, and only what is above 0 falls.
    """
    begin = batch.pfn - memory.base_pfn
    end = begin + batch.frames()
    cma = memory.cma
    in_cma = sum((np.clip(np.minimum(end, stop) - np.maximum(begin, start), 0, None) for start, stop in cma), 0 * begin)
    columns = (begin, end, in_cma, IS_PIN[batch.kind], batch.kind == Event.free, batch.time, batch.handle)
    ended: list[_Ended] = []
    pinned = pinned_in_cma = 0
    count_nonzero = np.count_nonzero
    for row, (at, to, share, pins, frees, time, handle) in enumerate(
        zip(*map(np.ndarray.tolist, columns), strict=True)
    ):
        attribution, ts, count = state.attribution[at:to], state.ts[at:to], state.count[at:to]
        is_pinned = attribution > 0
        change = -int(count_nonzero(is_pinned))
        if 0 < share < to - at:
            pinned_in_cma -= _pinned_within(state, at, to, cma)
        if pins:
            attribution.fill(handle)
            ts.fill(time)
            count += 1
            change += to - at
        elif frees:
            np.negative(attribution, out=attribution, where=is_pinned)
            count.fill(0)
        elif change:
            if threshold < 0 or count_nonzero(ts < time - threshold):
                ended.append(_Ended.of(state, at + np.flatnonzero(is_pinned), time, threshold, row))
            if change == at - to:  # all of them, as is usual
                np.negative(attribution, out=attribution)
                count -= count > 0
            else:
                np.negative(attribution, out=attribution, where=is_pinned)
                count -= is_pinned & (count > 0)
        pinned += change
        if share == to - at:
            pinned_in_cma += change
        elif share:
            pinned_in_cma += _pinned_within(state, at, to, cma)
    return _outcome(memory, batch, ended, pinned, pinned_in_cma)


def _pinned_within(state: PinnerState, at: int, to: int, ranges: Sequence[tuple[int, int]]) -> int:
    """How many frames of a run are pinned and lie in one of these ranges."""
    parts = [(max(at, start), min(to, stop)) for start, stop in ranges if start < to and at < stop]
    return sum(int(np.count_nonzero(state.attribution[start:stop] > 0)) for start, stop in parts)


class _Ended(NamedTuple):
    """The pins of a run that lasted too long: which frames, and what is recorded."""

    frame: Int64s
    row: int
    elapsed: Int64s
    handle: npt.NDArray[np.int32]
    counts: npt.NDArray[np.int32]

    @classmethod
    def of(cls, state: PinnerState, frame: Int64s, time: int, threshold: int, row: int) -> _Ended:
        """Those of the frames that are released now."""
        elapsed = np.maximum(time - state.ts[frame], 0)
        long = elapsed > threshold
        frame = frame[long]
        return cls(frame, row, elapsed[long], state.attribution[frame], state.count[frame])


def _outcome(memory: MemoryMap, batch: EventBatch, ended: Sequence[_Ended], pinned: int, pinned_in_cma: int) -> Outcome:
    none = np.empty(0, dtype=np.int64)
    rows = np.repeat(np.array([one.row for one in ended], dtype=np.int64), [len(one.frame) for one in ended])
    records = records_of(
        memory,
        batch,
        rows,
        np.concatenate([none, *(one.frame for one in ended)]),
        np.concatenate([none, *(one.elapsed for one in ended)]),
        np.concatenate([none, *(one.handle for one in ended)]),
        np.concatenate([none, *(one.counts for one in ended)]),
    )
    return Outcome(records, rows, pinned, pinned_in_cma)
