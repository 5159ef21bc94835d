"""The books of page_pinner, applied to a whole batch of events at once with the result of one by one.

Imitates `__set_page_pinner`, `__reset_page_pinner` and the hooks in mm/gup.c of early android12-5.10.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pinnerfs.kernel.events import IS_PIN, IS_RELEASE, Event, EventBatch
from pinnerfs.kernel.frames import apply_frames
from pinnerfs.kernel.generations import Generation
from pinnerfs.kernel.pages import MemoryMap, PinnerState
from pinnerfs.kernel.ring import Ring
from pinnerfs.kernel.runs import apply_runs, run_starts

__all__ = ["DEFAULT_THRESHOLD", "Counters", "Pinner"]

DEFAULT_THRESHOLD = 300_000  # µs

# With so many frames to a run on the average, going run by run is faster than sorting all frames.
MEAN_RUN = 32


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
        size = np.left_shift(1, batch.order, dtype=np.int64)
        first = batch.pfn - self.memory.base_pfn
        if first.min() < 0 or (first + size).max() > self.memory.frames:
            raise IndexError("an event lies outside of the memory map")
        starts = run_starts(batch)
        if size.sum() >= MEAN_RUN * len(starts):
            outcome = apply_runs(self.state, self.memory, batch, starts, self.threshold)
        else:
            outcome = apply_frames(self.state, self.memory, batch, self.threshold)
        self.ring.append(outcome.records)
        self.counters.pins += int(np.count_nonzero(IS_PIN[batch.kind]))
        self.counters.releases += int(np.count_nonzero(IS_RELEASE[batch.kind]))
        self.counters.longterm_records += len(outcome.records)
        self.counters.pinned_now += outcome.pinned
        self.counters.pinned_now_in_cma += outcome.pinned_in_cma
