"""What happens to pages: batches of events as arrays, one row a page (compound or not)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.pages import Int64s

__all__ = ["IS_PIN", "IS_RELEASE", "PINS", "RELEASES", "Event", "EventBatch"]


class Event(IntEnum):
    """The calls that a page sees, by the kernel's names. FOLL_GET and FOLL_PIN have calls of their own.

    A plain `get_page` is one that no kernel's page_pinner sees.
    """

    get_user_pages = 0
    pin_user_pages = 1
    put_user_page = 2
    unpin_user_page = 3
    put_page = 4
    free = 5
    get_page = 6


PINS = (Event.get_user_pages, Event.pin_user_pages)
RELEASES = (Event.put_user_page, Event.unpin_user_page)

# The same to look up whole columns.
IS_PIN = np.array([kind in PINS for kind in Event])
IS_RELEASE = np.array([kind in RELEASES for kind in Event])


@dataclass(frozen=True)
class EventBatch:
    """Events in the order in which they happen; equal lengths, and `time` never falls within a batch.

    time: boot time in µs. kind: Event. pfn: the page's first frame. order: 2**order frames are one compound page.
    handle: the stack of a pin in the depot; of no meaning for other events.
    """

    time: Int64s
    kind: npt.NDArray[np.uint8]
    pfn: Int64s
    order: npt.NDArray[np.uint8]
    handle: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.time)

    def __getitem__(self, rows: slice | npt.NDArray[np.generic]) -> EventBatch:
        return EventBatch(self.time[rows], self.kind[rows], self.pfn[rows], self.order[rows], self.handle[rows])

    def rows_within(self, frames: int) -> int:
        """How many of the first rows touch at most so many frames together; at least 1."""
        touched = np.cumsum(np.left_shift(1, self.order[:frames].astype(np.int64)))
        return max(1, int(np.searchsorted(touched, frames, side="right")))

    @classmethod
    def concatenate(cls, batches: Sequence[EventBatch]) -> EventBatch:
        """One batch of all rows, in the order given; an empty one of none."""
        if not batches:
            return cls.of([])
        if len(batches) == 1:
            return batches[0]
        return cls(
            np.concatenate([batch.time for batch in batches]),
            np.concatenate([batch.kind for batch in batches]),
            np.concatenate([batch.pfn for batch in batches]),
            np.concatenate([batch.order for batch in batches]),
            np.concatenate([batch.handle for batch in batches]),
        )

    @classmethod
    def of(cls, rows: Sequence[tuple[int, Event, int, int, int]]) -> EventBatch:
        """A batch from rows of (time, kind, pfn, order, handle)."""
        table = np.array(rows, dtype=np.int64).reshape(-1, 5)
        return cls(
            table[:, 0],
            table[:, 1].astype(np.uint8),
            table[:, 2],
            table[:, 3].astype(np.uint8),
            table[:, 4].astype(np.int32),
        )
