"""The frames of an area, and the pages in them as a round of an allocation finds them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.cma.areas import Area
from pinnerfs.kernel.page_pinner.generations import Generation, Mark
from pinnerfs.kernel.pageflags import PAGE_FLAG_BITS, PAGE_LRU
from pinnerfs.kernel.pages import FAILED, ON_LRU, PRESENT, FrameState, Int64s, MemoryMap

__all__ = ["AreaFrames", "AreaPages"]

Bools = npt.NDArray[np.bool_]


class AreaFrames:
    """The frames of an area, and what all pages in them have in common.

    base: the area's first frame, counted from the base PFN of the memory.
    flags, mapping: those of a page.
    of_file, clean: whether they are pages of a file, and clean ones, which need not be moved.
    born_on_lru: whether a new page is on the LRU. Then a page that is not is in the LRU batch of the allocations.
    """

    def __init__(self, state: FrameState, memory: MemoryMap, area: Area) -> None:
        self.state, self.area = state, area
        self.base = area.base_pfn - memory.base_pfn
        base = np.array([area.base_pfn])
        self.flags = int(memory.flags_of(base)[0])
        self.mapping = int(memory.mapping_of(base)[0])
        self.of_file = self.mapping > 0
        kept = sum(1 << PAGE_FLAG_BITS[name] for name in ("dirty", "swapbacked", "unevictable"))
        self.clean = self.of_file and not self.flags & kept
        self.born_on_lru = self.flags & PAGE_LRU > 0

    def off_lru(self) -> Int64s:
        """Return the frames of pages that are not on the LRU, counted from the base PFN."""
        bits = self.state.bits[self.base : self.base + self.area.pages]
        found: Int64s = np.flatnonzero(bits & (PRESENT | ON_LRU) == PRESENT) + self.base
        return found


class AreaPages:
    """The pages in a part of an area, in ascending order. A page is told by its place in the area.

    pinned, movable: the pages with and without references beyond mappings and page cache.
    """

    def __init__(self, frames: AreaFrames, first: int, pages: int) -> None:
        """Look at so many frames of the area from `first` on."""
        self.area, self.state, self.base = frames.area, frames.state, frames.base
        self.flags, self.mapping = frames.flags, frames.mapping
        self.of_file, self.clean = frames.of_file, frames.clean
        self.used: Int64s = self.state.present(self.base + first, pages) + first
        held = self.state.references[self.base + self.used] > 0
        self.pinned: Int64s = self.used[held]
        self.movable: Int64s = self.used[~held]

    def references(self, pages: Int64s) -> Int64s:
        """Return all references of pages that are on the LRU: those of holders, mappings and the page cache."""
        found: Int64s = self.state.references[self.base + pages] + self.mapcount(pages) + self.of_file
        return found

    def mapcount(self, pages: Int64s) -> Int64s:
        """Return the mappings of pages."""
        return self.state.mapcount[self.base + pages].astype(np.int64)

    def failed(self, pages: Int64s) -> Bools:
        """Tell which pages are marked FAILED."""
        return self.state.bits[self.base + pages] & FAILED > 0

    def marked(self, pages: Int64s) -> Bools:
        """Tell which pages are marked GET."""
        return self.state.attribution[self.base + pages] > 0

    def free(self, pages: Int64s, generation: Generation) -> None:
        """Free pages, and clear the marks as the kernel does: imitates `__reset_page_pinner`."""
        state, frames = self.state, self.base + pages
        acts = np.zeros(len(pages), dtype=np.bool_)
        if Mark.GET in generation.freed:
            acts |= self.marked(pages)
        if Mark.FAILED in generation.freed:
            acts |= self.failed(pages)
        state.references[frames], state.mapcount[frames] = 0, 0
        state.bits[frames] = np.where(acts, 0, state.bits[frames] & FAILED)
        state.attribution[frames] = -np.abs(state.attribution[frames])
        if generation.free_clears_ts:
            state.ts[frames] = np.where(acts, 0, state.ts[frames])
        if state.pins is not None:
            state.pins[frames] = 0
