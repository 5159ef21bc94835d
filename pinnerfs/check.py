"""Check the expectations of a scenario without a mount, on a clock that runs as fast as it can."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pinnerfs.errors import BAD_INPUT, PinnerfsError
from pinnerfs.kernel.page_pinner.generations import INTRODUCED
from pinnerfs.kernel.page_pinner.records import Record
from pinnerfs.kernel.stacks import symbol
from pinnerfs.scenario.expectations import AllocCounts, Expectation, check_kernel, plays
from pinnerfs.scenario.schema import Scenario
from pinnerfs.simulation import Simulation, generation
from pinnerfs.words import count_of

__all__ = ["ExpectationReport", "ExpectationResult", "check_expectations"]


@dataclass(frozen=True)
class ExpectationResult:
    """Whether an expectation was met, and what came: in words, and as numbers by their names.

    The numbers are got, failed and waiting allocations; or all records, those of the wanted kind and call site
    (matching), and the smallest and the largest value of each field that was looked at, such as ts_min.
    """

    expectation: Expectation
    met: bool
    came: str
    numbers: Mapping[str, int]


@dataclass(frozen=True)
class ExpectationReport:
    """The result of each expectation, in the order of the file, and the time (µs) that was played for them in total."""

    results: list[ExpectationResult]
    played: int


def check_expectations(
    scenario: Scenario,
    advance: Callable[[Simulation, int], None] = Simulation.advance_to,
    kernel: str = INTRODUCED.name,
    *,
    mm: str | None = None,
    cma_retries: int | None = None,
    quiet_migration: bool = False,
) -> ExpectationReport:
    """Play a scenario with its own seed, and compare its records with its expectations.

    It is played on `kernel`, and on each kernel that an expectation names. On each of them it is played once under its
    own threshold, and once more for each other threshold. `advance` advances a simulation to a moment. The other
    arguments are those of Simulation.

    Raise PinnerfsError for an unknown kernel, or for one that cannot show what an expectation is about.
    """
    try:
        check_kernel(scenario.expect, generation(kernel))
    except ValueError as error:
        raise PinnerfsError(str(error), BAD_INPUT) from None
    results: dict[int, ExpectationResult] = {}
    played = 0
    for (played_on, written), numbers in plays(scenario.expect, kernel).items():
        simulation = Simulation(
            scenario, kernel=played_on, mm=mm, cma_retries=cma_retries, quiet_migration=quiet_migration
        )
        if written is not None:
            since, threshold = written
            advance(simulation, since)
            simulation.threshold = threshold
        for number in numbers:
            expectation = scenario.expect[number]
            advance(simulation, expectation.moment)
            if expectation.allocs is not None:
                results[number] = _count(expectation, expectation.allocs, simulation.explain_allocs())
            else:
                file = expectation.file_on(simulation.generation)
                results[number] = _compare(expectation, list(simulation.records(file)))
        played += simulation.now
    return ExpectationReport([results[number] for number in sorted(results)], played)


def _count(expectation: Expectation, wanted: AllocCounts, counted: Mapping[str, dict[str, int]]) -> ExpectationResult:
    """Compare the outcomes of allocations with an expectation."""
    allocs = [counters for name, counters in counted.items() if wanted.name in (None, name)]
    came = {outcome: sum(counters[outcome] for counters in allocs) for outcome in ("got", "failed", "waiting")}
    met = all(low <= came[outcome] <= high for outcome, (low, high) in wanted.bounds.items())
    words = f"{came['got']} got, {came['failed']} failed"
    if came["waiting"]:
        words += f", {came['waiting']} not over"
    return ExpectationResult(expectation, met, words, came)


def _compare(expectation: Expectation, records: Sequence[Record]) -> ExpectationResult:
    found = records
    came = count_of(len(records), "record") if records else "no records"
    if expectation.kind is not None and records:
        found = [record for record in found if record.kind == expectation.kind]
    if expectation.call_site is not None and records:
        found = [record for record in found if expectation.call_site in map(symbol, record.stack)]
    if (expectation.kind, expectation.call_site) != (None, None) and records:
        came = f"{len(found) or 'none'} of {came}"
    numbers = {"records": len(records), "matching": len(found)}
    least, most = expectation.record_bounds
    met = least <= len(found) <= most
    fields = (
        ("ts", "us", expectation.ts_bounds, [record.ts for record in found if record.ts is not None]),
        ("count", "", expectation.count_bounds, [record.count for record in found]),
        ("mapcount", "", expectation.mapcount_bounds, [record.mapcount or 0 for record in found]),
    )
    for name, unit, bounds, values in fields:
        if values and (name == "ts" or bounds is not None):
            low, high = min(values), max(values)
            numbers |= {f"{name}_min": low, f"{name}_max": high}
            came += f", {name} {low}{unit}" if low == high else f", {name} {low}{unit} to {high}{unit}"
            met &= bounds is None or (bounds[0] <= low and high <= bounds[1])
    return ExpectationResult(expectation, met, came, numbers)
