"""page_pinner's state: the mark of every frame, the ring of records and the threshold."""

from __future__ import annotations

import numpy as np

from pinnerfs.kernel.events import Event, EventBatch
from pinnerfs.kernel.page_pinner.accounting import account
from pinnerfs.kernel.page_pinner.counters import Counters
from pinnerfs.kernel.page_pinner.generations import Generation
from pinnerfs.kernel.page_pinner.ring import Ring
from pinnerfs.kernel.pages import MemoryMap, PinnerState

__all__ = ["DEFAULT_THRESHOLD", "Pinner"]

DEFAULT_THRESHOLD = 300_000  # µs


class Pinner:
    """One device's page_pinner. `threshold` is in µs, signed."""

    def __init__(self, memory: MemoryMap, generation: Generation, threshold: int = DEFAULT_THRESHOLD) -> None:
        self.memory = memory
        self.state = PinnerState(memory.frames)
        self.ring = Ring()
        self.threshold = threshold
        self.counters = Counters()
        self._tracked = generation.tracked
        # put_page has no hook and changes no mark, but the counters tell how often it met one.
        self._accounted = np.array([kind in self._tracked or kind == Event.put_page for kind in Event])

    def write_threshold(self, threshold: int) -> None:
        """Set the threshold and clear the recorded data: imitates `pp_threshold_set`."""
        self.threshold = threshold
        self.ring.clear()

    def apply(self, batch: EventBatch) -> None:
        """Account for a batch. Records go into the ring in order of release.

        Times never fall within a batch, but a batch may start before the last one ended.
        """
        if not len(batch):
            return
        end = self.memory.base_pfn + self.memory.frames
        if batch.pfn.min() < self.memory.base_pfn or (batch.pfn + batch.frames()).max() > end:
            raise IndexError("an event lies outside of the memory map")
        self.counters.add_calls(batch, self._tracked)
        accounted = self._accounted[batch.kind]
        if not accounted.all():
            batch = batch[accounted]
        if len(batch):
            self.ring.append(account(self.state, self.memory, batch, self.threshold, self.counters))
