"""Find records that a reader saw twice.

Each record that comes while it reads shifts the ring by one under it. Dumps of one ring that were taken one after
another, or the same dump given twice, have whole runs of records in common.
"""

from __future__ import annotations

from collections.abc import Sequence

from pinnerfs.report.model import DumpRecord
from pinnerfs.report.naming import Sites

__all__ = ["read_twice"]

# So many records can come between two reads.
_MOST = 64
# So many different records do not come again in the same order by chance.
_MANY = 16


def read_twice(records: Sequence[DumpRecord], sites: Sites) -> list[int]:
    """Return the places of records that repeat the ones right before them, or a run of an earlier dump.

    The frames of a compound page have equal records, and an allocation may drop equal references at one time. These do
    not count, except in a run with other records and in a whole dump.
    """
    known: dict[tuple[str, tuple[str, ...]], int] = {}
    marks = [known.setdefault((record.head, record.stack), len(known)) for record in records]
    twice: list[int] = []
    last: dict[int, int] = {}
    at = tried = 0  # a run that was tried is not tried again from its middle
    while at < len(records):
        before = last.get(marks[at])
        run = 0
        if before is not None and _is_repeat(records, marks, before, at, sites):
            run = at - before
        elif before is not None and at >= tried:
            run = _run(marks, before, at)
            tried = at + run
            different = {marks[place] for place in range(at, tried) if _is_distinct(records[place], sites)}
            if len(different) < _MANY and not _is_whole(records, before, at, run):
                run = 0
        twice += range(at, at + run)
        for place in range(at, at + max(1, run)):
            last[marks[place]] = place
        at += max(1, run)
    return twice


def _is_repeat(records: Sequence[DumpRecord], marks: Sequence[int], before: int, at: int, sites: Sites) -> bool:
    """Tell whether the records from `before` to `at` come again right behind, as one read that was shifted has them."""
    length = at - before
    return (
        length <= _MOST
        and marks[before:at] == marks[at : at + length]
        and records[before].dump == records[at + length - 1].dump
        and all(_is_distinct(again, sites) for again in records[at : at + length])
    )


def _is_distinct(record: DumpRecord, sites: Sites) -> bool:
    role = sites.name(record.kind, record.stack).role
    return "head" not in record.flag_names and role not in ("allocator", "victim")


def _run(marks: Sequence[int], before: int, at: int) -> int:
    """Return how many records from `at` on equal those from `before` on."""
    most = min(at - before, len(marks) - at)
    return next((step for step in range(most) if marks[before + step] != marks[at + step]), most)


def _is_whole(records: Sequence[DumpRecord], before: int, at: int, run: int) -> bool:
    """Tell whether a run is a whole dump, and equal to a whole dump."""
    return (
        all(
            (first == 0 or records[first - 1].dump != records[first].dump)
            and records[first].dump == records[first + run - 1].dump
            and (first + run == len(records) or records[first + run].dump != records[first].dump)
            for first in (before, at)
        )
        and records[before].dump != records[at].dump
    )
