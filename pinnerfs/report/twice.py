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
_FEW = 2  # if they are a whole dump, and the end of another


def read_twice(records: Sequence[DumpRecord], sites: Sites) -> list[int]:
    """Return the places of records that repeat the ones right before them, or a run of an earlier dump.

    The frames of a compound page have equal records, and count as one. An allocation may drop equal references at one
    time. These do not count, except in a run with other records and in a whole dump.
    """
    marks = _marks(records)
    twice: list[int] = []
    last: dict[int, int] = {}  # where a text came last; the first of the records of a compound page
    at = tried = 0  # a run that was tried is not tried again from its middle
    while at < len(records):
        before = last.get(marks[at])
        run = 0
        if before is not None and _is_repeat(records, marks, before, at, sites):
            run = at - before
        elif before is not None and at >= tried and _may_be_long(records, before, at):
            run = _run(records, marks, before, at)
            tried = at + run
            different = {marks[place] for place in range(at, tried) if not _is_of_allocation(records[place], sites)}
            if len(different) < _enough(records, before, at, run):
                run = 0
        twice += range(at, at + run)
        for place in range(at, at + max(1, run)):
            if not _goes_on(records, marks, place):
                last[marks[place]] = place
        at += max(1, run)
    return twice


def _marks(records: Sequence[DumpRecord]) -> list[int]:
    """Return a number for each record, the same for equal texts."""
    known: dict[tuple[str, tuple[str, ...]], int] = {}
    marks: list[int] = []
    last = None
    for record in records:
        if record is last:
            marks.append(marks[-1])
            continue
        marks.append(known.setdefault((record.head, record.stack), len(known)))
        last = record
    return marks


def _goes_on(records: Sequence[DumpRecord], marks: Sequence[int], place: int) -> bool:
    """Tell whether a record is of the same compound page as the one before."""
    if not place or marks[place - 1] != marks[place]:
        return False
    return records[place - 1].dump == records[place].dump and "head" in records[place].flag_names


def _may_be_long(records: Sequence[DumpRecord], before: int, at: int) -> bool:
    """Tell whether the run from `before` to `at` has room for enough records."""
    return at - before >= _MANY or records[before].dump != records[at].dump


def _is_repeat(records: Sequence[DumpRecord], marks: Sequence[int], before: int, at: int, sites: Sites) -> bool:
    """Tell whether the records from `before` to `at` come again right behind, as one read that was shifted has them."""
    length = at - before
    return (
        length <= _MOST
        and _is_distinct(records[at], sites)
        and marks[before:at] == marks[at : at + length]
        and records[before].dump == records[at + length - 1].dump
        and all(_is_distinct(again, sites) for again in records[at : at + length])
    )


def _is_distinct(record: DumpRecord, sites: Sites) -> bool:
    return "head" not in record.flag_names and not _is_of_allocation(record, sites)


def _is_of_allocation(record: DumpRecord, sites: Sites) -> bool:
    return sites.name(record.kind, record.stack).role in ("allocator", "victim")


def _run(records: Sequence[DumpRecord], marks: Sequence[int], before: int, at: int) -> int:
    """Return how many records from `at` on equal those from `before` on, up to the end of either dump."""
    most = min(at - before, len(marks) - at)
    dumps = records[before].dump, records[at].dump
    for step in range(most):
        one, other = before + step, at + step
        if marks[one] != marks[other] or (records[one].dump, records[other].dump) != dumps:
            return step
    return most


def _enough(records: Sequence[DumpRecord], before: int, at: int, run: int) -> int:
    """Return how many different records a run must have to be no accident."""
    if records[before].dump == records[at].dump:
        return _MANY
    begins = [first == 0 or records[first - 1].dump != records[first].dump for first in (before, at)]
    ends = [first + run == len(records) or records[first + run].dump != records[first].dump for first in (before, at)]
    if all(ends) and all(begins):
        return 0
    # As long as the ring is not full, a later dump ends with the whole of an earlier one.
    return _FEW if all(ends) and any(begins) else _MANY
