"""The cost of an event with more events, frames, tasks and stacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from pinnerfs.kernel.page_pinner.generations import INTRODUCED
from pinnerfs.kernel.page_pinner.pinner import Pinner
from pinnerfs.scenario.gallery import load
from pinnerfs.scenario.schema import Scenario
from pinnerfs.simulation import Simulation
from tests.bench.measure import BUSY, FEW_REPEATS, in_turn, seconds
from tests.bench.streams import FRAMES as SOME_FRAMES
from tests.bench.streams import chunks, memory, scattered
from tests.bench.table import Group, Target

__all__ = ["groups"]

EVENTS = [10**5, 10**6, 10**7, 10**8]
FRAMES = [10**5, 10**6, 10**7]
TASKS = [1, 10, 100, 1000, 10**4]
STACKS = [1, 100, 10**5]

STREAM = 10**6  # events, where their number does not change
STREAM_OF_TASKS = 2 * 10**6  # about a hundred holds for each of 10,000 instances
MOST_INSTANCES = 2500  # in a task
RATE = 100_000  # pins a second in the busy scenario


def groups() -> list[Group]:
    """Return a group for each kind of work."""
    return [
        _group("events, whole pipeline", EVENTS, _events),
        _group("frames, engine", FRAMES, _frames),
        _group("instances of tasks, whole pipeline", TASKS, _tasks, must=2.5, aim=1.5),
        _group("stacks, engine", STACKS, _stacks),
    ]


def _group(
    of_what: str,
    sizes: Sequence[int],
    cost: Callable[[int], float],
    must: float | None = None,
    aim: float | None = None,
) -> Group:
    """Return a group that compares the cost of an event at each size with that at the smallest size."""
    smallest, *larger = sizes
    targets = [Target(f"cost an event: {size:,} {of_what} : {smallest:,}", must, aim) for size in larger]

    def measure() -> list[list[float]]:
        least, *costs = in_turn([partial(cost, size) for size in sizes], FEW_REPEATS)
        return [[one / other for one, other in zip(some, least, strict=True)] for some in costs]

    return Group(targets, measure)


def _busy() -> Scenario:
    return load(str(BUSY))


def _of_scenario(scenario: Scenario, events: int) -> float:
    """Return seconds for each event, with its generation and without the start."""
    simulation = Simulation(scenario)
    took = seconds(partial(simulation.advance_to, events * 1_000_000 // (2 * RATE)))
    counted = simulation.stats()
    return took / (counted["pins"] + counted["releases"])


def _of_stream(frames: int, stacks: int) -> float:
    """Return seconds for each event of a stream that the engine plays for the second time."""
    batches = chunks(scattered(STREAM, frames, stacks))
    engine = Pinner(memory(frames), INTRODUCED)

    def play() -> None:
        for batch in batches:
            engine.apply(batch)

    play()
    return seconds(play) / STREAM


def _events(events: int) -> float:
    return _of_scenario(_busy(), events)


def _frames(frames: int) -> float:
    return _of_stream(frames, 1)


def _tasks(instances: int) -> float:
    """Measure the same pins by so many instances."""
    scenario = _busy()
    pattern = scenario.task[0]
    phase = [msgspec.structs.replace(pattern.phase[0], rate=f"{RATE / instances}/s")]
    each = min(instances, MOST_INSTANCES)
    tasks = [
        msgspec.structs.replace(pattern, name=f"task-{number}", instances=each, phase=phase)
        for number in range(instances // each)
    ]
    return _of_scenario(msgspec.structs.replace(scenario, task=tasks), STREAM_OF_TASKS)


def _stacks(stacks: int) -> float:
    return _of_stream(SOME_FRAMES, stacks)
