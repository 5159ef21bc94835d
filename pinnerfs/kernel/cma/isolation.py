"""The pageblocks that an attempt isolates."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.pageflags import Migratetype
from pinnerfs.kernel.pages import Int64s, MemoryMap

__all__ = ["migratetypes"]


def migratetypes(memory: MemoryMap, pfn: Int64s, first: Int64s | int, pages: int) -> npt.NDArray[np.uint8]:
    """Return the types of the pageblocks of these frames, while those of a range are isolated.

    The range has so many pages from PFN `first` on, which can be another one for each frame. Imitates
    `start_isolate_page_range`.
    """
    order = memory.pageblock_order
    block = pfn >> order
    isolated = (block >= first >> order) & (block <= first + pages - 1 >> order)
    types: npt.NDArray[np.uint8] = np.where(isolated, Migratetype.Isolate, memory.migratetype_of(pfn))
    return types
