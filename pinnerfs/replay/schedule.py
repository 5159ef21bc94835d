"""When records entered their ring, as far as they tell."""

from __future__ import annotations

from collections.abc import Iterable

from pinnerfs.report.model import DumpRecord

__all__ = ["release_times"]


def release_times(records: Iterable[DumpRecord]) -> list[int]:
    """Return the time (µs) at which each record entered the ring, the oldest first. They never fall.

    A record with a boot time has its own. Else it is the least time that the durations allow: a record comes after the
    one before, and its page was pinned after the record before of that page. The duration of a PUT begins with the
    failure of its page.
    """
    times: list[int] = []
    now = 0
    last: dict[int, int] = {}  # by page frame
    failed: dict[int, int] = {}
    before: DumpRecord | None = None
    for record in records:
        if record.at_us is not None:
            now = max(now, record.at_us)
            if record.kind == "DETECT":
                failed.setdefault(record.pfn, now)
        elif record.kind == "PUT":
            began = failed.get(record.pfn)
            now = max(now + 1, 0 if began is None else began + (record.duration_us or 0))
        elif before is not None and "head" in record.flag_names and before.pfn == record.pfn:
            now += 1  # another frame of the same compound page, which prints the same page
        else:
            now = max(now + 1, last.get(record.pfn, 0) + (record.duration_us or 0))
        last[record.pfn] = now
        times.append(now)
        before = record
    return times
