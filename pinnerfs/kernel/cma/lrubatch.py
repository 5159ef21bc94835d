"""The LRU batch of the CPU: pages that wait to be put on the LRU, each with a reference of the batch.

Imitates `lru_add_drain_cpu` of mm/swap.c. Pages get into the batch when a failing allocation puts them back. All
allocations share one CPU, and with several CPUs nothing else runs on it.
"""

from __future__ import annotations

import numpy as np

from pinnerfs.kernel.calls import Event
from pinnerfs.kernel.cma.isolation import migratetypes
from pinnerfs.kernel.events import EventBatch
from pinnerfs.kernel.page_pinner.layouts import RecordKind
from pinnerfs.kernel.page_pinner.pinner import Pinner
from pinnerfs.kernel.page_pinner.ring import KINDS, RECORD
from pinnerfs.kernel.pageflags import PAGE_LRU
from pinnerfs.kernel.pages import FAILED, ON_LRU, PRESENT, Int64s

__all__ = ["LruBatch"]


class LruBatch:
    """The pages of the batch, in the order in which they came. Their frames are counted from the base PFN."""

    def __init__(self, pinner: Pinner, cpus: int) -> None:
        self._pinner, self._alone = pinner, cpus == 1

    @property
    def frames(self) -> Int64s:
        """Return the frames of the pages."""
        return self._pinner.lru_batch

    @frames.setter
    def frames(self, frames: Int64s) -> None:
        self._pinner.lru_batch = frames

    def first_drain(self, batch: EventBatch) -> int:
        """Return the row of the first event that empties the batch, munmap or the end of a process, or the length."""
        if not self._alone or not len(self.frames):
            return len(batch)
        drains = np.flatnonzero((batch.kind == Event.unmap) | (batch.kind == Event.free))
        return int(drains[0]) if len(drains) else len(batch)

    def drain(self, now: int, handle: int, first: int = 0, pages: int = 0) -> None:
        """Put all pages on the LRU. Those that are FAILED leave a record with this call chain.

        first, pages: the range that is isolated now, from this PFN on.
        """
        pinner, state, memory = self._pinner, self._pinner.state, self._pinner.memory
        frames, self.frames = self.frames, np.empty(0, dtype=np.int64)
        bits = state.bits[frames]
        waits = bits & (PRESENT | ON_LRU) == PRESENT
        frames, bits = frames[waits], bits[waits]
        state.bits[frames] |= ON_LRU
        file = pinner.generation.failure_file
        frames = frames[bits & FAILED > 0]
        if file is None or not pinner.tracking or not len(frames):
            return
        pfn = frames + memory.base_pfn
        records = np.zeros(len(frames), dtype=RECORD)
        records["pfn"], records["handle"], records["kind"] = pfn, handle, KINDS.index(RecordKind.PUT)
        records["time"] = pinner.put_times(frames, now)
        records["flags"] = memory.flags_of(pfn) | np.uint64(PAGE_LRU)
        records["mapping"], records["mapcount"] = memory.mapping_of(pfn), state.mapcount[frames]
        records["count"] = state.references[frames] + state.mapcount[frames] + (memory.mapping_of(pfn) > 0)
        records["migratetype"] = migratetypes(memory, pfn, first, pages)
        pinner.rings[file].append(records)
