"""The pages of a batch: their references, mappings and lives, whatever page_pinner makes of them.

Imitates the page's `_refcount` and `_mapcount` under get_user_pages, put_page, munmap and the like.
"""

from __future__ import annotations

from collections.abc import Set
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.calls import Event
from pinnerfs.kernel.events import EventBatch
from pinnerfs.kernel.pageflags import PAGE_LRU
from pinnerfs.kernel.pages import FAILED, ON_LRU, PRESENT, FrameValues, Int64s, MemoryMap
from pinnerfs.kernel.segments import Segments
from pinnerfs.kernel.walks import Walks

__all__ = ["PIN_BIAS", "PageCounts", "Pages"]

PIN_BIAS = 1024  # GUP_PIN_COUNTING_BIAS: what a FOLL_PIN pin adds to the references of a page
MAX_REFERENCES = (1 << 31) - 1
MAX_MAPCOUNT = (1 << 15) - 1

Bools = npt.NDArray[np.bool_]

_STEP = np.zeros(len(Event), dtype=np.int64)
_STEP[[Event.get_user_pages, Event.get_page]] = 1
_STEP[[Event.put_user_page, Event.put_page]] = -1
_STEP[Event.pin_user_pages], _STEP[Event.unpin_user_page] = PIN_BIAS, -PIN_BIAS

_TAKES = np.array([step > 0 for step in _STEP])
_MAPS = np.zeros(len(Event), dtype=np.int64)
_MAPS[Event.map], _MAPS[Event.unmap] = 1, -1
_ENDS_STEADY = np.array([kind in (Event.free, Event.map, Event.unmap) for kind in Event])


class PageCounts(NamedTuple):
    """What a record tells about pages: all references, mappings, and whether they are on the LRU."""

    references: Int64s
    mapcount: Int64s
    on_lru: Bools

    def take(self, at: Int64s) -> PageCounts:
        """Return some of the entries."""
        return PageCounts(self.references.take(at), self.mapcount.take(at), self.on_lru.take(at))


class _Lives(NamedTuple):
    """The state of pages, an entry for each touch or for each segment: mappings, in the page cache, on the LRU."""

    mapcount: Int64s
    cached: Bools
    on_lru: Bools
    present: Bools

    def take(self, at: Int64s) -> _Lives:
        """Return some of the entries."""
        return _Lives(self.mapcount.take(at), self.cached.take(at), self.on_lru.take(at), self.present.take(at))

    def where(self, chosen: Bools, other: _Lives) -> _Lives:
        """Return these entries where `chosen`, and the other ones elsewhere."""
        return _Lives(
            np.where(chosen, self.mapcount, other.mapcount),
            np.where(chosen, self.cached, other.cached),
            np.where(chosen, self.on_lru, other.on_lru),
            np.where(chosen, self.present, other.present),
        )


