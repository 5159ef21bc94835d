"""The `[[expect]]` tables of a scenario file: which records must be there, and when."""

# Annotations are not postponed: msgspec would compile each one again in every process.

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

from pinnerfs.kernel.page_pinner.generations import GENERATIONS, Generation
from pinnerfs.kernel.page_pinner.layouts import RING_SIZE, RecordKind
from pinnerfs.scenario.distributions import Bounds
from pinnerfs.scenario.messages import listed, nearest, shown
from pinnerfs.scenario.quantities import parse_time
from pinnerfs.scenario.tables import Measure, Table

__all__ = ["AllocCounts", "Expectation", "NumberBounds", "RecordBounds", "check_kernel", "plays"]

MAX_NUMBER = (1 << 31) - 1


class RecordBounds(Table, frozen=True):
    """The numbers of records from `min` to `max`, both included."""

    min: int = 0
    max: int = RING_SIZE


class NumberBounds(Table, frozen=True):
    """Numbers from `min` to `max`, both included."""

    min: int = 0
    max: int = MAX_NUMBER


class AllocCounts(Table, frozen=True):
    """How many allocations got their pages and how many failed: of one alloc, or of all."""

    name: str | None = None
    got: int | NumberBounds | None = None
    failed: int | NumberBounds | None = None

    def __post_init__(self) -> None:
        if not self.bounds:
            raise ValueError("allocs has no number: it must have one or both of `got` and `failed`")

    @property
    def bounds(self) -> dict[str, tuple[int, int]]:
        """Return the smallest and the largest number of each outcome that is given."""
        counts = {"got": self.got, "failed": self.failed}
        return {name: _bounds(f"allocs.{name}", count) for name, count in counts.items() if count is not None}

    def wanted(self) -> str:
        """Return the numbers in words."""
        parts = [f"{_to(bounds)} {outcome}" for outcome, bounds in self.bounds.items()]
        return f"allocations{'' if self.name is None else f' of {self.name}'}: {', '.join(parts)}"


ANY_RECORDS = RecordBounds(min=1)


