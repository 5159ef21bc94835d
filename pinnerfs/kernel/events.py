"""The calls that page_pinner may see, in batches of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.calls import PINS, RELEASES, Event
from pinnerfs.kernel.pages import Int64s, concatenated_ranges

__all__ = ["PINS", "RELEASES", "Event", "EventBatch"]


@dataclass(frozen=True)
class EventBatch:
    """Events in the order in which they happen, as columns of equal length. `time` never decreases within a batch.

    time: boot time in µs.
    kind: an Event.
    pfn: the first frame.
    order: 2**order frames are one compound page.
    handle: the calling task's call chain in the depot, from 1 on.
    pages: number of neighbouring pages that see the same call, one after the other, as drivers pin buffers.
    """

    time: Int64s
    kind: npt.NDArray[np.uint8]
    pfn: Int64s
    order: npt.NDArray[np.uint8]
    handle: npt.NDArray[np.int32]
    pages: Int64s

    def __len__(self) -> int:
        return len(self.time)

    def __getitem__(self, rows: slice | npt.NDArray[np.generic]) -> EventBatch:
        if isinstance(rows, slice):
            return EventBatch(*(column[rows] for column in self.columns()))
        # take() needs a quarter of the time of numpy's indexing.
        places = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows.astype(np.int64, copy=False)
        return EventBatch(*(column.take(places) for column in self.columns()))

    def columns(self) -> tuple[npt.NDArray[Any], ...]:
        """Return all columns in the order of the fields."""
        return self.time, self.kind, self.pfn, self.order, self.handle, self.pages

    def frames(self) -> Int64s:
        """Return the number of frames that each event touches."""
        return self.pages << self.order

    def split(self, frames: int) -> tuple[EventBatch, EventBatch]:
        """Return the first events that touch at most `frames` frames together (at least one page), and the rest.

        If the first event alone is too large, split it between pages.
        """
        touched = np.cumsum(self.frames())
        rows = int(np.searchsorted(touched, frames, side="right"))
        if rows or not len(self):
            return self[:rows], self[rows:]
        pages, order = max(1, frames >> int(self.order[0])), int(self.order[0])
        if pages >= self.pages[0]:
            return self[:1], self[1:]
        rest_pages, rest_pfn = self.pages.copy(), self.pfn.copy()
        rest_pages[0] -= pages
        rest_pfn[0] += pages << order
        return replace(self[:1], pages=np.array([pages])), replace(self, pages=rest_pages, pfn=rest_pfn)

    def page_by_page(self) -> EventBatch:
        """Return the same events with one row for each page."""
        each = self[np.repeat(np.arange(len(self)), self.pages)]
        offset = concatenated_ranges(np.zeros_like(self.pages), self.pages)
        return replace(each, pfn=each.pfn + (offset << each.order), pages=np.ones_like(offset))

    @classmethod
    def concatenate(cls, batches: Sequence[EventBatch]) -> EventBatch:
        """Return all rows of these batches, in the order given. Without batches, return an empty one."""
        if not batches:
            return cls.of([])
        if len(batches) == 1:
            return batches[0]
        return cls(*map(np.concatenate, zip(*(batch.columns() for batch in batches), strict=True)))

    @classmethod
    def of(cls, rows: Sequence[tuple[int, Event, int, int, int]]) -> EventBatch:
        """Return a batch of single pages from rows of (time, kind, pfn, order, handle)."""
        table = np.array(rows, dtype=np.int64).reshape(-1, 5)
        return cls(
            table[:, 0],
            table[:, 1].astype(np.uint8),
            table[:, 2],
            table[:, 3].astype(np.uint8),
            table[:, 4].astype(np.int32),
            np.ones(len(table), dtype=np.int64),
        )
