"""A scenario's expectations, put to the test without a mount: time is virtual, and passes as fast as it can."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pinnerfs.kernel.page_pinner.records import Record
from pinnerfs.kernel.stacks import symbol
from pinnerfs.scenario.expectations import Expectation
from pinnerfs.scenario.schema import Scenario
from pinnerfs.simulation import Simulation

__all__ = ["Outcome", "Trial", "try_expectations"]


@dataclass(frozen=True)
class Outcome:
    """Whether an expectation held, and what came, in words."""

    expectation: Expectation
    held: bool
    came: str


@dataclass(frozen=True)
class Trial:
    """The outcome of each expectation, in the file's order, and how much time (µs) was played for them in all."""

    outcomes: list[Outcome]
    played: int


def try_expectations(scenario: Scenario, advance: Callable[[Simulation, int], None] = Simulation.advance_to) -> Trial:
    """Play a scenario with its own seed, and compare what comes with what it expects.

    It is played once for the expectations under its own threshold, and once more for each other threshold. `advance`
    brings a simulation up to a moment.
    """
    plays: dict[tuple[int, int] | None, list[int]] = defaultdict(list)
    for number, expectation in enumerate(scenario.expect):
        plays[expectation.written].append(number)
    outcomes: dict[int, Outcome] = {}
    played = 0
    for written, numbers in plays.items():
        simulation = Simulation(scenario)
        if written is not None:
            since, threshold = written
            advance(simulation, since)
            simulation.threshold = threshold
        for number in sorted(numbers, key=lambda number: scenario.expect[number].moment):
            advance(simulation, scenario.expect[number].moment)
            outcomes[number] = _compare(scenario.expect[number], list(simulation.records()))
        played += simulation.now
    return Trial([outcomes[number] for number in sorted(outcomes)], played)


def _compare(expectation: Expectation, records: Sequence[Record]) -> Outcome:
    found = records
    came = f"{len(records) or 'no'} record{'' if len(records) == 1 else 's'}"
    if expectation.call_site is not None and records:
        found = [record for record in records if expectation.call_site in map(symbol, record.stack)]
        came = f"{len(found) or 'none'} of {came}"
    least, most = expectation.record_bounds
    held = least <= len(found) <= most
    if found:
        shortest, longest = min(record.ts for record in found), max(record.ts for record in found)
        came += f", ts {shortest}us" if shortest == longest else f", ts {shortest}us to {longest}us"
        if expectation.ts_bounds is not None:
            held &= expectation.ts_bounds[0] <= shortest and longest <= expectation.ts_bounds[1]
    return Outcome(expectation, held, came)
