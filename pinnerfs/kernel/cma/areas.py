"""A CMA area: its bitmap, and the allocations that debugfs made. Imitates mm/cma.c and mm/cma_debug.c."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.cma.pixel import PixelStat
from pinnerfs.kernel.pages import Int64s, concatenated_ranges, lazy_zeros

__all__ = ["Area", "Kept"]

Bits = TypeVar("Bits", int, Int64s)

WORD = 32  # bits in a word of the file `bitmap`


class Kept(NamedTuple):
    """Pages that a write to debugfs' `alloc` got: the first one, counted from the area's base, and their number."""

    first: int
    pages: int


class Area:
    """An area: `pages` frames from `base_pfn` on, with one bit for 2**order_per_bit of them. A set bit is given out.

    allocations: what `alloc` of debugfs got and `free` can give back, the newest first.
    alloc_pages_success, alloc_pages_fail: the pages that callers asked for, and got or did not get.
    stat: what a Pixel counts.
    """

    def __init__(self, name: str, base_pfn: int, pages: int, order_per_bit: int = 0) -> None:
        self.name = name
        self.base_pfn = base_pfn
        self.pages = pages
        self.bits = pages >> order_per_bit
        self.order_per_bit = order_per_bit
        self.allocations: list[Kept] = []
        self.alloc_pages_success = 0
        self.alloc_pages_fail = 0
        self.stat = PixelStat()
        # A byte for each bit, as numpy's view and for a search that needs none of its calls.
        self._octets = bytearray(self.bits)
        self._bits: npt.NDArray[np.bool_] = np.frombuffer(self._octets, np.bool_)
        # The frames that are given out. Those that only fill up the last bit of an allocation stay lent.
        self._given = lazy_zeros(pages, np.bool_) if order_per_bit else self._bits
        # Until the bitmap changes: the runs of clear bits, and the number of frames that are given out before each.
        self._clear: tuple[Int64s, Int64s] | None = None
        self._set: Int64s | None = None

    def bits_for(self, pages: int) -> int:
        """Return how many bits so many pages take: imitates `cma_bitmap_pages_to_bits`."""
        return -(-pages >> self.order_per_bit)

    def step(self, align: int) -> int:
        """Return the distance in bits between two places for pages aligned to 2**align: the mask and one."""
        return 1 << max(0, align - self.order_per_bit)

    def first_place(self, pages: int, align: int) -> int | None:
        """Return the first of `places`, or None: imitates `bitmap_find_next_zero_area_off`."""
        bits, clear = self.bits_for(pages), 0
        while clear >= 0 and (bit := self.aligned(clear, align)) + bits <= self.bits:
            taken = self._octets.rfind(1, bit, bit + bits)
            if taken < 0:
                return bit
            clear = self._octets.find(0, taken + 1)
        return None

    def places(self, pages: int, align: int, most: int) -> tuple[Int64s, bool]:
        """Return the first bits of the clear runs for so many pages, at most `most` of them, and whether these are all.

        Their PFNs are aligned to 2**align. Imitates repeated `bitmap_find_next_zero_area_off`.
        """
        bits, step = self.bits_for(pages), self.step(align)
        begins, ends = self.runs()
        begins = self.aligned(begins, align)
        counts = np.maximum((ends - bits - begins) // step + 1, 0)
        total = np.cumsum(counts)
        kept = np.clip(most - (total - counts), 0, counts)
        number = concatenated_ranges(np.zeros_like(kept), kept)
        return np.repeat(begins, kept) + number * step, int(counts.sum()) <= most

    def aligned(self, bits: Bits, align: int) -> Bits:
        """Return the first bits from these on whose PFNs are aligned: imitates `cma_bitmap_aligned_offset`."""
        if align <= self.order_per_bit:
            return bits
        mask = self.step(align) - 1
        offset = (self.base_pfn & ((1 << align) - 1)) >> self.order_per_bit
        return (bits + offset + mask & ~mask) - offset

    def set(self, first: int, pages: int) -> None:
        """Give out pages from a bit on."""
        self._write(first, pages, b"\1")

    def clear(self, first: int, pages: int) -> None:
        """Take pages back from a bit on: imitates `cma_clear_bitmap`."""
        self._write(first, pages, b"\0")

    def keep(self, first: int, pages: int) -> None:
        """Put pages, from a bit on, into the list that `give_back` takes from: imitates `cma_alloc_mem`."""
        self.allocations.insert(0, Kept(first << self.order_per_bit, pages))

    def give_back(self, pages: int) -> list[Kept]:
        """Free kept pages, the newest allocation first, and return them: imitates `cma_free_mem`.

        Of an allocation with more pages than are left to free, the first ones are freed, if a bit stands for one page;
        otherwise none. A negative number frees everything.
        """
        freed: list[Kept] = []
        if pages < 0:
            pages = sum(kept.pages for kept in self.allocations)
        while pages and self.allocations:
            kept = self.allocations[0]
            if kept.pages <= pages:
                self.allocations.pop(0)
            elif self.order_per_bit == 0:
                self.allocations[0] = Kept(kept.first + pages, kept.pages - pages)
                kept = Kept(kept.first, pages)
            else:
                break
            pages -= kept.pages
            self.clear(kept.first >> self.order_per_bit, kept.pages)
            freed.append(kept)
        return freed

    @property
    def given_out(self) -> bool:
        """Tell whether any page is given out."""
        return bool(self._bits.any())

    @property
    def used(self) -> int:
        """Return the number of pages that are given out, as whole bits: imitates `cma_used_get`."""
        return int(np.count_nonzero(self._bits)) << self.order_per_bit

    @property
    def maxchunk(self) -> int:
        """Return the length in pages of the longest run of clear bits: imitates `cma_maxchunk_get`."""
        begins, ends = self.runs()
        return int((ends - begins).max(initial=0)) << self.order_per_bit

    def words(self) -> list[int]:
        """Return the bitmap as the 32-bit words of the file `bitmap`. The first page is bit 0 of word 0."""
        octets = np.packbits(self._bits, bitorder="little").tobytes()
        octets += bytes(-len(octets) % (WORD // 8))
        words: list[int] = np.frombuffer(octets, dtype="<u4").tolist()
        return words

    def clear_runs(self) -> list[tuple[int, int]]:
        """Return the runs of clear bits: the first bit of each, and the one after its last."""
        begins, ends = self.runs()
        return list(zip(begins.tolist(), ends.tolist(), strict=True))

    def touches_given_out(self, pfn: Int64s, frames: Int64s) -> npt.NDArray[np.bool_]:
        """Tell which of these ranges have a frame in common with a range that is given out."""
        if self._set is None:
            self._set = np.concatenate([[0], np.cumsum(self._given)])
        begin = np.clip(pfn - self.base_pfn, 0, self.pages)
        end = np.clip(pfn + frames - self.base_pfn, begin, self.pages)
        found: npt.NDArray[np.bool_] = self._set.take(end) > self._set.take(begin)
        return found

    def _write(self, first: int, pages: int, octet: bytes) -> None:
        bits = self.bits_for(pages)
        self._octets[first : first + bits] = octet * bits
        if self.order_per_bit:
            frame = first << self.order_per_bit
            self._given[frame : frame + pages] = octet[0]
        self._clear = self._set = None

    def runs(self) -> tuple[Int64s, Int64s]:
        """Return the runs of clear bits: the first bits, and the ones after the last."""
        if self._clear is None:
            edges = np.flatnonzero(self._bits[1:] != self._bits[:-1]) + 1
            edges = np.concatenate([[0], edges, [self.bits]])
            first = int(self._bits[0])  # runs alternate
            begins, ends = edges[first:-1:2], edges[first + 1 :: 2]
            self._clear = begins, ends
        return self._clear
