"""Page flags and migratetypes by name. Imitates `struct page` of android12-5.10.

Does not import numpy, as `pinnerfs show` and `pinnerfs check` must start without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

__all__ = [
    "PAGE_FLAG_BITS",
    "PAGE_HEAD",
    "PAGE_LRU",
    "PAGE_SIZE",
    "ZONE_SHIFT",
    "Migratetype",
    "page_flag_names",
    "page_flags",
]

PAGE_SIZE = 4096

# In the order of printing (include/trace/events/mmflags.h, 5.10), which is not that of the bits.
PAGE_FLAG_BITS = {
    "locked": 0,
    "waiters": 7,
    "error": 8,
    "referenced": 1,
    "uptodate": 2,
    "dirty": 3,
    "lru": 4,
    "active": 5,
    "workingset": 6,
    "slab": 9,
    "owner_priv_1": 10,
    "arch_1": 11,
    "reserved": 12,
    "private": 13,
    "private_2": 14,
    "writeback": 15,
    "head": 16,
    "mappedtodisk": 17,
    "reclaim": 18,
    "swapbacked": 19,
    "unevictable": 20,
    "mlocked": 21,
}
PAGE_HEAD = 1 << PAGE_FLAG_BITS["head"]
PAGE_LRU = 1 << PAGE_FLAG_BITS["lru"]
ZONE_SHIFT = 62


class Migratetype(IntEnum):
    """A pageblock's type on Android, by the name that the kernel prints."""

    Unmovable = 0
    Movable = 1
    Reclaimable = 2
    CMA = 3
    HighAtomic = 4
    Isolate = 5


def page_flags(names: Sequence[str], zone: int = 0) -> int:
    """Return `page->flags` with these flags set, in zone 0 to 3. Raise KeyError for an unknown flag."""
    value = zone << ZONE_SHIFT
    for name in names:
        value |= 1 << PAGE_FLAG_BITS[name]
    return value


def page_flag_names(flags: int) -> str:
    """Return the names of the flags that are set, joined by `|` as `%pGp` prints them, or ""."""
    return "|".join(name for name, bit in PAGE_FLAG_BITS.items() if flags >> bit & 1)
