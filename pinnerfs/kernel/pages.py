"""Page frames: their type and flags, and what page_pinner keeps about each.

Imitates `get_pageblock_migratetype` and page_ext of android12-5.10.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.pageflags import Migratetype

__all__ = ["FrameRange", "Int64s", "MemoryMap", "PinnerState", "concatenated_ranges"]

Int64s = npt.NDArray[np.int64]
_Item = TypeVar("_Item", bound=np.generic)


def concatenated_ranges(start: Int64s, length: Int64s) -> Int64s:
    """Return the numbers of several ranges, one range after the other."""
    before = np.cumsum(length) - length
    return np.repeat(start - before, length) + np.arange(int(length.sum()))


class FrameRange(NamedTuple):
    """Frames from PFN `start` on that share flags and migratetype."""

    name: str
    start: int
    frames: int
    migratetype: Migratetype
    flags: int


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
        starts, types, flags = [base_pfn], [Migratetype.Unmovable], [0]
        for region in regions:
            starts += [region.start, region.start + region.frames]
            types += [region.migratetype, Migratetype.Unmovable]
            flags += [region.flags, 0]
        self._starts = np.array(starts, dtype=np.int64)
        self._types = np.array(types, dtype=np.uint8)
        self._flags = np.array(flags, dtype=np.uint64)
        # First frame of each CMA area and the one after its last, counted from the base PFN.
        areas = (region for region in regions if region.migratetype == Migratetype.CMA)
        self.cma = [(area.start - base_pfn, area.start - base_pfn + area.frames) for area in areas]

    def migratetype_of(self, pfn: Int64s) -> npt.NDArray[np.uint8]:
        """Return the migratetype of each frame's pageblock: imitates `get_pageblock_migratetype`."""
        return self._types[np.searchsorted(self._starts, pfn, side="right") - 1]

    def flags_of(self, pfn: Int64s) -> npt.NDArray[np.uint64]:
        """Return `page->flags` of each frame."""
        return self._flags[np.searchsorted(self._starts, pfn, side="right") - 1]


def _lazy_zeros(frames: int, dtype: type[_Item]) -> npt.NDArray[_Item]:
    """Return zeros that take memory only where they are written, 4 KiB at a time.

    numpy.zeros asks for huge pages: one write would take 2 MiB.
    """
    buffer = mmap.mmap(-1, max(1, frames) * np.dtype(dtype).itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        buffer.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(buffer, dtype=dtype)[:frames]


class PinnerState:
    """What page_pinner keeps about each frame, in 16 bytes.

    attribution: the handle of the last pin, negative once the frame is not pinned; 0 if it never was.
    ts: time of the last pin in µs.
    count: the pin count.
    """

    def __init__(self, frames: int) -> None:
        self.attribution = _lazy_zeros(frames, np.int32)
        self.ts = _lazy_zeros(frames, np.int64)
        self.count = _lazy_zeros(frames, np.int32)

    @property
    def pinned(self) -> npt.NDArray[np.bool_]:
        """Return for each frame whether it carries a mark."""
        return self.attribution > 0

    @property
    def handle(self) -> npt.NDArray[np.int32]:
        """Return the handle of each frame's last pin, or 0 where there never was one."""
        return np.abs(self.attribution)