class Pages:
    """The pages of a batch, before and after each touch.

    The rules, page by page:

    - A reference is taken by a pin or by get_page, and dropped by the calls that release it. A call that finds no
      reference drops none.
    - A frame without a page gets one at its first reference or mapping: a page of its region's kind, on the LRU if the
      region's flags say so.
    - A process that pins pages has mapped them, unless its task says otherwise: a page has one mapping from then on.
    - munmap empties the LRU batch first, so that the page is on the LRU, and drops the mapping and its reference. The
      pages `waiting` are in the batch of another CPU.
    - The last reference or mapping frees an anonymous page. A file's page stays in the page cache.
    - A free takes away references, mappings and the page.
    """

    def __init__(
        self,
        kept: FrameValues,
        memory: MemoryMap,
        segments: Segments,
        batch: EventBatch,
        kind: npt.NDArray[np.uint8],
        handle: npt.NDArray[np.int32],
        unmapped: Set[int],
        pincount_order: int,
        waiting: Int64s,
    ) -> None:
        self._segments = segments
        step = _STEP.take(batch.kind)
        if batch.order.any():
            # Such compound pages count their pins apart: each adds a single reference.
            step = np.where(batch.order >= pincount_order, np.sign(step), step)
        step = step.take(segments.row)
        frame = segments.frame
        self._start, bits, mapcount = kept.references, kept.bits, kept.mapcount
        present = (bits & PRESENT).astype(np.bool_)
        mapping = _TAKES.take(kind)
        if unmapped:
            mapping &= ~np.isin(handle, list(unmapped))
        self._total = np.cumsum(step)
        self._base = self._total.take(segments.begin) - step.take(segments.begin) - self._start
        self.died: Bools | None = None  # touches that free the page by its last reference

        first_maps = mapping.take(segments.begin)
        steady = not _ENDS_STEADY.take(kind).any() and bool((first_maps | (mapcount > 0)).all())
        steady = steady and bool((np.minimum.reduceat(self._total, segments.begin) >= self._base).all())
        # In a steady batch, no page ends and no mapping changes after its first touch.
        self.steady = steady
        of_file = np.zeros_like(present)
        if memory.has_files:
            of_file = memory.mapping_of(frame + memory.base_pfn) > 0
        on_lru = (bits & ON_LRU).astype(np.bool_)
        self._found = _Lives(mapcount.astype(np.int64), of_file & present, on_lru, present)
        if steady:
            if len(absent := np.flatnonzero(~present)):
                on_lru = on_lru.copy()
                on_lru[absent] = _in_lru(memory, frame.take(absent))
            last = self._lives = _Lives(np.maximum(mapcount, 1), of_file, on_lru, np.ones_like(present))
        else:
            self._follow(kind, step, mapping, _in_lru(memory, frame), of_file, np.isin(frame, waiting))
            last = self._lives.take(segments.end)
        changed = not steady or not present.all() or not mapcount.all()
        references = self._total.take(segments.end) - self._base
        kept.references = np.minimum(references, MAX_REFERENCES)
        if changed:
            kept.mapcount = np.minimum(last.mapcount, MAX_MAPCOUNT)
            kept.bits = last.present * PRESENT | (last.on_lru & last.present) * ON_LRU | bits & FAILED

    def _follow(
        self,
        kind: npt.NDArray[np.uint8],
        step: Int64s,
        mapping: Bools,
        in_lru: Bools,
        of_file: Bools,
        waits: Bools,
    ) -> None:
        """Follow every page from touch to touch."""
        segments, found = self._segments, self._found
        frees = kind == Event.free
        opens = np.zeros(len(kind), dtype=np.bool_)
        opens[1:] = frees[:-1]
        opens[segments.begin] = False
        start_of = np.flatnonzero(opens)  # the touches after a free
        lives = Walks.of(segments, start_of)
        references = lives.walk(step, np.zeros_like(step), self._start)
        mapcount = lives.walk(_MAPS.take(kind), mapping.astype(np.int64), found.mapcount)
        appears = mapping | (step > 0) | (kind == Event.map)
        cached = lives.walk(np.zeros_like(step), appears.astype(np.int64), found.cached) > 0
        cached &= np.repeat(of_file, segments.lengths())
        references[frees], mapcount[frees], cached[frees] = 0, 0, False
        present = (references > 0) | (mapcount > 0) | cached
        was_present = segments.before(present, found.present)
        unmapped = (kind == Event.unmap) & (segments.before(mapcount, found.mapcount) > 0)
        born = present & ~was_present
        drained = unmapped & ~np.repeat(waits, segments.lengths())
        set_to = drained | born & np.repeat(in_lru, segments.lengths())
        on_lru = segments.carry(drained | born).left(set_to, found.on_lru)
        on_lru &= present | was_present  # a record of the last reference still tells about the page
        self.died = was_present & ~present & ~frees
        self._total, self._base = references, np.zeros_like(segments.frame)
        self._lives = _Lives(mapcount, cached, on_lru, present)

    def unmaps(self, touches: Int64s) -> Bools:
        """Tell which of these touches, munmap calls, find a mapping."""
        return self.before(touches, self._segments.of_touch(touches)).mapcount > 0

    def after(self, touches: Int64s, segment: Int64s) -> PageCounts:
        """Return what the pages are like after these touches of these segments."""
        return _counts(self._references(touches, segment), self._lives.take(segment if self.steady else touches))

    def before(self, touches: Int64s, segment: Int64s) -> PageCounts:
        """Return what the pages are like before these touches of these segments."""
        first = touches == self._segments.begin.take(segment)
        earlier = touches - 1
        references = np.where(first, self._start.take(segment), self._references(earlier, segment))
        if self.steady:
            return _counts(references, self._lives.take(segment))
        return _counts(references, self._found.take(segment).where(first, self._lives.take(earlier)))

    def _references(self, touches: Int64s, segment: Int64s) -> Int64s:
        return self._total.take(touches) - self._base.take(segment)


def _in_lru(memory: MemoryMap, frame: Int64s) -> Bools:
    """Tell which frames have pages on the LRU from their first reference on."""
    return memory.flags_of(frame + memory.base_pfn) & np.uint64(PAGE_LRU) > 0


def _counts(references: Int64s, lives: _Lives) -> PageCounts:
    # The LRU batch holds a reference to each page that it will put on the LRU.
    held = lives.mapcount + lives.cached + (lives.present & ~lives.on_lru)
    return PageCounts(references + held, lives.mapcount, lives.on_lru)
