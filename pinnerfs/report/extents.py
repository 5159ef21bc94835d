"""Ranges of pages, and how many pages a record is about."""

from __future__ import annotations

from collections.abc import Iterable

from pinnerfs.report.model import DumpRecord

__all__ = ["compound_pages", "most_records", "union"]

_HUGE = 512  # pages of 4 KiB in a transparent huge page of 2 MiB


def _is_huge(record: DumpRecord) -> bool:
    """Tell whether a record is about a transparent huge page.

    On these kernels no other compound page is on an LRU list, apart from the large folios of some file systems.
    """
    names = record.flag_names
    return "head" in names and record.pfn % _HUGE == 0 and ("lru" in names or "swapbacked" in names)


def most_records(record: DumpRecord) -> int:
    """Return how many records of this compound page one release can leave: its head is aligned to its size."""
    return _HUGE if _is_huge(record) else record.pfn & -record.pfn


def compound_pages(record: DumpRecord, records: int) -> int:
    """Return how many pages a compound page has, of which one event left this many records.

    A release of its pin, and its free after one, leave a record for each page. Some may be lost, so their number is
    rounded up to a power of two. Other events leave one record, which tells the size of a huge page only.
    """
    seen = 1 << (records - 1).bit_length() if record.kind in ("PIN", "FREE") else 1
    return max(seen, _HUGE) if _is_huge(record) else seen


def union(ranges: Iterable[tuple[int, int]]) -> int:
    """Return how many pages are in at least one of the ranges, each from its first page to behind its last."""
    total, reached = 0, -1
    for first, end in sorted(ranges):
        if end > reached:
            total += end - (first if first > reached else reached)
            reached = end
    return total
