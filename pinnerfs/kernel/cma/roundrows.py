"""The records of a round, in order.

Imitates `__alloc_contig_migrate_range` and `test_pages_isolated`. Only tries whose records the ring keeps need it.
"""

from __future__ import annotations

import numpy as np

from pinnerfs.kernel.cma.chains import Site
from pinnerfs.kernel.cma.rounds import Round
from pinnerfs.kernel.cma.rows import NO_ROWS, Look, Rows, joined, moved_rows, putback_rows, rows
from pinnerfs.kernel.cma.tries import BATCH
from pinnerfs.kernel.page_pinner.layouts import RecordKind
from pinnerfs.kernel.pages import Int64s, concatenated_ranges

__all__ = ["RoundRows"]


class RoundRows:
    """The records of a round's tries."""

    def __init__(self, outcome: Round) -> None:
        self._round = outcome
        self._pages, self._tries, self._rules = outcome.pages, outcome.tries, outcome.rules
        # The pages that move, and the try that moves each: a higher page moves no earlier.
        moves = outcome.moves < outcome.tries.number
        self._moving_pages, self._mover = outcome.pages.movable[moves], outcome.moves[moves]

    def rows(self, numbers: Int64s) -> Rows:
        """Return the records of these tries, in order."""
        # Pinned anonymous pages are only looked at. Tries that move nothing do no more, and are made all at once.
        alone = ~np.isin(numbers, self._mover) & (not self._pages.of_file)
        parts: list[Rows] = []
        for run in np.split(np.arange(len(numbers)), np.flatnonzero(np.diff(alone)) + 1):
            if alone[run].all():
                parts.append(self._looks(numbers.take(run)))
            else:
                parts += [self._try(int(number)) for number in numbers.take(run)]
        return joined(parts)

    def _looks(self, numbers: Int64s) -> Rows:
        """Return the records of tries in which nothing moves: pinned anonymous pages are looked at."""
        looked, owner = self._looked(numbers)
        found, finder = self._last_look(numbers)
        order = np.argsort(np.concatenate([owner, finder]), kind="stable")
        made = joined([self._puts(looked, Site.look, self._tries.first.take(owner)), found])
        return made.take(order)

    def _try(self, number: int) -> Rows:
        """Return the records of one try."""
        tries, pages = self._tries, self._pages
        first, low, end = (int(column[number]) for column in (tries.first, tries.low, tries.end))
        begin, stop = np.searchsorted(self._mover, [number, number + 1])
        going = self._moving_pages[begin:stop]
        parts: list[Rows] = []
        if number and self._rules.tracking:
            left = self._round.left(number - 1)
            left = left[self._round.is_failed(left, number)]
            parts.append(self._puts(left, Site.drain, first))
        if end > low:
            parts += self._batch(going, pages.pinned[low:end], number)
        else:
            parts += self._moving(going, number)
        parts.append(self._last_look(np.array([number]))[0])
        return joined(parts)

    def _puts(self, pages: Int64s, site: Site, first: Int64s | int) -> Rows:
        count, mapcount = self._pages.references(pages), self._pages.mapcount(pages)
        return rows(pages, RecordKind.PUT, site, Look.on_lru, first, count, mapcount)

    def _moves_of(self, order: Int64s, first: int) -> Rows:
        """Return the rows of pages that move, in this order."""
        failed, recorded = self._round.recorded(order)
        return moved_rows(self._pages, order, np.ones(len(order), dtype=np.bool_), failed, recorded, first)

    def _looked(self, numbers: Int64s) -> tuple[Int64s, Int64s]:
        """Return the marked pages that tries look at and leave, and the try of each, in order."""
        if self._pages.of_file or not self._rules.mm.look_puts or not self._rules.tracking:
            return NO_PAGES, NO_PAGES
        low, high = self._tries.low.take(numbers), self._tries.high.take(numbers)
        known, failed_at = np.clip(self._round.known.take(numbers), low, high), self._round.failed_at
        begin, end = np.searchsorted(failed_at, known), np.searchsorted(failed_at, high)
        places = [concatenated_ranges(low, known - low), failed_at.take(concatenated_ranges(begin, end - begin))]
        owner = np.concatenate([np.repeat(numbers, known - low), np.repeat(numbers, end - begin)])
        order = np.argsort(owner, kind="stable")
        return self._pages.pinned.take(np.concatenate(places).take(order)), owner.take(order)

    def _moving(self, going: Int64s, number: int) -> list[Rows]:
        """Return the rows of a try without a failing batch: pages that move, and pinned ones that are looked at."""
        first = int(self._tries.first[number])
        looked, _ = self._looked(np.array([number]))
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
        passes, marks = self._round.passes, self._round.marks
        whole = int(np.searchsorted(going, stay[0])) // BATCH * BATCH
        parts = [self._moves_of(going[begin : begin + BATCH][::-1], first) for begin in range(0, whole, BATCH)]
        going, stay = going[whole:][::-1], stay[::-1]
        known = self._round.is_failed(stay, number)
        order = np.sort(np.concatenate([going, stay]))[::-1]
        goes = np.isin(order, going, assume_unique=True)
        failed, recorded = self._round.recorded(order)
        failed[~goes] = known & rules.tracking & (passes > 0)
        parts.append(moved_rows(self._pages, order, goes, failed, recorded, first))
        if not rules.tracking:
            return parts
        stays = np.zeros(len(stay), dtype=np.bool_)
        if known.any() and passes:
            again = moved_rows(self._pages, stay, stays, known, stays, first)
            parts.append(np.tile(again, passes - 1))
        if marks and generation.failed_recorded != "never":
            new = stay if generation.failed_recorded == "always" else stay[~known]
            count, mapcount = self._pages.references(new) + 1, self._pages.mapcount(new)
            parts.append(rows(new, RecordKind.DETECT, Site.mark, Look.off_lru, first, count, mapcount))
        parts.append(putback_rows(self._pages, stay, known | marks, rules.mm.lru_batch, first))
        return parts

    def _last_look(self, numbers: Int64s) -> tuple[Rows, Int64s]:
        """Return a row of the first page that is not free, if it leaves one, and its try: `test_pages_isolated`."""
        tries, generation = self._tries, self._rules.generation
        if not self._round.looks or not self._rules.tracking:
            return NO_ROWS, NO_PAGES
        numbers = numbers[tries.low.take(numbers) < tries.high.take(numbers)]
        low = tries.low.take(numbers)
        page, batch = self._pages.pinned.take(low), tries.end.take(numbers) - low
        known = self._round.is_failed(page, numbers) | (self._round.marks & (batch > 0))
        leaves = known != generation.busy_marks
        numbers, page, in_batch = numbers[leaves], page[leaves], batch[leaves] % self._rules.mm.lru_batch > 0
        look = np.where(in_batch, Look.off_lru, Look.on_lru)
        count, mapcount = self._pages.references(page) + in_batch, self._pages.mapcount(page)
        return rows(page, RecordKind.DETECT, Site.busy, look, tries.first.take(numbers), count, mapcount), numbers


NO_PAGES: Int64s = np.empty(0, dtype=np.int64)
