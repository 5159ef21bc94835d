"""page_pinner's state: the marks of every frame, the rings of records, and the settings."""

from __future__ import annotations

import numpy as np

from pinnerfs.kernel.events import EventBatch
from pinnerfs.kernel.page_pinner.accounting import account
from pinnerfs.kernel.page_pinner.counters import Counters
from pinnerfs.kernel.page_pinner.generations import Generation
from pinnerfs.kernel.page_pinner.layouts import RecordKind
from pinnerfs.kernel.page_pinner.ring import Ring
from pinnerfs.kernel.pages import FrameState, Int64s, MemoryMap

__all__ = ["DEFAULT_THRESHOLD", "Pinner"]

DEFAULT_THRESHOLD = 300_000  # µs


class Pinner:
    """One device's page_pinner, and the pages that it watches.

    threshold: in µs, signed. A kernel without the file `threshold` has no long-term records, and ignores it.
    tracking: the switch `failure_tracking`.
    rings: the ring of each record file, by the file's name.
    lru_batch: the frames of pages that wait to be put on the LRU, counted from the base PFN, see `LruBatch`.
    unmapped: the callers (handles) whose processes have not mapped the pages that they pin.
    """

    def __init__(self, memory: MemoryMap, generation: Generation, threshold: int = DEFAULT_THRESHOLD) -> None:
        self.memory = memory
        self.generation = generation
        self.state = FrameState(memory.frames, counts_pins=generation.counts == "pins")
        self.rings = {file: Ring() for file in generation.record_files}
        self.threshold = threshold
        self.tracking = True
        self.unmapped: set[int] = set()
        self.lru_batch: Int64s = np.empty(0, dtype=np.int64)
        self.counters = Counters()

    def write_threshold(self, threshold: int) -> None:
        """Set the threshold and clear the long-term records: imitates `pp_threshold_set`."""
        self.threshold = threshold
        self.rings["longterm_pinner"].clear()

    def put_times(self, frames: Int64s, now: int) -> Int64s:
        """Return what a PUT record of each frame shows now, if its reference is dropped: a duration, or the time."""
        file = self.generation.failure_file
        assert file is not None
        layout = self.generation.layouts[file]
        if not layout.shows_duration(layout.kind(RecordKind.PUT)):
            return np.full(len(frames), now, dtype=np.int64)
        return np.maximum(now - self.state.ts[frames], 0)

    def count_elsewhere(self, batch: EventBatch) -> None:
        """Count calls on pages that have moved out of this memory map's frames."""
        if len(batch):
            self.counters.add_calls(batch, self.generation, marks=False)

    def apply(self, batch: EventBatch) -> None:
        """Account for a batch. Records go into the rings in order of the events.

        Times never fall within a batch, but a batch may start before the last one ended.
        """
        if not len(batch):
            return
        end = self.memory.base_pfn + self.memory.frames
        if batch.pfn.min() < self.memory.base_pfn or (batch.pfn + batch.frames()).max() > end:
            raise IndexError("an event lies outside of the memory map")
        self.counters.add_calls(batch, self.generation)
        account(self, batch)
