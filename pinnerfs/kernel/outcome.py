"""What a batch of events comes to, beside the state of the frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.pageflags import PAGE_HEAD
from pinnerfs.kernel.pages import Int64s, MemoryMap
from pinnerfs.kernel.ring import RECORD

__all__ = ["Outcome", "records_of"]


@dataclass(frozen=True)
class Outcome:
    """The records (dtype RECORD, in the order of their release), and how many more frames are pinned than before."""

    records: npt.NDArray[np.void]
    pinned: int
    pinned_in_cma: int


def records_of(
    memory: MemoryMap,
    pfn: Int64s,
    compound: npt.NDArray[np.bool_],
    elapsed: Int64s,
    handle: npt.NDArray[np.integer],
    count: npt.NDArray[np.integer],
) -> npt.NDArray[np.void]:
    """Records of releases. Every frame of a compound page has its head's PFN and flags."""
    records = np.empty(len(pfn), dtype=RECORD)
    records["elapsed"] = elapsed
    records["handle"] = handle
    records["count"] = count
    records["pfn"] = pfn
    records["flags"] = memory.flags_of(pfn) | np.where(compound, PAGE_HEAD, 0).astype(np.uint64)
    records["migratetype"] = memory.migratetype_of(pfn)
    return records
