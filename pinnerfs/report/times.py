"""How long a hold lasted and when it ended, as far as the records tell."""

from __future__ import annotations

from collections.abc import Sequence

from pinnerfs.report.model import DumpRecord

__all__ = ["Times"]

_UPTIME = "pixel-5.10"


class Times:
    """The times of a capture's records.

    pixel-5.10 forgets the time of a pin when put_user_page releases it. A PUT record of such a page then shows the
    uptime and not a duration. No duration is longer than the time since the first failure of the page.
    """

    def __init__(self, records: Sequence[DumpRecord], generation: str) -> None:
        self._detected: dict[int, int] = {}
        earliest: int | None = None
        for record in records:
            if record.at_us is None:
                continue
            earliest = record.at_us if earliest is None else min(earliest, record.at_us)
            if record.kind == "DETECT":
                # Newest first, so this ends with the oldest: the kernel measures from the first failure.
                self._detected[record.pfn] = record.at_us
        self._uptime_from = earliest if _UPTIME in generation.split("|") else None
        self.uptimes = 0

    def of(self, records: Sequence[DumpRecord]) -> tuple[int | None, int | None]:
        """Return how long a hold lasted, and the boot time of its end."""
        first = records[0]
        durations = [record.duration_us for record in records if record.duration_us is not None]
        if not durations:
            return None, max((record.at_us for record in records if record.at_us is not None), default=None)
        longest = max(durations)
        if first.kind != "PUT":
            return longest, None
        if self._uptime_from is not None and longest >= self._uptime_from:
            self.uptimes += len(records)
            return None, longest
        detected = self._detected.get(first.pfn)
        return longest, None if detected is None else detected + longest
