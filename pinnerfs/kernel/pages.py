"""Page frames: their type and flags, and what page_pinner keeps about each.

Imitates `get_pageblock_migratetype` and page_ext of android12-5.10.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.pageflags import Migratetype

__all__ = [
    "FAILED",
    "ON_LRU",
    "PRESENT",
    "FrameRange",
    "FrameRows",
    "FrameState",
    "FrameValues",
    "Int64s",
    "MemoryMap",
    "concatenated_ranges",
    "file_mapping",
    "lazy_zeros",
]

Int64s = npt.NDArray[np.int64]

# The bits of FrameState.bits.
PRESENT, ON_LRU, FAILED = np.uint8(1), np.uint8(2), np.uint8(4)


def concatenated_ranges(start: Int64s, length: Int64s) -> Int64s:
    """Return the numbers of several ranges, one range after the other."""
    before = np.cumsum(length) - length
    numbers = np.repeat(start - before, length)
    numbers += np.arange(len(numbers))
    return numbers


class FrameRange(NamedTuple):
    """Frames from PFN `start` on that share flags and migratetype.

    Their pages are anonymous, or those of one file: then `mapping` is the address of its `struct address_space`.
    """

    name: str
    start: int
    frames: int
    migratetype: Migratetype
    flags: int
    mapping: int = 0


def file_mapping(name: str) -> int:
    """Return the made-up address of a file's mapping, in the linear map of an arm64 kernel."""
    offset = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
    return 0xFFFFFF8000000000 + offset % (1 << 33) // 8 * 8


class MemoryMap:
    """A device's memory: `frames` frames from `base_pfn` on.

    Regions are in ascending order. A frame outside of all regions is Unmovable and has no flags.
    """

    def __init__(self, base_pfn: int, frames: int, pageblock_order: int, regions: Sequence[FrameRange]) -> None:
        self.base_pfn = base_pfn
        self.frames = frames
        self.pageblock_order = pageblock_order
        self.regions = {region.name: region for region in regions}
        # One searchsorted finds a frame's region or gap: entry 0 is the gap before the first region.
        starts, types, flags, mappings = [base_pfn], [Migratetype.Unmovable], [0], [0]
        for region in regions:
            starts += [region.start, region.start + region.frames]
            types += [region.migratetype, Migratetype.Unmovable]
            flags += [region.flags, 0]
            mappings += [region.mapping, 0]
        self._starts = np.array(starts, dtype=np.int64)
        self._types = np.array(types, dtype=np.uint8)
        self._flags = np.array(flags, dtype=np.uint64)
        self._mappings = np.array(mappings, dtype=np.uint64)
        self.has_files = any(mappings)
        # The first frame of each region and gap, counted from the base PFN.
        self.borders = self._starts[1:] - base_pfn
        # First frame of each CMA area and the one after its last, counted from the base PFN.
        areas = (region for region in regions if region.migratetype == Migratetype.CMA)
        self.cma = [(area.start - base_pfn, area.start - base_pfn + area.frames) for area in areas]

    def migratetype_of(self, pfn: Int64s) -> npt.NDArray[np.uint8]:
        """Return the migratetype of each frame's pageblock: imitates `get_pageblock_migratetype`."""
        return self._types[np.searchsorted(self._starts, pfn, side="right") - 1]

    def flags_of(self, pfn: Int64s) -> npt.NDArray[np.uint64]:
        """Return `page->flags` of each frame."""
        return self._flags[np.searchsorted(self._starts, pfn, side="right") - 1]

    def mapping_of(self, pfn: Int64s) -> npt.NDArray[np.uint64]:
        """Return `page->mapping` of each frame's page, or 0 for an anonymous one."""
        return self._mappings[np.searchsorted(self._starts, pfn, side="right") - 1]


