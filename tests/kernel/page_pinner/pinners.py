"""Pinners on small memory maps, and what they hold, as plain rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pinnerfs.kernel.events import Event, EventBatch
from pinnerfs.kernel.page_pinner.generations import INTRODUCED, Generation
from pinnerfs.kernel.page_pinner.longterm import DEFAULT_THRESHOLD, Pinner
from pinnerfs.kernel.pageflags import Migratetype, page_flags
from pinnerfs.kernel.pages import FrameRange, MemoryMap
from tests.kernel.page_pinner.model import Row

__all__ = [
    "BASE",
    "FRAMES",
    "FREE",
    "GET",
    "PIN",
    "PLAIN_GET",
    "PLAIN_PUT",
    "PUT",
    "REGIONS",
    "UNPIN",
    "UPTODATE_LRU",
    "Buffer",
    "as_batch",
    "as_rows",
    "memory_map",
    "new_pinner",
    "ring",
    "state",
]

# The first page of a buffer, and how many neighbouring pages see the same call.
Buffer = tuple[Row, int]

GET, PIN = Event.get_user_pages, Event.pin_user_pages
PUT, UNPIN = Event.put_user_page, Event.unpin_user_page
PLAIN_GET, PLAIN_PUT, FREE = Event.get_page, Event.put_page, Event.free

UPTODATE_LRU = page_flags(["uptodate", "lru", "swapbacked"], zone=2)

# A map with gaps before, between and after its regions.
BASE, FRAMES = 96, 64
REGIONS = [
    FrameRange("movable", 100, 12, Migratetype.Movable, UPTODATE_LRU),
    FrameRange("cma", 112, 16, Migratetype.CMA, page_flags(["referenced"], zone=3)),
    FrameRange("reclaimable", 136, 8, Migratetype.Reclaimable, 0),
]


def memory_map(base: int = BASE, frames: int = FRAMES, regions: Sequence[FrameRange] = REGIONS) -> MemoryMap:
    """Return a map with pageblocks of 1024 pages."""
    return MemoryMap(base, frames, 10, regions)


def new_pinner(threshold: int = DEFAULT_THRESHOLD, generation: Generation = INTRODUCED) -> Pinner:
    """Return a pinner on the map with gaps."""
    return Pinner(memory_map(), generation, threshold)


def ring(pinner: Pinner) -> list[tuple[int, ...]]:
    """Return the records, newest first, as (elapsed, count, handle, pfn, flags, migratetype)."""
    names = ("elapsed", "count", "handle", "pfn", "flags", "migratetype")
    rows = [pinner.ring.newest(position) for position in range(pinner.ring.filled)]
    return [tuple(int(row[name]) for name in names) for row in rows if row is not None]


def state(pinner: Pinner, pfn: int) -> tuple[bool, int, int, int]:
    """Return a frame's pinned, handle, ts and count."""
    kept, at = pinner.state, pfn - pinner.memory.base_pfn
    return bool(kept.pinned[at]), int(kept.handle[at]), int(kept.ts[at]), int(kept.count[at])


def as_batch(buffers: Sequence[Buffer]) -> EventBatch:
    """Return buffers as the engine takes them."""
    batch = EventBatch.of([first for first, _ in buffers])
    return replace(batch, pages=np.array([pages for _, pages in buffers], dtype=np.int64))


def as_rows(buffers: Sequence[Buffer]) -> list[Row]:
    """Return buffers as the model takes them, page by page."""
    return [
        (time, kind, pfn + (page << order), order, handle)
        for (time, kind, pfn, order, handle), pages in buffers
        for page in range(pages)
    ]
