"""Group the records of a capture into holds: one release of neighbouring pages is one hold, however many records."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pinnerfs.report.extents import compound_pages, most_records
from pinnerfs.report.model import Area, DumpRecord, Hold
from pinnerfs.report.naming import Name, Sites

__all__ = ["Group", "Places", "groups", "hold_of"]

# A release of many pages takes some µs for each of them.
_STEP_US = 20

_CMA_TYPES = ("CMA", "Isolate")  # a block is isolated while an allocation wants it


class Group(NamedTuple):
    """The records of one hold, in the order of the dump, and the name of their stack. head: a compound page."""

    name: Name
    records: list[DumpRecord]
    head: bool


def groups(records: Iterable[DumpRecord], sites: Sites) -> list[Group]:
    """Return the groups of neighbours that one release made."""
    found: list[Group] = []
    last: DumpRecord | None = None
    low = high = most = 0
    for record in records:
        if record is last or (last is not None and record.stack == last.stack and _same_release(record, last)):
            group = found[-1]
            # The frames of a compound page have the PFN of its head. A small page is released only once.
            is_same = record.pfn == low and len(group.records) != most
            if is_same if group.head else record.pfn in (high + 1, low - 1):
                group.records.append(record)
                low, high = min(low, record.pfn), max(high, record.pfn)
                last = record
                continue
        found.append(Group(sites.name(record.kind, record.stack), [record], "head" in record.flag_names))
        low = high = record.pfn
        most = most_records(record)
        last = record
    return found


def _same_release(record: DumpRecord, last: DumpRecord) -> bool:
    if record.dump != last.dump or record.kind != last.kind:
        return False
    if record.flags != last.flags and ("head" in record.flag_names) != ("head" in last.flag_names):
        return False
    if record.duration_us is not None and last.duration_us is not None:
        return abs(record.duration_us - last.duration_us) <= _STEP_US
    return record.at_us is not None and last.at_us is not None and abs(record.at_us - last.at_us) <= _STEP_US


class Places:
    """Where CMA is, as far as anything tells it."""

    def __init__(self, areas: Sequence[Area]) -> None:
        ordered = sorted((area.base_pfn, area.base_pfn + area.pages) for area in areas)
        self._begins = [begin for begin, _ in ordered]
        self._ends = [end for _, end in ordered]
        self._replaced = any(area.origin == "--cma" for area in areas)

    def in_cma(self, record: DumpRecord) -> bool | None:
        """Tell whether the page of a record is in CMA; None if nothing tells it."""
        if record.type is not None and not self._replaced:
            return record.type in _CMA_TYPES
        if not self._begins:
            return None
        at = bisect_right(self._begins, record.pfn) - 1
        return at >= 0 and record.pfn < self._ends[at]


def hold_of(group: Group, places: Places, duration_us: int | None, at_us: int | None) -> Hold:
    """Return the hold of a group, which lasted this long and ended at this boot time, as far as that is known."""
    first = group.records[0]
    if group.head:
        pages = compound_pages(first, len(group.records))
        in_cma = places.in_cma(first)
        cma_pages = None if in_cma is None else pages * in_cma
        blocks = _blocks(first, pages)
    else:
        known = [places.in_cma(record) for record in group.records]
        pages = len(known)
        cma_pages = None if None in known else known.count(True)
        blocks = tuple(sorted({record.block for record in group.records}))
    return Hold(
        key=group.name.key,
        kind=first.kind,
        pfn=min(record.pfn for record in group.records),
        pages=pages,
        records=len(group.records),
        blocks=blocks,
        cma_pages=cma_pages,
        duration_us=duration_us,
        at_us=at_us,
        end_us=at_us,
        compound=group.head,
    )


def _blocks(record: DumpRecord, pages: int) -> tuple[int, ...]:
    """Return the pageblocks of a compound page: more than one if it is larger than a block."""
    order = record.pfn.bit_length() - record.block.bit_length()  # block is pfn >> order
    return tuple(range(record.block, record.block + (max(1, pages >> order) if record.block else 1)))
