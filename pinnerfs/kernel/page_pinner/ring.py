"""A ring of records, read newest first. Imitates the buffers of mm/page_pinner.c."""

from __future__ import annotations

import errno
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.page_pinner.layouts import RecordKind
from pinnerfs.kernel.page_pinner.records import RING_SIZE
from pinnerfs.kernel.pages import lazy_zeros

__all__ = ["KINDS", "MOST_SLOTS", "RECORD", "Ring", "ThresholdRings", "check_slots"]

# The kinds of records by their number in RECORD.
KINDS = tuple(RecordKind)

# A record as it is taken. PFN and flags are those of a compound page's head.
RECORD = np.dtype(
    [
        ("time", np.int64),  # µs: a duration or a boot time, as the file's layout prints this kind
        ("pfn", np.int64),
        ("flags", np.uint64),
        ("mapping", np.uint64),
        ("count", np.int32),
        ("handle", np.int32),
        ("mapcount", np.int16),
        ("kind", np.uint8),
        ("call", np.uint8),  # the Event behind the record: its call chain is that of `handle` with this call
        ("migratetype", np.uint8),
    ]
)

# kvmalloc() refuses more than INT_MAX bytes, and the kernel's record has 56.
LARGEST_BUFFER = (1 << 31) - 1
MOST_SLOTS = LARGEST_BUFFER // 56


def check_slots(size: int) -> None:
    """Raise OSError ENOMEM if a kernel has no room for a ring of so many slots."""
    if size > MOST_SLOTS:
        raise OSError(errno.ENOMEM, f"the kernel allocates at most {LARGEST_BUFFER} bytes for the ring")


class Ring:
    """Slots, of which `filled` hold records. A further record overwrites the oldest.

    `appended` counts all records since the start: the one at `position` is number `appended - position`.
    """

    def __init__(self) -> None:
        self._slots = np.zeros(RING_SIZE, dtype=RECORD)
        self.appended = 0
        self.filled = 0
        self.overwritten = 0

    @property
    def size(self) -> int:
        """Return the number of slots."""
        return len(self._slots)

    def resize(self, size: int) -> None:
        """Replace all slots by so many empty ones: imitates `buffer_size_set`. OSError ENOMEM: nothing changes."""
        check_slots(size)
        try:
            self._slots = lazy_zeros(size, RECORD)
        except (MemoryError, OSError):
            raise OSError(errno.ENOMEM, "not enough memory for the ring") from None
        self.filled = 0

    def append(self, records: npt.NDArray[np.void], lost: int = 0) -> None:
        """Add records (dtype RECORD), the oldest first. A ring of no slots drops them: a kernel divides by zero.

        `lost` counts further records before these, which these overwrite all.
        """
        new, size = lost + len(records), self.size
        self.appended += new
        if not size:
            return
        self.overwritten += max(0, self.filled + new - size)
        kept = records[-size:]
        first = (self.appended - len(kept)) % size
        to_end = kept[: size - first]
        self._slots[first : first + len(to_end)] = to_end
        self._slots[: len(kept) - len(to_end)] = kept[len(to_end) :]
        self.filled = min(size, self.filled + new)

    def newest(self, position: int) -> np.void | None:
        """Return the record `position` places after the newest one, or None for an empty slot."""
        if position >= self.filled:
            return None
        record: np.void = self._slots[(self.appended - 1 - position) % self.size]
        return record

    def rows(self) -> npt.NDArray[np.void]:
        """Return a copy of all records, newest first."""
        return self._slots[(self.appended - 1 - np.arange(self.filled)) % max(1, self.size)]

    def clear(self) -> None:
        """Empty every slot, as a write of the threshold does."""
        self.filled = 0


class ThresholdRings(Ring):
    """The rings that longterm_pinner has under several thresholds (µs) at once. It is itself that of the lowest one.

    A threshold decides only which releases leave a record, so that one play gives the records of all thresholds.
    """

    def __init__(self, thresholds: Sequence[int]) -> None:
        super().__init__()
        self.lowest = min(thresholds)
        self.by_threshold = {threshold: self if threshold == self.lowest else Ring() for threshold in thresholds}

    def append(self, records: npt.NDArray[np.void], lost: int = 0) -> None:
        """Add records to the ring of each threshold that they exceed."""
        super().append(records, lost)
        for threshold, ring in self.by_threshold.items():
            if ring is not self:
                ring.append(records[records["time"] > threshold])