def lazy_zeros(items: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return zeros that take memory only where they are written, 4 KiB at a time.

    numpy.zeros asks for huge pages: one write would take 2 MiB.
    """
    buffer = mmap.mmap(-1, max(1, items * np.dtype(dtype).itemsize), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        buffer.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(buffer, dtype=dtype, count=items)


# What most events change and read is together: a random frame then costs two reads of memory that is not in the cache.
_MARK = np.dtype([("ts", np.int64), ("attribution", np.int32), ("references", np.int32)])
_PAGE = np.dtype([("mapcount", np.int16), ("bits", np.uint8), ("unused", np.uint8)])
_PAGE_AND_PINS = np.dtype([("pins", np.int32), *((name, _PAGE[name]) for name in _PAGE.fields or ())])


@dataclass
class FrameValues:
    """What is kept about some frames, as arrays of equal length: see FrameState."""

    references: npt.NDArray[np.integer]
    mapcount: npt.NDArray[np.integer]
    bits: npt.NDArray[np.uint8]
    attribution: npt.NDArray[np.int32]
    ts: Int64s
    pins: npt.NDArray[np.int32] | None


class FrameRows(NamedTuple):
    """The same as copies of FrameState's rows."""

    marks: npt.NDArray[np.void]
    pages: npt.NDArray[np.void]

    def take(self, places: Int64s) -> FrameRows:
        """Return some of the rows."""
        return FrameRows(self.marks.take(places), self.pages.take(places))

    def words(self) -> Iterator[npt.NDArray[np.integer]]:
        """Yield columns of whole words. Two rows are equal if all their words are."""
        yield from self.marks.view(np.int64).reshape(-1, 2).T
        yield self.pages.view(f"i{self.pages.itemsize}")

    def values(self) -> FrameValues:
        """Return the columns by name, each as an array of its own."""
        marks, pages = self
        return FrameValues(
            references=marks["references"].copy(),
            mapcount=pages["mapcount"].copy(),
            bits=pages["bits"].copy(),
            attribution=marks["attribution"].copy(),
            ts=marks["ts"].copy(),
            pins=pages["pins"].copy() if "pins" in (pages.dtype.names or ()) else None,
        )


class FrameState:
    """What is kept about each frame, in 20 bytes.

    The page's own, whatever page_pinner tracks:
    references: 1 for each FOLL_GET or plain reference, 1024 for each FOLL_PIN pin (1 on large pages). The mappings,
    the page cache and the LRU batch hold further ones, see `counts`.
    mapcount: mappings of the page.
    bits: the page is PRESENT; it is ON_LRU; page_pinner's mark FAILED.

    page_pinner's:
    attribution: the handle of the last pin, negative once the frame is not marked GET; 0 if it never was.
    ts: time of the last pin, or of the first failure, in µs.
    pins: the pin count of `introduced`, in 4 bytes more. No later kernel counts pins.

    These arrays are views into rows. Their `take` copies the whole array, so use `rows` for many frames.
    """

    def __init__(self, frames: int, counts_pins: bool = False) -> None:
        self._marks = lazy_zeros(frames, _MARK)
        self._pages = lazy_zeros(frames, _PAGE_AND_PINS if counts_pins else _PAGE)
        self.references: npt.NDArray[np.int32] = self._marks["references"]
        self.mapcount: npt.NDArray[np.int16] = self._pages["mapcount"]
        self.bits: npt.NDArray[np.uint8] = self._pages["bits"]
        self.attribution: npt.NDArray[np.int32] = self._marks["attribution"]
        self.ts: npt.NDArray[np.int64] = self._marks["ts"]
        self.pins: npt.NDArray[np.int32] | None = self._pages["pins"] if counts_pins else None
        word = f"i{self._pages.itemsize}"
        self._words = self._pages.view(word)
        one_page = np.zeros(1, self._pages.dtype)
        one_page["bits"] = PRESENT
        self._present_word = one_page.view(word)
        self.frame_bytes = self._marks.itemsize + self._pages.itemsize

    def rows(self, frames: Int64s) -> FrameRows:
        """Return what is kept about these frames."""
        return FrameRows(self._marks.take(frames), self._pages.take(frames))

    def present(self, first: int, frames: int) -> Int64s:
        """Return which of these frames have a page, counted from the first one."""
        words = self._words[first : first + frames]
        found: Int64s = words.nonzero()[0]
        # Frames without a page can keep marks. It takes longer to leave those out, and most often there is nothing.
        return (words & self._present_word).nonzero()[0] if len(found) else found

    def write(self, frames: Int64s, values: FrameValues, width: Int64s) -> None:
        """Write values for these frames. Each value is for as many neighbours in `frames` as its `width` says."""
        for kept in self._marks, self._pages:
            rows = np.zeros(len(width), dtype=kept.dtype)
            for name in kept.dtype.names or ():
                if name != "unused":
                    rows[name] = getattr(values, name)
            kept[frames] = rows if len(rows) == len(frames) else np.repeat(rows, width)

    @property
    def pinned(self) -> npt.NDArray[np.bool_]:
        """Return for each frame whether it carries the mark GET."""
        return self.attribution > 0

    @property
    def handle(self) -> npt.NDArray[np.int32]:
        """Return the handle of each frame's last pin, or 0 where there never was one."""
        return np.abs(self.attribution)
