"""What a batch of events comes to, beside the state of the frames."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.events import EventBatch
from pinnerfs.kernel.order import stable_order
from pinnerfs.kernel.page_pinner.ring import RECORD
from pinnerfs.kernel.pageflags import PAGE_HEAD
from pinnerfs.kernel.pages import Int64s, MemoryMap

__all__ = ["Outcome", "records_of"]


class Outcome(NamedTuple):
    """The records (dtype RECORD) in the order of their release, with the row of the batch that each comes from, and how
    many more frames are pinned than before."""

    records: npt.NDArray[np.void]
    rows: Int64s
    pinned: int
    pinned_in_cma: int

    def at(self, rows: Int64s) -> Outcome:
        """The same of a batch of which these were the rows."""
        return self._replace(rows=rows[self.rows])

    @classmethod
    def of_both(cls, one: Outcome, other: Outcome) -> Outcome:
        """Of two parts of a batch that have no row in common."""
        rows = np.concatenate([one.rows, other.rows])
        order = stable_order(rows)
        records = np.concatenate([one.records, other.records])[order]
        return cls(records, rows[order], one.pinned + other.pinned, one.pinned_in_cma + other.pinned_in_cma)


def records_of(
    memory: MemoryMap,
    batch: EventBatch,
    rows: Int64s,
    frame: Int64s,
    elapsed: Int64s,
    handle: npt.NDArray[np.integer],
    count: npt.NDArray[np.integer],
) -> npt.NDArray[np.void]:
    """Records of releases: by these rows of a batch, of these frames, counted from the base PFN.

    Every frame of a compound page has its head's PFN and flags.
    """
    first, order = batch.pfn.take(rows), batch.order.take(rows).astype(np.int64)
    pfn = first + ((memory.base_pfn + frame - first) >> order << order)
    records = np.empty(len(pfn), dtype=RECORD)
    records["elapsed"] = elapsed
    records["handle"] = handle
    records["count"] = count
    records["pfn"] = pfn
    records["flags"] = memory.flags_of(pfn) | np.where(order > 0, PAGE_HEAD, 0).astype(np.uint64)
    records["migratetype"] = memory.migratetype_of(pfn)
    return records
