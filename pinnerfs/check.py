"""Check the expectations of a scenario without a mount, on a clock that runs as fast as it can."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pinnerfs.errors import BAD_INPUT, PinnerfsError
from pinnerfs.kernel.page_pinner.generations import INTRODUCED
from pinnerfs.kernel.page_pinner.records import Record
from pinnerfs.kernel.stacks import symbol
from pinnerfs.scenario.expectations import AllocCounts, Expectation, check_kernel, plays
from pinnerfs.scenario.schema import Scenario
from pinnerfs.simulation import Simulation, generation
from pinnerfs.sweep.points import ranges
from pinnerfs.words import count_of

__all__ = ["ExpectationReport", "ExpectationResult", "check_expectations", "check_seeds"]


@dataclass(frozen=True)
class ExpectationResult:
    """Whether an expectation was met, and what came: in words, and as numbers by their names.

    The numbers are got, failed and waiting allocations; or all records, those of the wanted kind and call site
    (matching), and the smallest and the largest value of each field that was looked at, such as ts_min.
    failing_seeds: of several seeds, those with which it was not met.
    """

    expectation: Expectation
    met: bool
    came: str
    numbers: Mapping[str, int]
    failing_seeds: Sequence[int] = ()


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
    seed: int | None = None,
    mm: str | None = None,
    cma_retries: int | None = None,
    quiet_migration: bool = False,
) -> ExpectationReport:
    """Play a scenario with a seed, by default its own, and compare its records with its expectations.

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
            scenario, seed=seed, kernel=played_on, mm=mm, cma_retries=cma_retries, quiet_migration=quiet_migration
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


def check_seeds(
    scenario: Scenario,
    seeds: Sequence[int],
    advance: Callable[[Simulation, int], None] = Simulation.advance_to,
    kernel: str = INTRODUCED.name,
    **mm: Any,
) -> ExpectationReport:
    """Do the same with each of these seeds. An expectation is met if it is with all of them.

    A result that is not met has what came with the first seed that fails, and all seeds that fail.
    """
    reports = [check_expectations(scenario, advance, kernel, seed=seed, **mm) for seed in seeds]
    merged = []
    for results in zip(*(report.results for report in reports), strict=True):
        failing = tuple(seed for seed, result in zip(seeds, results, strict=True) if not result.met)
        if failing:
            first = results[seeds.index(failing[0])]
            fails = "fails" if len(failing) == 1 else f"fail: {ranges(failing)}"
            came = f"{first.came} with seed {failing[0]}; {len(failing)} of {count_of(len(seeds), 'seed')} {fails}"
        else:
            first, came = results[0], f"that with {count_of(len(seeds), 'seed')}"
        merged.append(ExpectationResult(first.expectation, not failing, came, first.numbers, failing))
    return ExpectationReport(merged, sum(report.played for report in reports))


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
