"""What a scenario promises of its records: the `[[expect]]` tables, and their words."""

from __future__ import annotations

from pinnerfs.kernel.page_pinner.records import RING_SIZE
from pinnerfs.scenario.distributions import Bounds
from pinnerfs.scenario.quantities import parse_time
from pinnerfs.scenario.tables import Table, Time

__all__ = ["Expectation", "RecordBounds"]


class RecordBounds(Table, frozen=True):
    """From `min` to `max` records, both included."""

    min: int = 0
    max: int = RING_SIZE


class Expectation(Table, frozen=True):
    """What longterm_pinner holds at a moment; perhaps of one call site alone, perhaps under another threshold."""

    at: Time
    threshold: Time | None = None
    since: Time | None = None
    call_site: str | None = None
    records: int | RecordBounds = RecordBounds(min=1)
    ts: Time | Bounds | None = None

    def __post_init__(self) -> None:
        at = parse_time("at", self.at)
        if self.threshold is not None:
            parse_time("threshold", self.threshold)
        if self.since is not None:
            if self.threshold is None:
                raise ValueError(f"since = {self.since!r} must stand beside the `threshold` that is written then")
            if parse_time("since", self.since) > at:
                raise ValueError(f"since = {self.since!r} lies behind at = {self.at!r}")
        low, high = self.record_bounds
        if not 0 <= low <= high <= RING_SIZE:
            came = str(self.records) if isinstance(self.records, int) else f"{{ min = {low}, max = {high} }}"
            raise ValueError(f"records = {came} must lie from 0 to {RING_SIZE}, what the ring holds, and min up to max")
        if self.ts_bounds is None and (low, high) == (0, RING_SIZE):
            raise ValueError(f"records = {{ min = 0, max = {RING_SIZE} }} always holds: narrow it, or want a `ts`")
        if self.ts_bounds is not None and high == 0:
            raise ValueError("ts goes with records: leave it out where there are to be none")

    @property
    def moment(self) -> int:
        """When to look, in µs."""
        return parse_time("at", self.at)

    @property
    def written(self) -> tuple[int, int] | None:
        """When which threshold is written before, both in µs; None if it stays the scenario's own."""
        if self.threshold is None:
            return None
        since = 0 if self.since is None else parse_time("since", self.since)
        return since, parse_time("threshold", self.threshold)

    @property
    def record_bounds(self) -> tuple[int, int]:
        """How few and how many records there may be."""
        if isinstance(self.records, int):
            return self.records, self.records
        return self.records.min, self.records.max

    @property
    def ts_bounds(self) -> tuple[int, int] | None:
        """How short and how long each may have been pinned, in µs."""
        if self.ts is None:
            return None
        if isinstance(self.ts, Bounds):
            return self.ts.read("ts")
        exactly = parse_time("ts", self.ts)
        return exactly, exactly

    def when(self) -> str:
        """When to look, in words."""
        if self.threshold is None:
            return f"at {self.at}"
        return f"at {self.at}, threshold {self.threshold} since {self.since or 'the start'}"

    def wanted(self) -> str:
        """What is to be found, in words."""
        low, high = self.record_bounds
        count = f"{low} to {high}"
        if low == high:
            count = str(low or "no")
        elif high == RING_SIZE:
            count = f"at least {low}"
        words = f"{count} record{'' if low == 1 and high in (1, RING_SIZE) else 's'}"
        if self.call_site is not None:
            words += f" of {self.call_site}"
        if isinstance(self.ts, Bounds):
            words += f", each ts {self.ts.min} to {self.ts.max}"
        elif self.ts is not None:
            words += f", each ts {self.ts}"
        return words
