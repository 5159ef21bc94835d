"""Records of many touches at once, in order of the events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.calls import TRUNCATE
from pinnerfs.kernel.events import Event, EventBatch
from pinnerfs.kernel.order import stable_order
from pinnerfs.kernel.page_pinner.layouts import RecordKind
from pinnerfs.kernel.page_pinner.ring import KINDS, RECORD
from pinnerfs.kernel.pageflags import PAGE_FLAG_BITS, PAGE_HEAD, PAGE_LRU, ZONE_SHIFT
from pinnerfs.kernel.pages import Int64s, MemoryMap, concatenated_ranges
from pinnerfs.kernel.pagestate import PageCounts
from pinnerfs.kernel.segments import Segments

__all__ = ["Taken", "take_records"]

PAGE_DIRTY = 1 << PAGE_FLAG_BITS["dirty"]

# The pages that munmap and exit gather before they free them: MMU_GATHER_BUNDLE at first, then MAX_GATHER_BATCH.
FIRST_GATHER, GATHER = 8, 510
PAGEVEC = 15  # the pages that a truncation of a file frees at once

Records = npt.NDArray[np.void]


class Taken(NamedTuple):
    """The records of one kind that touches leave: one for each frame of the touch's segment."""

    kind: RecordKind
    touches: Int64s
    time: Int64s
    handle: npt.NDArray[np.int32]
    pages: PageCounts | None  # None for a page that is free

    def take(self, places: Int64s) -> Taken:
        """Return some of the touches."""
        pages = self.pages and self.pages.take(places)
        return Taken(self.kind, self.touches.take(places), self.time.take(places), self.handle.take(places), pages)


def take_records(
    memory: MemoryMap, batch: EventBatch, segments: Segments, parts: Sequence[Taken], flushes: bool = False
) -> Records:
    """Return all records (dtype RECORD) in order of the events, and of one event in the order of frames.

    Of one frame and event, the records are in the order of the parts. With `flushes`, munmap and exit first drop the
    references of many pages, and then free those.
    """
    if flushes:
        made = [_records(memory, batch, segments, part) for part in parts]
        return _flushed(memory, batch, segments, parts, made)
    if len(parts) == 1:
        part = parts[0]
        return _records(memory, batch, segments, part.take(stable_order(segments.rank.take(part.touches))))[0]
    records, places = zip(*(_records(memory, batch, segments, part) for part in parts), strict=True)
    part_of = np.repeat(np.arange(len(parts)), [len(some) for some in records])
    rank, frame = np.concatenate(places, axis=1)
    return np.concatenate(records)[np.lexsort((part_of, frame, rank))]


def _flushed(
    memory: MemoryMap,
    batch: EventBatch,
    segments: Segments,
    parts: Sequence[Taken],
    made: Sequence[tuple[Records, Int64s]],
) -> Records:
    """Return the records in the order of calls that free pages in batches: imitates `release_pages`.

    Of each batch all references are dropped, then the pages are freed, the last one first. A call is a run of events
    of one kind, caller and time.
    """
    records = np.concatenate([some for some, _ in made])
    part_of = np.repeat(np.arange(len(parts)), [len(some) for some, _ in made])
    frame = np.concatenate([places[1] for _, places in made])
    width = [segments.width.take(segments.of_touch(part.touches)) for part in parts]
    touch = np.concatenate([np.repeat(part.touches, wide) for part, wide in zip(parts, width, strict=True)])
    row = segments.row.take(touch)
    flushing = (batch.kind == Event.unmap) | (batch.kind == Event.free)
    begins = np.ones(len(batch), dtype=np.bool_)
    same = (np.diff(batch.time) == 0) & (np.diff(batch.kind) == 0) & (np.diff(batch.handle) == 0)
    begins[1:] = ~(same & flushing[1:])
    call = np.maximum.accumulate(np.where(begins, np.arange(len(batch)), 0)).take(row)
    before = np.cumsum(batch.frames()) - batch.frames()
    place = before.take(row) - before.take(call) + frame - batch.pfn.take(row)
    puts = records["kind"] == KINDS.index(RecordKind.PUT)
    flushed = flushing.take(row)
    of_file = flushed & (batch.kind.take(row) == Event.free) & (memory.mapping_of(frame) > 0)
    records["call"][of_file] = TRUNCATE
    gathered = np.where(place < FIRST_GATHER, 0, 1 + (place - FIRST_GATHER) // GATHER)
    number = np.where(flushed, np.where(of_file, place // PAGEVEC, gathered), place)
    last = np.where(flushed & ~puts, -place, place)
    return records[np.lexsort((last, np.where(flushed, ~puts, part_of), number, call))]


def _records(memory: MemoryMap, batch: EventBatch, segments: Segments, taken: Taken) -> tuple[Records, Int64s]:
    """Return a record for each frame of these touches, and for each its touch's rank and its frame."""
    segment = segments.of_touch(taken.touches)
    row, width = segments.row.take(taken.touches), segments.width.take(segment)
    first = np.repeat(batch.pfn.take(row), width)
    order = np.repeat(batch.order.take(row), width).astype(np.int64)
    frame = memory.base_pfn + concatenated_ranges(segments.frame.take(segment), width)
    # Every frame of a compound page has its head's PFN and flags.
    pfn = first + (frame - first >> order << order)
    flags = memory.flags_of(pfn)
    records = np.zeros(len(pfn), dtype=RECORD)
    if taken.pages is None:
        records["flags"] = flags >> np.uint64(ZONE_SHIFT) << np.uint64(ZONE_SHIFT)
    else:
        lru = np.repeat(taken.pages.on_lru, width) * np.uint64(PAGE_LRU)
        head = (order > 0) * np.uint64(PAGE_HEAD)
        records["count"] = np.repeat(taken.pages.references, width)
        mapping = memory.mapping_of(pfn)
        # The last reference is dropped after the page has left the page cache, which needs it clean.
        gone = (records["count"] == 0) & (taken.kind == RecordKind.PUT) & (mapping > 0)
        records["flags"] = (flags & ~np.uint64(PAGE_LRU) | lru | head) & ~(gone * np.uint64(PAGE_DIRTY))
        records["mapping"] = mapping * ~gone
        records["mapcount"] = np.repeat(taken.pages.mapcount, width)
    records["pfn"] = pfn
    records["migratetype"] = memory.migratetype_of(pfn)
    records["time"] = np.repeat(taken.time, width)
    records["handle"] = np.repeat(taken.handle, width)
    records["kind"] = KINDS.index(taken.kind)
    records["call"] = np.repeat(batch.kind.take(row), width)
    return records, np.stack([np.repeat(segments.rank.take(taken.touches), width), frame])
