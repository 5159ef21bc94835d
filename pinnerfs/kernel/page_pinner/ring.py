"""The ring of long-term records, read newest first. Imitates the `longterm_pinner` buffer of mm/page_pinner.c."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.page_pinner.records import RING_SIZE

__all__ = ["RECORD", "Ring"]

# A record as it is taken at the release. PFN and flags are those of a compound page's head.
RECORD = np.dtype(
    [
        ("elapsed", np.int64),  # µs
        ("count", np.int32),
        ("handle", np.int32),
        ("pfn", np.int64),
        ("flags", np.uint64),
        ("migratetype", np.uint8),
    ]
)


class Ring:
    """4096 slots, of which `filled` hold records. A further record overwrites the oldest.

    `appended` counts all records since the start: the one at `position` is number `appended - position`.
    """

    def __init__(self) -> None:
        self._slots = np.zeros(RING_SIZE, dtype=RECORD)
        self.appended = 0
        self.filled = 0
        self.overwritten = 0

    def append(self, records: npt.NDArray[np.void]) -> None:
        """Add records (dtype RECORD), the oldest first."""
        new = len(records)
        self.overwritten += max(0, self.filled + new - RING_SIZE)
        kept = records[-RING_SIZE:]
        at = (self.appended + new - len(kept) + np.arange(len(kept))) % RING_SIZE
        self._slots[at] = kept
        self.appended += new
        self.filled = min(RING_SIZE, self.filled + new)

    def newest(self, position: int) -> np.void | None:
        """Return the record `position` places after the newest one, or None for an empty slot."""
        if position >= self.filled:
            return None
        record: np.void = self._slots[(self.appended - 1 - position) % RING_SIZE]
        return record

    def clear(self) -> None:
        """Empty every slot, as a write of the threshold does."""
        self.filled = 0
