"""How long a hold lasted and when it ended, as far as the records tell."""

from __future__ import annotations

from collections.abc import Sequence

from pinnerfs.report.model import DumpRecord

__all__ = ["Times"]

_UPTIME = "pixel-5.10"


class Times:
    """The times of a capture's records.

    pixel-5.10 forgets the time of a pin when put_user_page releases it. A PUT record of such a page then shows the
    uptime and not a duration: it is later than all older records, and not later than the newer ones.
    """

    def __init__(self, records: Sequence[DumpRecord], generation: str) -> None:
        shown = _uptimes(records) if _UPTIME in generation.split("|") else []
        # Equal records that are neighbours may be one object. Then all of them show the uptime, or none.
        self._uptimes = set(map(id, shown))
        # pixel-5.10 measures from the pin, if there was one.
        self._failed = {} if generation == _UPTIME else _failures(records)
        self.uptimes = len(shown)

    def of(self, records: Sequence[DumpRecord]) -> tuple[int | None, int | None]:
        """Return how long a hold lasted, and the boot time of its end."""
        first = records[0]
        durations = [record.duration_us for record in records if record.duration_us is not None]
        if not durations:
            return None, max((record.at_us for record in records if record.at_us is not None), default=None)
        longest = max(durations)
        if first.kind != "PUT":
            return longest, None
        if id(first) in self._uptimes:
            return None, longest
        failed = self._failed.get(id(first))
        return longest, None if failed is None else failed + longest


def _failures(records: Sequence[DumpRecord]) -> dict[int, int]:
    """Return when the migration of a page failed for the first time, by the ids of the PUT records after that.

    A free ends it: the page frame is used again.
    """
    found: dict[int, int] = {}
    failed: dict[tuple[int, int], int] = {}
    for record in reversed(records):
        page = record.dump, record.pfn
        if record.kind == "DETECT" and record.at_us is not None:
            failed.setdefault(page, record.at_us)
        elif record.kind == "PUT" and page in failed:
            found[id(record)] = failed[page]
        elif record.kind == "FREE":
            failed.pop(page, None)
    return found


def _uptimes(records: Sequence[DumpRecord]) -> list[DumpRecord]:
    """Return the PUT records that show the uptime."""
    found: list[DumpRecord] = []
    newer: list[int | None] = []  # for each record, the boot time of the next newer one that has one
    at: int | None = None
    for record in records:
        newer.append(at)
        at = record.at_us if record.at_us is not None else at
    older: int | None = None
    for record, limit in zip(reversed(records), reversed(newer), strict=True):
        if record.at_us is not None:
            older = record.at_us
        elif record.kind == "PUT" and older is not None and older < (record.duration_us or 0) <= (limit or 1 << 63):
            found.append(record)
    return found
