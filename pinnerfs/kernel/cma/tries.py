"""The ranges that a round of an allocation tries, and how far each try gets.

A round tries one range after the other, each a step further, until one can be emptied. Nothing but the round itself
happens meanwhile. So which tries fail, and at which pages, follows from the pages that the round finds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pinnerfs.kernel.cma.pages import AreaFrames, AreaPages
from pinnerfs.kernel.pages import Int64s

__all__ = ["BATCH", "Tries", "find_tries"]

BATCH = 32  # COMPACT_CLUSTER_MAX: the pages that an attempt collects before it moves them

MORE = 64  # only one range is looked at first, and so many times more next, until one is free of pins


class Tries(NamedTuple):
    """The tries of a round, in order. All of them fail but perhaps the last one.

    Pages are counted from the area's base. Pinned pages are told by their place in the list of all pinned pages.

    first: the first page of each range.
    low, high: the first pinned page of the range, and the one after its last.
    end: the one after the last pinned page of the batch that fails; `low` if no batch fails.
    scanned: the page after the last one that the try collects or moves.
    success: whether the last try succeeds.
    """

    first: Int64s
    low: Int64s
    high: Int64s
    end: Int64s
    scanned: Int64s
    success: bool

    @property
    def number(self) -> int:
        """Return the number of tries."""
        return len(self.first)

    def try_of(self, pages: Int64s) -> Int64s:
        """Return the try that moves each of these movable pages, or the number of tries for a page that stays."""
        found = np.searchsorted(self.scanned, pages, side="right")
        reached = found < self.number
        reached[reached] = self.first.take(found[reached]) <= pages[reached]
        return np.where(reached, found, self.number)


def find_tries(frames: AreaFrames, pages: int, align: int, skip: int | None) -> tuple[AreaPages, Tries]:
    """Return the tries of a round for so many pages, aligned to 2**align, and the pages that they may meet.

    There is a place for so many pages. Pinned pages of a file are collected in batches, anonymous ones are left.
    skip: after a try that failed, the next range starts at a multiple of so many pages, behind the page that stayed.
    """
    area, most = frames.area, 1
    while True:
        bits, complete = area.places(pages, align, most)
        first = bits << area.order_per_bit
        found = AreaPages(frames, int(first[0]), int(first[-1] - first[0]) + pages)
        pinned, movable = found.pinned, found.movable
        low, high = np.searchsorted(pinned, first), np.searchsorted(pinned, first + pages)
        clean = np.flatnonzero(low == high)
        if complete or (len(clean) and skip is None):
            break
        most *= MORE
    success = len(clean) > 0
    if success and skip is None:
        first, low, high = (column[: clean[0] + 1] for column in (first, low, high))
    end = np.minimum(low + BATCH, high) if found.of_file else low
    scanned = np.where(end - low == BATCH, pinned[end - 1] + 1 if len(pinned) else 0, first + pages)
    tries = Tries(first, low, high, end, scanned, success)
    if skip is not None or (found.of_file and len(movable)):
        tries = _followed(tries, pages, found, skip)
    return found, tries


def _followed(tries: Tries, pages: int, found: AreaPages, skip: int | None) -> Tries:
    """Return the tries with the batches as the movable pages fill them.

    A try moves the pages before its failing batch and those in it. The next try collects further ones instead.
    """
    pinned, movable, base_pfn = found.pinned, found.movable, found.area.base_pfn
    used = np.sort(np.concatenate([pinned, movable]))
    is_pinned = np.zeros(len(used) + 1, dtype=np.int64)
    is_pinned[1:] = np.isin(used, pinned, assume_unique=True)
    before: list[int] = np.cumsum(is_pinned).tolist()  # pinned pages before each used page
    place: list[int] = np.searchsorted(used, pinned).tolist()
    followed = np.arange(tries.number)
    if skip is None:
        # The other tries meet no movable page, and collect pinned ones alone.
        followed = np.flatnonzero(np.searchsorted(movable, tries.scanned) > np.searchsorted(movable, tries.first))
    first, low, high = (column.take(followed) for column in tries[:3])
    begin, stop = np.searchsorted(used, first), np.searchsorted(used, first + pages)
    # A try that comes after others begins where the last of them stopped, if that is behind its first page.
    after_others = np.diff(followed, prepend=-1) > 1
    collected = tries.scanned.take(followed[after_others] - 1)
    begin[after_others] = np.maximum(begin[after_others], np.searchsorted(used, collected))
    columns = (column.tolist() for column in (followed, first, low, high, begin, stop))
    last_movable = int(np.searchsorted(used, movable[-1])) if len(movable) else -1
    reached = 0  # the used pages before this one have been collected
    kept, ends, scans = list[int](), list[int](), list[int]()
    wanted = 0
    for number, at, lowest, highest, begins, stops in zip(*columns, strict=True):
        if skip is None and reached > last_movable:
            break
        if at < wanted:
            continue
        reached = max(reached, begins)
        if lowest == highest:
            reached, last, wanted = stops, lowest, found.area.pages
        elif not found.of_file:
            reached, last, stayed = stops, lowest, lowest
        else:
            ahead = place[lowest] - reached
            if ahead > 0:
                reached = min(reached + ahead // BATCH * BATCH + BATCH, stops)
            else:
                reached = min(reached + BATCH - (before[reached] - lowest), stops)
            last = before[reached]
            stayed = last - 1
        if skip is not None and lowest < highest:
            pfn = base_pfn + int(pinned[stayed]) + 1
            wanted = -(-pfn // skip) * skip - base_pfn
        kept.append(number)
        ends.append(last)
        scans.append(at + pages if reached == stops else int(used[reached - 1]) + 1)
    ended, scanned = tries.end.copy(), tries.scanned.copy()
    ended[kept], scanned[kept] = ends, scans
    tries = tries._replace(end=ended, scanned=scanned)
    if skip is not None:
        first, low, high, ended, scanned = (column.take(kept) for column in tries[:5])
        tries = Tries(first, low, high, ended, scanned, bool(low[-1] == high[-1]))
    return tries._replace(scanned=np.maximum.accumulate(tries.scanned))
