"""The records of a round, in pieces that become the ring's records at its end."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.cma.chains import Site
from pinnerfs.kernel.cma.pages import AreaPages
from pinnerfs.kernel.page_pinner.layouts import RecordKind
from pinnerfs.kernel.page_pinner.ring import KINDS
from pinnerfs.kernel.pages import Int64s, concatenated_ranges

__all__ = ["NO_ROWS", "Look", "Rows", "joined", "moved_rows", "putback_rows", "rows"]

Bools = npt.NDArray[np.bool_]

Rows = npt.NDArray[np.void]


class Look(IntEnum):
    """What the flags of a page look like: on the LRU, off it, locked for its move, after the move, or free."""

    on_lru = 0
    off_lru = 1
    locked = 2
    left = 3
    free = 4


# A page by its place in the area, what is recorded of it, and the range that is tried.
ROW = np.dtype(
    [
        ("page", np.int64),
        ("count", np.int32),
        ("mapcount", np.int16),
        ("kind", np.uint8),
        ("site", np.uint8),
        ("look", np.uint8),
        ("first", np.int64),
    ]
)
NO_ROWS: Rows = np.empty(0, dtype=ROW)


def rows(
    pages: Int64s,
    kind: RecordKind,
    site: Site,
    look: Int64s | Look,
    first: Int64s | int,
    count: Int64s | int = 0,
    mapcount: Int64s | int = 0,
) -> Rows:
    """Return a row of one kind for each of these pages."""
    made: Rows = np.empty(len(pages), dtype=ROW)
    made["page"], made["count"], made["mapcount"] = pages, count, mapcount
    made["kind"], made["site"], made["look"], made["first"] = KINDS.index(kind), site, look, first
    return made


def joined(parts: Sequence[Rows]) -> Rows:
    """Return the rows one after the other."""
    # Without its type, numpy would compare the columns of all parts.
    return np.concatenate(parts, dtype=ROW) if parts else NO_ROWS


def moved_rows(pages: AreaPages, order: Int64s, goes: Bools, failed: Bools, recorded: Bools, first: int) -> Rows:
    """Return the rows of pages that are unmapped, and of those among them that go away, in the order given.

    failed: the pages whose dropped references are recorded. recorded: those whose free is.
    """
    puts = np.where(failed, pages.mapcount(order), 0)
    length = puts + (goes & failed) + (goes & recorded)
    which = np.repeat(np.arange(len(order)), length)
    place = concatenated_ranges(np.zeros_like(length), length)
    made = rows(order.take(which), RecordKind.PUT, Site.moved, Look.left, first)
    mapped = pages.mapcount(order).take(which) - 1 - place
    unmaps = place < puts.take(which)
    made["site"][unmaps] = Site.unmap_file if pages.of_file else Site.unmap_anon
    made["look"][unmaps] = Look.locked
    # The isolation holds a reference.
    count = pages.references(order).take(which) - place
    made["count"][unmaps], made["mapcount"][unmaps] = count[unmaps], mapped[unmaps]
    frees = (goes & recorded).take(which) & (place == length.take(which) - 1)
    made["kind"][frees] = KINDS.index(RecordKind.FREE)
    made["site"][frees] = Site.dropped if pages.clean else Site.freed
    made["look"][frees] = Look.free
    return made


@lru_cache(maxsize=256)
def _putback(number: int, batch: int) -> tuple[Int64s, Bools, Int64s, Bools]:
    """Return the rows of putback: the page, whether the batch drops it, a further reference, whether it is on the LRU.

    Each page goes into the batch, then the reference of its isolation is dropped. A full batch is emptied before that.
    """
    made: list[tuple[int, bool, int, bool]] = []
    for place in range(number):
        begin = place - place % batch
        if place % batch == batch - 1:
            made += [(page, True, int(page == place), True) for page in range(begin, place + 1)]
            made.append((place, False, 0, True))
        else:
            made.append((place, False, 1, False))
    page, drops, more, on_lru = zip(*made, strict=True)
    return np.array(page), np.array(drops), np.array(more), np.array(on_lru)


def putback_rows(pages: AreaPages, order: Int64s, failed: Bools, batch: int, first: int) -> Rows:
    """Return the rows of pages that are put back, in this order: imitates `putback_movable_pages`."""
    place, drops, more, on_lru = _putback(len(order), batch)
    page = order.take(place)
    made = rows(
        page, RecordKind.PUT, Site.putback, Look.off_lru, first, pages.references(page) + more, pages.mapcount(page)
    )
    made["site"][drops] = Site.overflow
    made["look"][on_lru] = Look.on_lru
    return made[failed.take(place)]
