"""Find records that a reader saw twice. Each record that comes while it reads shifts the ring by one under it."""

from __future__ import annotations

from collections.abc import Sequence

from pinnerfs.report.model import DumpRecord
from pinnerfs.report.naming import Sites

__all__ = ["read_twice"]

# So many records can come between two reads.
_MOST = 64


def read_twice(records: Sequence[DumpRecord], sites: Sites) -> list[int]:
    """Return the places of records that repeat the ones right before them.

    The frames of a compound page have equal records, and an allocation may drop equal references at one time. These do
    not count.
    """
    twice: list[int] = []
    last: dict[tuple[str, tuple[str, ...]], int] = {}
    at = 0
    while at < len(records):
        record = records[at]
        mark = (record.head, record.stack)
        before = last.get(mark)
        last[mark] = at
        length = at - before if before is not None else 0
        if (
            before is not None
            and length <= _MOST
            and _same(records, before, at, length)
            and all(_is_distinct(again, sites) for again in records[at : at + length])
        ):
            twice += range(at, at + length)
            at += length
        else:
            at += 1
    return twice


def _is_distinct(record: DumpRecord, sites: Sites) -> bool:
    role = sites.name(record.kind, record.stack).role
    return "head" not in record.flag_names and role not in ("allocator", "victim")


def _same(records: Sequence[DumpRecord], first: int, second: int, length: int) -> bool:
    """Tell whether two runs of records are equal and of one dump."""
    if second + length > len(records) or records[first].dump != records[second + length - 1].dump:
        return False
    return all(
        records[first + step].head == records[second + step].head
        and records[first + step].stack == records[second + step].stack
        for step in range(length)
    )
