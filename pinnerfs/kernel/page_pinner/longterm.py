"""The books of page_pinner, applied to a whole batch of events at once with the result of one by one.

Imitates `__set_page_pinner`, `__reset_page_pinner` and the hooks in mm/gup.c of early android12-5.10.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.events import IS_PIN, IS_RELEASE, Event, EventBatch
from pinnerfs.kernel.order import stable_order
from pinnerfs.kernel.page_pinner.frames import apply_frames
from pinnerfs.kernel.page_pinner.generations import Generation
from pinnerfs.kernel.page_pinner.outcome import Outcome
from pinnerfs.kernel.page_pinner.ring import Ring
from pinnerfs.kernel.page_pinner.runs import apply_runs
from pinnerfs.kernel.pages import Int64s, MemoryMap, PinnerState

__all__ = ["DEFAULT_THRESHOLD", "Counters", "Pinner"]

DEFAULT_THRESHOLD = 300_000  # µs

# A run of so many frames is brought into the books as fast by itself as all its frames are among others.
LONG_RUN = 64


@dataclass
class Counters:
    """What the books have seen since the start. A compound page counts once in `pins` and `releases`; the rest
    counts frames, one record each."""

    pins: int = 0
    releases: int = 0
    longterm_records: int = 0
    pinned_now: int = 0
    pinned_now_in_cma: int = 0


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
        tracked = self._tracked[batch.kind]
        if not tracked.all():
            batch = batch[tracked]
        if not len(batch):
            return
        size = batch.frames()
        first = batch.pfn - self.memory.base_pfn
        if first.min() < 0 or (first + size).max() > self.memory.frames:
            raise IndexError("an event lies outside of the memory map")
        outcome = self._outcome(batch, first, size)
        self.ring.append(outcome.records)
        self.counters.pins += int((batch.pages * IS_PIN.take(batch.kind)).sum())
        self.counters.releases += int((batch.pages * IS_RELEASE.take(batch.kind)).sum())
        self.counters.longterm_records += len(outcome.records)
        self.counters.pinned_now += outcome.pinned
        self.counters.pinned_now_in_cma += outcome.pinned_in_cma

    def _outcome(self, batch: EventBatch, first: Int64s, size: Int64s) -> Outcome:
        """Bring long runs into the books, with all that hangs together with them, and then the rest at once."""
        by_run = _with_long(first, size)
        runs = int(np.count_nonzero(by_run))
        if not runs or size[by_run].sum() < LONG_RUN * runs:
            return apply_frames(self.state, self.memory, batch, self.threshold)
        rows = np.flatnonzero(by_run)
        outcome = apply_runs(self.state, self.memory, batch[rows], self.threshold)
        if runs == len(batch):
            return outcome
        others = np.flatnonzero(~by_run)
        rest = apply_frames(self.state, self.memory, batch[others], self.threshold)
        return Outcome.of_both(outcome.at(rows), rest.at(others))


def _with_long(first: Int64s, size: Int64s) -> npt.NDArray[np.bool_]:
    """Which rows are long runs, or hang together with one: by a frame of both, or by way of others."""
    long = size >= LONG_RUN
    if not long.any():
        return long
    order = stable_order(first)
    start, reach = first.take(order), np.maximum.accumulate((first + size).take(order))
    apart = np.empty(len(order), dtype=np.bool_)
    apart[0] = True
    np.greater_equal(start[1:], reach[:-1], out=apart[1:])
    group = np.cumsum(apart) - 1
    has_long = np.zeros(int(group[-1]) + 1, dtype=np.bool_)
    has_long[group[long.take(order)]] = True
    found = np.empty_like(long)
    found[order] = has_long.take(group)
    return found
