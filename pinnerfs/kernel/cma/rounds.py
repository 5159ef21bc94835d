"""One round of an allocation: what its tries mark, record and move.

Imitates `alloc_contig_range` with `__alloc_contig_migrate_range` and `test_pages_isolated`, over all tries at once.
Only the records that the ring keeps are made; the others are counted.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.cma.chains import Site
from pinnerfs.kernel.cma.mm import Mm
from pinnerfs.kernel.cma.pages import AreaPages
from pinnerfs.kernel.cma.rows import NO_ROWS, Look, Rows, moved_rows, putback_rows, rows
from pinnerfs.kernel.cma.tries import BATCH, Tries
from pinnerfs.kernel.page_pinner.generations import Generation, Mark
from pinnerfs.kernel.page_pinner.layouts import RecordKind
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
    """The outcome of a round, whose tries are known."""

    def __init__(self, pages: AreaPages, tries: Tries, rules: Circumstances) -> None:
        self._pages, self._tries, self._rules = pages, tries, rules
        generation = rules.generation
        self._failed = pages.failed(pages.pinned)
        self._failed_at = np.flatnonzero(self._failed)
        self._moves = tries.try_of(pages.movable)  # the try that moves each of the movable pages
        quick = rules.noretry and rules.mm.quick_noretry
        self._passes = 0 if rules.quiet else PASSES if quick else PASSES * ROUNDS
        self._looks = not (quick and pages.of_file)
        self._marks = pages.of_file and rules.tracking and (generation.no_warn_marks or not rules.no_warn)
        self._finds = rules.tracking and generation.busy_marks and self._looks
        # Before a try, these pages of its range are marked: those marked before the round, and those up to `known`.
        self._known = np.zeros(tries.number, dtype=np.int64)
        if self._marks:
            self._known[1:] = tries.end[:-1]
        elif self._finds:
            self._known[1:] = tries.low[:-1] + 1

    @property
    def moved(self) -> Int64s:
        """Return the pages that move away."""
        return self._pages.movable[self._moves < self._tries.number]

    def marked(self) -> Int64s:
        """Return the pages that get the mark FAILED."""
        tries, pinned = self._tries, self._pages.pinned
        failing = tries.number - tries.success
        marked = np.zeros(len(pinned), dtype=np.bool_)
        if self._marks:
            place = np.arange(len(pinned))
            at = np.searchsorted(tries.end[:failing], place, side="right")
            marked = at < failing
            marked[marked] = tries.low.take(at[marked]) <= place[marked]
        elif self._finds:
            marked[tries.low[:failing]] = True
        return pinned[marked & ~self._failed]

    def in_batch(self) -> Int64s:
        """Return the pages that the last try left in the LRU batch, in the order of their putback."""
        last = self._tries.number - 1
        return NO_PAGES if last < 0 or self._tries.success else self._left(last)

    def counts(self) -> Int64s:
        """Return how many records each try leaves. The first one also drains what the LRU batch had before."""
        tries, generation, pages = self._tries, self._rules.generation, self._pages
        low, end, known = tries.low, tries.end, self._known
        count = np.bincount(self._moves, self._leaving(pages.movable), tries.number + 1).astype(np.int64)[:-1]
        if not self._rules.tracking:
            return count
        ones = np.ones(len(pages.pinned), dtype=np.int64)
        length = end - low
        before = self._before(ones, low, end, known)
        count += self._passes * self._before(pages.mapcount(pages.pinned), low, end, known)
        over = length // self._rules.mm.lru_batch * self._rules.mm.lru_batch
        middle = end - over  # the pages from here on are on the LRU again, the others are in the batch
        if self._marks:
            count += length + over
            if generation.failed_recorded != "never":
                count += length - before if generation.failed_recorded == "first" else length
        else:
            count += before + self._before(ones, middle, end, known)
        count[1:] += self._before(ones, low[:-1], middle[:-1], known[1:])
        if not pages.of_file and self._rules.mm.look_puts:
            count += self._before(ones, low, tries.high, known)
        if self._looks:
            fails = np.ones(tries.number, dtype=np.int64)
            fails[tries.number - tries.success :] = 0
            is_known = (length > 0) if self._marks else self._before(ones, low, np.minimum(low + 1, tries.high), known)
            count += fails * (1 - is_known if generation.busy_marks else is_known)
        return count

    def rows(self, number: int) -> Rows:
        """Return the records of a try, in order."""
        tries, pages = self._tries, self._pages
        first, low, end = (int(column[number]) for column in (tries.first, tries.low, tries.end))
        going = pages.movable[self._moves == number]
        parts: list[Rows] = []
        if number and self._rules.tracking:
            left = self._left(number - 1)
            left = left[self._is_failed(left, number)]
            parts.append(self._puts(left, Site.drain, first))
        if end > low:
            parts += self._batch(going, pages.pinned[low:end], number)
        else:
            parts += self._moving(going, number)
        if low < tries.high[number]:
            parts.append(self._last_look(low, end, number))
        return np.concatenate(parts) if parts else NO_ROWS

    def _before(self, weight: Int64s, begin: Int64s, end: Int64s, known: Int64s) -> Int64s:
        """Return the total weight of the pages from `begin` up to `end` that are marked before the tries."""
        total = np.concatenate([[0], np.cumsum(weight)])
        failed = np.concatenate([[0], np.cumsum(weight * self._failed)])
        cut = np.minimum(np.maximum(known, begin), end)
        counted: Int64s = total.take(cut) - total.take(begin) + failed.take(end) - failed.take(cut)
        return counted

    def _is_failed(self, pages: Int64s, number: int) -> Bools:
        """Tell which of these pinned pages of a try's range, or of the one before, are marked before the try."""
        place = np.searchsorted(self._pages.pinned, pages)
        is_failed: Bools = self._failed.take(place) | (place < self._known[number])
        return is_failed

    def _left(self, number: int) -> Int64s:
        """Return the pages that a try leaves in the LRU batch, the highest first."""
        low, end = int(self._tries.low[number]), int(self._tries.end[number])
        return self._pages.pinned[low : low + (end - low) % self._rules.mm.lru_batch][::-1]

    def _leaving(self, pages: Int64s) -> Int64s:
        """Return how many records the move of each page leaves."""
        failed, recorded = self._recorded(pages)
        return failed * (self._pages.mapcount(pages) + 1) + recorded

    def _recorded(self, pages: Int64s) -> tuple[Bools, Bools]:
        """Tell which pages leave a record when they drop a reference, and which when they are freed."""
        generation, failed = self._rules.generation, self._pages.failed(pages)
        recorded = np.zeros(len(pages), dtype=np.bool_)
        if Mark.FAILED in generation.freed_recorded:
            recorded |= failed
        if Mark.GET in generation.freed_recorded:
            recorded |= self._pages.marked(pages)
        # A clean page of a file is dropped, without a put.
        return failed & (self._rules.tracking and not self._pages.clean), recorded

    def _puts(self, pages: Int64s, site: Site, first: int) -> Rows:
        count, mapcount = self._pages.references(pages), self._pages.mapcount(pages)
        return rows(pages, RecordKind.PUT, site, Look.on_lru, first, count, mapcount)

    def _moves_of(self, order: Int64s, first: int) -> Rows:
        """Return the rows of pages that move, in this order."""
        failed, recorded = self._recorded(order)
        return moved_rows(self._pages, order, np.ones(len(order), dtype=np.bool_), failed, recorded, first)

    def _moving(self, going: Int64s, number: int) -> list[Rows]:
        """Return the rows of a try without a failing batch: pages that move, and pinned ones that are looked at."""
        tries, first = self._tries, int(self._tries.first[number])
        looked = NO_PAGES
        if not self._pages.of_file and self._rules.mm.look_puts and self._rules.tracking:
            low, high = int(tries.low[number]), int(tries.high[number])
            known = min(max(int(self._known[number]), low), high)
            failed = self._failed_at[slice(*np.searchsorted(self._failed_at, (known, high)))]
            looked = self._pages.pinned.take(np.concatenate([np.arange(low, known), failed]))
        batch_of = np.searchsorted(going, looked) // BATCH
        parts = []
        for batch, begin in enumerate(range(0, len(going), BATCH)):
            parts.append(self._puts(looked[batch_of == batch], Site.look, first))
            parts.append(self._moves_of(going[begin : begin + BATCH][::-1], first))
        parts.append(self._puts(looked[batch_of >= -(-len(going) // BATCH)], Site.look, first))
        return parts

    def _batch(self, going: Int64s, stay: Int64s, number: int) -> list[Rows]:
        """Return the rows of a try up to a failing batch, with these pages that move and that stay."""
        first, rules, generation = int(self._tries.first[number]), self._rules, self._rules.generation
        whole = int(np.searchsorted(going, stay[0])) // BATCH * BATCH
        parts = [self._moves_of(going[begin : begin + BATCH][::-1], first) for begin in range(0, whole, BATCH)]
        going, stay = going[whole:][::-1], stay[::-1]
        known = self._is_failed(stay, number)
        order = np.sort(np.concatenate([going, stay]))[::-1]
        goes = np.isin(order, going, assume_unique=True)
        failed, recorded = self._recorded(order)
        failed[~goes] = known & rules.tracking & (self._passes > 0)
        parts.append(moved_rows(self._pages, order, goes, failed, recorded, first))
        if not rules.tracking:
            return parts
        stays = np.zeros(len(stay), dtype=np.bool_)
        if known.any() and self._passes:
            again = moved_rows(self._pages, stay, stays, known, stays, first)
            parts.append(np.tile(again, self._passes - 1))
        if self._marks and generation.failed_recorded != "never":
            new = stay if generation.failed_recorded == "always" else stay[~known]
            count, mapcount = self._pages.references(new) + 1, self._pages.mapcount(new)
            parts.append(rows(new, RecordKind.DETECT, Site.mark, Look.off_lru, first, count, mapcount))
        parts.append(putback_rows(self._pages, stay, known | self._marks, rules.mm.lru_batch, first))
        return parts

    def _last_look(self, low: int, end: int, number: int) -> Rows:
        """Return the row of the first page that is not free, if it leaves one: imitates `test_pages_isolated`."""
        page = self._pages.pinned[low : low + 1]
        known = (self._marks and end > low) or bool(self._is_failed(page, number)[0])
        if not self._looks or not self._rules.tracking or known == self._rules.generation.busy_marks:
            return NO_ROWS
        in_batch = (end - low) % self._rules.mm.lru_batch > 0
        look = Look.off_lru if in_batch else Look.on_lru
        count, mapcount = self._pages.references(page) + in_batch, self._pages.mapcount(page)
        return rows(page, RecordKind.DETECT, Site.busy, look, int(self._tries.first[number]), count, mapcount)


NO_PAGES: Int64s = np.empty(0, dtype=np.int64)
