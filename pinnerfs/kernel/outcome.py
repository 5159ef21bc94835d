"""What a batch of events comes to, beside the state of the frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.order import stable_order
from pinnerfs.kernel.pageflags import PAGE_HEAD
from pinnerfs.kernel.pages import Int64s, MemoryMap
from pinnerfs.kernel.ring import RECORD

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
        records, rows = _merged([one.records, other.records], [one.rows, other.rows])
        return cls(records, rows, one.pinned + other.pinned, one.pinned_in_cma + other.pinned_in_cma)


def _merged(records: Sequence[npt.NDArray[np.void]], rows: Sequence[Int64s]) -> tuple[npt.NDArray[np.void], Int64s]:
    if not all(map(len, rows)):
        return max(records, key=len), max(rows, key=len)
    together = np.concatenate(rows)
    order = stable_order(together)
    return np.concatenate(records)[order], together[order]


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
