"""One round of an allocation: what its tries mark and move, and how many records they leave.

Imitates `alloc_contig_range` with `__alloc_contig_migrate_range` and `test_pages_isolated`, over all tries at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.cma.mm import Mm
from pinnerfs.kernel.cma.pages import AreaPages
from pinnerfs.kernel.cma.tries import Tries
from pinnerfs.kernel.page_pinner.generations import Generation, Mark
from pinnerfs.kernel.pages import Int64s

__all__ = ["Circumstances", "Round"]

Bools = npt.NDArray[np.bool_]

PASSES = 10  # of migrate_pages over the pages that stay
ROUNDS = 5  # of migrate_pages over a batch


class Circumstances(NamedTuple):
    """What the rules of a round depend on, apart from its pages.

    tracking: whether page_pinner tracks failures. quiet: leave out the records of mappings taken away in vain.
    """

    generation: Generation
    mm: Mm
    tracking: bool
    quiet: bool
    no_warn: bool
    noretry: bool


class Round:
    """The outcome of a round, whose tries are known.

    failed_at: the places of the pinned pages that were marked before the round.
    known: before each try, the pinned pages before this place are marked, in the range of the try.
    moves: the try that moves each movable page, or the number of tries.
    passes: how often a page that stays is unmapped in a try.
    looks: whether a try has a last look at its range. marks: whether pages that stay in a batch are marked.
    """

    def __init__(self, pages: AreaPages, tries: Tries, rules: Circumstances) -> None:
        self.pages, self.tries, self.rules = pages, tries, rules
        generation = rules.generation
        self._failed = pages.failed(pages.pinned)
        self.failed_at = np.flatnonzero(self._failed)
        self._all_failed = len(self.failed_at) == len(self._failed)
        self.moves = tries.try_of(pages.movable)
        quick = rules.noretry and rules.mm.quick_noretry
        self.passes = 0 if rules.quiet else PASSES if quick else PASSES * ROUNDS
        self.looks = not (quick and pages.of_file)
        self.marks = pages.of_file and rules.tracking and (generation.no_warn_marks or not rules.no_warn)
        self._finds = rules.tracking and generation.busy_marks and self.looks
        self.known = np.zeros(tries.number, dtype=np.int64)
        if self.marks:
            self.known[1:] = tries.end[:-1]
        elif self._finds:
            self.known[1:] = tries.low[:-1] + 1

    @property
    def moved(self) -> Int64s:
        """Return the pages that move away."""
        return self.pages.movable[self.moves < self.tries.number]

    def marked(self) -> Int64s:
        """Return the pages that get the mark FAILED."""
        tries, pinned = self.tries, self.pages.pinned
        if self._all_failed:
            return NO_PAGES
        failing = tries.number - tries.success
        marked = np.zeros(len(pinned), dtype=np.bool_)
        if self.marks:
            place = np.arange(len(pinned))
            at = np.searchsorted(tries.end[:failing], place, side="right")
            marked = at < failing
            marked[marked] = tries.low.take(at[marked]) <= place[marked]
        elif self._finds:
            marked[tries.low[:failing]] = True
        return pinned[marked & ~self._failed]

    def in_batch(self) -> Int64s:
        """Return the pages that the last try left in the LRU batch, in the order of their putback."""
        last = self.tries.number - 1
        return NO_PAGES if last < 0 or self.tries.success else self.left(last)

    def counts(self) -> Int64s:
        """Return how many records each try leaves. The first one also drains what the LRU batch had before."""
        tries, generation, pages = self.tries, self.rules.generation, self.pages
        low, high, known = tries.low, tries.high, self.known
        count = np.bincount(self.moves, self._leaving(pages.movable), tries.number + 1).astype(np.int64)[:-1]
        if not self.rules.tracking:
            return count
        if pages.of_file:
            count += self._batch_counts()
        elif self.rules.mm.look_puts:
            count += self._before(self._totals(np.ones_like(pages.pinned)), low, high, known)
        if self.looks:
            fails = np.arange(tries.number) < tries.number - tries.success
            first = np.append(self._failed, False).take(low) | (low < known)
            is_known = tries.end > low if self.marks else first
            count += fails & (is_known != generation.busy_marks)
        return count

    def _batch_counts(self) -> Int64s:
        """Return how many records each try leaves of the pages that stay in its batch."""
        tries, generation, pages = self.tries, self.rules.generation, self.pages
        low, end, known = tries.low, tries.end, self.known
        each = self._totals(np.ones_like(pages.pinned))
        length, before = end - low, self._before(each, low, end, known)
        count = self.passes * self._before(self._totals(pages.mapcount(pages.pinned)), low, end, known)
        over = length // self.rules.mm.lru_batch * self.rules.mm.lru_batch
        middle = end - over  # the pages from here on are on the LRU again, the others are in the batch
        if self.marks:
            count += length + over
            if generation.failed_recorded != "never":
                count += length - before if generation.failed_recorded == "first" else length
        else:
            count += before + self._before(each, middle, end, known)
        count[1:] += self._before(each, low[:-1], middle[:-1], known[1:])
        return count

    def _totals(self, weight: Int64s) -> tuple[Int64s, Int64s]:
        """Return the total weight before each pinned page, of all pages and of those that are FAILED."""
        zero = np.zeros(1, dtype=np.int64)
        total = np.concatenate([zero, np.cumsum(weight)])
        return total, total if self._all_failed else np.concatenate([zero, np.cumsum(weight * self._failed)])

    def _before(self, totals: tuple[Int64s, Int64s], begin: Int64s, end: Int64s, known: Int64s) -> Int64s:
        """Return the total of the pages from `begin` up to `end` that are marked before the tries."""
        total, failed = totals
        counted: Int64s
        if self._all_failed:
            counted = total.take(end) - total.take(begin)
            return counted
        cut = np.minimum(np.maximum(known, begin), end)
        counted = total.take(cut) - total.take(begin) + failed.take(end) - failed.take(cut)
        return counted

    def is_failed(self, pages: Int64s, number: int | Int64s) -> Bools:
        """Tell which of these pinned pages of a try's range, or of the one before, are marked before the try.

        One number stands for all of the pages.
        """
        place = np.searchsorted(self.pages.pinned, pages)
        is_failed: Bools = self._failed.take(place) | (place < self.known[number])
        return is_failed

    def left(self, number: int) -> Int64s:
        """Return the pages that a try leaves in the LRU batch, the highest first."""
        low, end = int(self.tries.low[number]), int(self.tries.end[number])
        return self.pages.pinned[low : low + (end - low) % self.rules.mm.lru_batch][::-1]

    def _leaving(self, pages: Int64s) -> Int64s:
        """Return how many records the move of each page leaves."""
        failed, recorded = self.recorded(pages)
        return failed * (self.pages.mapcount(pages) + 1) + recorded

    def recorded(self, pages: Int64s) -> tuple[Bools, Bools]:
        """Tell which pages leave a record when they drop a reference, and which when they are freed."""
        generation, failed = self.rules.generation, self.pages.failed(pages)
        recorded = np.zeros(len(pages), dtype=np.bool_)
        if Mark.FAILED in generation.freed_recorded:
            recorded |= failed
        if Mark.GET in generation.freed_recorded:
            recorded |= self.pages.marked(pages)
        # A clean page of a file is dropped, without a put.
        return failed & (self.rules.tracking and not self.pages.clean), recorded


NO_PAGES: Int64s = np.empty(0, dtype=np.int64)
