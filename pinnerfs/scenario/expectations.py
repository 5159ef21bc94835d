"""The `[[expect]]` tables of a scenario file: which records must be there, and when."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from pinnerfs.kernel.page_pinner.records import RING_SIZE
from pinnerfs.scenario.distributions import Bounds
from pinnerfs.scenario.messages import shown
from pinnerfs.scenario.quantities import parse_time
from pinnerfs.scenario.tables import Measure, Table

__all__ = ["Expectation", "RecordBounds", "plays"]


class RecordBounds(Table, frozen=True):
    """The numbers of records from `min` to `max`, both included."""

    min: int = 0
    max: int = RING_SIZE


class Expectation(Table, frozen=True):
    """The records that longterm_pinner must show at a moment: all, or those of one call site."""

    at: Measure
    threshold: Measure | None = None
    since: Measure | None = None
    call_site: str | None = None
    records: int | RecordBounds = RecordBounds(min=1)
    ts: Measure | Bounds | None = None

    def __post_init__(self) -> None:
        at = parse_time("at", self.at)
        if self.threshold is not None:
            parse_time("threshold", self.threshold)
        if self.since is not None:
            if self.threshold is None:
                raise ValueError(f"since = {self.since!r} is when `threshold` is written: add the `threshold`")
            if parse_time("since", self.since) > at:
                raise ValueError(f"since = {self.since!r} is after at = {self.at!r}")
        if self.call_site == "":
            raise ValueError("call_site is empty: it must be a symbol, or leave it out")
        low, high = self.record_bounds
        if not 0 <= low <= high <= RING_SIZE:
            came = shown(low) if low == high else f"{{ min = {shown(low)}, max = {shown(high)} }}"
            limits = f"must be from 0 to {RING_SIZE}, the size of the ring, with min at most max"
            raise ValueError(f"records = {came} {limits}")
        if self.ts_bounds is None and (low, high) == (0, RING_SIZE):
            raise ValueError(f"records = {{ min = 0, max = {RING_SIZE} }} is always true: narrow it, or add a `ts`")
        if self.ts_bounds is not None and high == 0:
            raise ValueError("ts is about records, and there must be none: leave it out")

    @property
    def moment(self) -> int:
        """Return the moment of the look, in µs."""
        return parse_time("at", self.at)

    @property
    def written(self) -> tuple[int, int] | None:
        """Return when a threshold is written and which, both in µs; None to keep the scenario's own."""
        if self.threshold is None:
            return None
        since = 0 if self.since is None else parse_time("since", self.since)
        return since, parse_time("threshold", self.threshold)

    @property
    def record_bounds(self) -> tuple[int, int]:
        """Return the smallest and the largest number of records."""
        if isinstance(self.records, int):
            return self.records, self.records
        return self.records.min, self.records.max

    @property
    def ts_bounds(self) -> tuple[int, int] | None:
        """Return the smallest and the largest ts of each record, in µs; None to accept any."""
        if self.ts is None:
            return None
        if isinstance(self.ts, Bounds):
            return self.ts.read("ts")
        exactly = parse_time("ts", self.ts)
        return exactly, exactly

    def when(self) -> str:
        """Return the moment of the look in words."""
        if self.threshold is None:
            return f"at {self.at}"
        return f"at {self.at}, threshold {self.threshold} since {self.since or 'the start'}"

    def wanted(self) -> str:
        """Return in words which records must be there."""
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


def plays(expectations: Sequence[Expectation]) -> dict[tuple[int, int] | None, list[int]]:
    """Return which expectations are checked by the same play, by the threshold that is written: see `written`.

    The expectations are given by their numbers, in the order of their moments.
    """
    numbers: dict[tuple[int, int] | None, list[int]] = defaultdict(list)
    for number in sorted(range(len(expectations)), key=lambda number: expectations[number].moment):
        numbers[expectations[number].written].append(number)
    return dict(numbers)