class Expectation(Table, frozen=True):
    """What must be there at a moment: the records of a file, perhaps of one kind or call site; or allocations."""

    at: Measure
    kernel: str | None = None
    file: str | None = None
    kind: Literal["PUT", "FREE", "DETECT"] | None = None
    threshold: Measure | None = None
    since: Measure | None = None
    call_site: str | None = None
    records: int | RecordBounds = ANY_RECORDS
    ts: Measure | Bounds | None = None
    count: int | NumberBounds | None = None
    mapcount: int | NumberBounds | None = None
    allocs: AllocCounts | None = None

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
        if self.allocs is not None:
            self._check_no_records()
            return
        low, high = self.record_bounds
        if not 0 <= low <= high <= RING_SIZE:
            came = shown(low) if low == high else f"{{ min = {shown(low)}, max = {shown(high)} }}"
            limits = f"must be from 0 to {RING_SIZE}, the size of the ring, with min at most max"
            raise ValueError(f"records = {came} {limits}")
        fields = {"ts": self.ts_bounds, "count": self.count_bounds, "mapcount": self.mapcount_bounds}
        given = [name for name, bounds in fields.items() if bounds is not None]
        if not given and (low, high) == (0, RING_SIZE):
            raise ValueError(f"records = {{ min = 0, max = {RING_SIZE} }} is always true: narrow it, or add a `ts`")
        if given and high == 0:
            raise ValueError(f"{given[0]} is about records, and there must be none: leave it out")
        self._check_kernel()

    def _check_no_records(self) -> None:
        """Check an expectation about allocations."""
        about_records = ("file", "kind", "call_site", "ts", "count", "mapcount")
        given = [name for name in about_records if getattr(self, name) is not None]
        if self.records != ANY_RECORDS:
            given.insert(0, "records")
        if given:
            raise ValueError(f"{given[0]} is about records, and allocs is not: write an [[expect]] for each")
        self._check_kernel()

    def _check_kernel(self) -> None:
        if self.kernel is not None:
            if self.kernel not in GENERATIONS:
                hint = nearest(self.kernel, GENERATIONS)
                raise ValueError(f"kernel = {self.kernel!r} must be one of {listed(GENERATIONS)}{hint}")
            if (problem := self.problem_on(GENERATIONS[self.kernel])) is not None:
                raise ValueError(problem)
        files = dict.fromkeys(file for generation in GENERATIONS.values() for file in generation.record_files)
        if self.file is not None and self.file not in files:
            raise ValueError(f"file = {self.file!r} must be one of {listed(files)}{nearest(self.file, files)}")

    def problem_on(self, generation: Generation) -> str | None:
        """Return why a kernel cannot show such records, or None if it can."""
        has = f"kernel {generation.name} has"
        file = self.file_on(generation)
        if file not in generation.record_files:
            return f"file = {file!r}: {has} {listed(generation.record_files)}"
        if self.threshold is not None and not generation.has_threshold:
            return f"threshold = {self.threshold!r}: {has} no threshold"
        layout = generation.layouts[file]
        if self.kind is not None and self.kind not in layout.lines:
            kinds = [str(kind) for kind in layout.lines if kind is not None]
            wanted = f"only {listed(kinds)}" if kinds else "no kinds of records"
            return f"kind = {self.kind!r}: {has} {wanted} in {file}"
        if self.mapcount is not None and layout.page == "type":
            return f"mapcount: {has} none in {file}"
        kinds_shown = [RecordKind(self.kind)] if self.kind is not None else [*layout.lines]
        if self.ts is not None and not all(map(layout.shows_duration, kinds_shown)):
            durations = [
                f'kind = "{kind}"' for kind in layout.lines if kind is not None and layout.shows_duration(kind)
            ]
            hint = f": add {' or '.join(durations)}" if durations and self.kind is None else ""
            return f"ts: {has} a boot time and no duration in these records of {file}{hint}"
        return None

    def file_on(self, generation: Generation) -> str:
        """Return the name of the file that is read on a kernel."""
        return self.file or generation.main_file

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

    @property
    def count_bounds(self) -> tuple[int, int] | None:
        """Return the smallest and the largest count of each record; None to accept any."""
        return None if self.count is None else _bounds("count", self.count)

    @property
    def mapcount_bounds(self) -> tuple[int, int] | None:
        """Return the smallest and the largest mapcount of each record; None to accept any."""
        return None if self.mapcount is None else _bounds("mapcount", self.mapcount)

    def when(self) -> str:
        """Return the moment of the look in words, and the kernel if the table names one."""
        words = f"at {self.at}"
        if self.kernel is not None:
            words += f" on {self.kernel}"
        if self.threshold is not None:
            words += f", threshold {self.threshold} since {self.since or 'the start'}"
        return words

    def wanted(self) -> str:
        """Return in words which records must be there, or how many allocations."""
        if self.allocs is not None:
            return self.allocs.wanted()
        low, high = self.record_bounds
        count = f"{low} to {high}"
        if low == high:
            count = str(low or "no")
        elif high == RING_SIZE:
            count = f"at least {low}"
        kind = "" if self.kind is None else f"{self.kind} "
        words = f"{count} {kind}record{'' if low == 1 and high in (1, RING_SIZE) else 's'}"
        if self.file is not None:
            words += f" in {self.file}"
        if self.call_site is not None:
            words += f" of {self.call_site}"
        if isinstance(self.ts, Bounds):
            words += f", each ts {self.ts.min} to {self.ts.max}"
        elif self.ts is not None:
            words += f", each ts {self.ts}"
        for name, bounds in (("count", self.count_bounds), ("mapcount", self.mapcount_bounds)):
            if bounds is not None:
                words += f", each {name} {_to(bounds)}"
        return words


def check_kernel(expectations: Sequence[Expectation], kernel: Generation) -> None:
    """Raise ValueError if an expectation that names no kernel is about records that `kernel` cannot show."""
    for number, expectation in enumerate(expectations, start=1):
        if expectation.kernel is None and (problem := expectation.problem_on(kernel)) is not None:
            raise ValueError(f"expect {number}: {problem}")


def plays(expectations: Sequence[Expectation], kernel: str) -> dict[tuple[str, tuple[int, int] | None], list[int]]:
    """Return which expectations are checked by the same play, by their kernel and the threshold that is written.

    `kernel` is for those that name none. The expectations are given by their numbers, in the order of their moments.
    """
    found: dict[tuple[str, tuple[int, int] | None], list[int]] = defaultdict(list)
    for number in sorted(range(len(expectations)), key=lambda number: expectations[number].moment):
        found[expectations[number].kernel or kernel, expectations[number].written].append(number)
    return found


def _bounds(name: str, value: int | NumberBounds) -> tuple[int, int]:
    low, high = (value, value) if isinstance(value, int) else (value.min, value.max)
    if not 0 <= low <= high <= MAX_NUMBER:
        came = shown(low) if low == high else f"{{ min = {shown(low)}, max = {shown(high)} }}"
        raise ValueError(f"{name} = {came} must be from 0 to {MAX_NUMBER}, with min at most max")
    return low, high


def _to(bounds: tuple[int, int]) -> str:
    low, high = bounds
    return f"{low}" if low == high else f"{low} or more" if high == MAX_NUMBER else f"{low} to {high}"
