"""What the findings and the answer of a report are drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pinnerfs.report.blame import Blame
from pinnerfs.report.model import Capture, Hold, Site

__all__ = ["Evidence"]


class Evidence(NamedTuple):
    """What the findings look at. durations: of the long-term pins, sorted. twice: records that were read twice.

    uptimes: PUT records that show the uptime.
    """

    capture: Capture
    holds: tuple[Hold, ...]
    blame: Blame
    ring_full: bool
    threshold_us: int | None
    durations: Sequence[int]
    twice: int
    uptimes: int

    @property
    def records(self) -> int:
        """Return how many records there are."""
        return len(self.capture.records)

    def of(self, *roles: str) -> list[Site]:
        """Return the sites with one of these roles."""
        return [site for site in self.blame.sites if site.role in roles]
