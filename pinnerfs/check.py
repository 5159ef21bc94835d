"""Check the expectations of a scenario without a mount, on a clock that runs as fast as it can."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pinnerfs.kernel.page_pinner.records import Record
from pinnerfs.kernel.stacks import symbol
from pinnerfs.scenario.expectations import Expectation
from pinnerfs.scenario.schema import Scenario
from pinnerfs.simulation import Simulation
from pinnerfs.words import count_of

__all__ = ["ExpectationReport", "ExpectationResult", "check_expectations"]


@dataclass(frozen=True)
class ExpectationResult:
    """Whether an expectation was met, and a description of what came."""

    expectation: Expectation
    met: bool
    came: str


@dataclass(frozen=True)
class ExpectationReport:
    """The result of each expectation, in the order of the file, and the time (µs) that was played for them in total."""

    results: list[ExpectationResult]
    played: int


def check_expectations(
    scenario: Scenario, advance: Callable[[Simulation, int], None] = Simulation.advance_to
) -> ExpectationReport:
    """Play a scenario with its own seed, and compare its records with its expectations.

    It is played once for the expectations under its own threshold, and once more for each other threshold. `advance`
    advances a simulation to a moment.
    """
    plays: dict[tuple[int, int] | None, list[int]] = defaultdict(list)
    for number, expectation in enumerate(scenario.expect):
        plays[expectation.written].append(number)
    results: dict[int, ExpectationResult] = {}
    played = 0
    for written, numbers in plays.items():
        simulation = Simulation(scenario)
        if written is not None:
            since, threshold = written
            advance(simulation, since)
            simulation.threshold = threshold
        for number in sorted(numbers, key=lambda number: scenario.expect[number].moment):
            advance(simulation, scenario.expect[number].moment)
            results[number] = _compare(scenario.expect[number], list(simulation.records()))
        played += simulation.now
    return ExpectationReport([results[number] for number in sorted(results)], played)


def _compare(expectation: Expectation, records: Sequence[Record]) -> ExpectationResult:
    found = records
    came = count_of(len(records), "record") if records else "no records"
    if expectation.call_site is not None and records:
        found = [record for record in records if expectation.call_site in map(symbol, record.stack)]
        came = f"{len(found) or 'none'} of {came}"
    least, most = expectation.record_bounds
    met = least <= len(found) <= most
    durations = [record.ts for record in found if record.ts is not None]
    if durations:
        shortest, longest = min(durations), max(durations)
        came += f", ts {shortest}us" if shortest == longest else f", ts {shortest}us to {longest}us"
        if expectation.ts_bounds is not None:
            met &= expectation.ts_bounds[0] <= shortest and longest <= expectation.ts_bounds[1]
    return ExpectationResult(expectation, met, came)
