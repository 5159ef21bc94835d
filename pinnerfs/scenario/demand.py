"""Estimate what a task takes of the machine: pages pinned at once, pins per second, work up to a moment."""

# Annotations are not postponed: NamedTuple would compile each one again in every process.

import math
from collections.abc import Sequence
from typing import NamedTuple, Self

from pinnerfs.scenario.allocs import Alloc
from pinnerfs.scenario.distributions import TimeDistribution
from pinnerfs.scenario.phases import Phase
from pinnerfs.scenario.quantities import parse_rate, parse_time
from pinnerfs.scenario.schema import Scenario, Task

__all__ = ["MOST_RETRIES", "ROUND", "Demand", "allocation_work", "estimate_demands"]

PHASE = 100  # a phase takes as much processor time as this many pins
RUN = 16  # so many frames side by side take as much processor time as one page by itself
# A round of an allocation takes as much processor time as this many pins, and one more for each page of the area.
ROUND = 3000
MOST_RETRIES = 10  # of any kernel


class Demand(NamedTuple):
    """The estimated demand of all instances of a task, or of an alloc, by the names of the limits."""

    pins: float
    rate: float
    work: float  # in pins of a single page


def allocation_work(pages: int, retries: int) -> int:
    """Return the work of an allocation from an area of so many pages that fails, in pins of a single page."""
    return (1 + retries) * (ROUND + pages)


def estimate_demands(scenario: Scenario, until: float = 0, retries: int = MOST_RETRIES) -> list[Demand]:
    """Estimate the demand of each task, then of each alloc. Their work is up to a moment (µs).

    `retries` is the number of retries of an alloc without a number of its own.
    """
    tasks = {task.name: task for task in scenario.task}
    areas = {region.cma: region.frames for region in scenario.memory.region}
    stop = math.inf if scenario.duration is None else parse_time("duration", scenario.duration)
    return [
        *(_of_task(task, tasks[task.share] if task.share else task, stop, until) for task in scenario.task),
        *(_of_alloc(alloc, areas[alloc.area], stop, until, retries) for alloc in scenario.alloc),
    ]


def _of_task(task: Task, owner: Task, stop: float, until: float) -> Demand:
    """Estimate the demand of a task from means, rather too high than too low. Its work is up to a moment (µs).

    No hold begins at `stop` (µs) or later.
    """
    pages = owner.pages or 1
    loads = [_Load.of(phase, task.unmap_distribution) for phase in task.phase]
    # Instances are in different phases at a time, so the pins of all phases count, not only those of the fullest.
    period = sum(load.lasts for load in loads)
    in_progress = sum(load.in_progress(period, stop) for load in loads)
    rate = max(load.rate * (pages + load.search) for load in loads) + PHASE * len(loads) / period  # per µs
    time = min(until, stop) - task.start_distribution.low
    runs = pages if owner.pick == "scattered" else 1
    cost = runs + (pages << (owner.order or 0)) / RUN
    return Demand(
        # Each instance keeps one hold ready before it begins.
        pins=task.instances * pages * max(1.0, in_progress),
        rate=task.instances * rate * 10**6,
        work=task.instances * _work(loads, cost, time),
    )


def _of_alloc(alloc: Alloc, area_pages: int, stop: float, until: float, retries: int) -> Demand:
    """Estimate the demand of an alloc as if each allocation failed. Its work is up to a moment (µs).

    No allocation begins at `stop` (µs) or later.
    """
    loads = [_Load.of(phase, None) for phase in alloc.phase]
    period = sum(load.lasts for load in loads)
    cost = allocation_work(area_pages, retries if alloc.retries is None else alloc.retries)
    rate = cost * max(load.rate for load in loads) + PHASE * len(loads) / period  # per µs
    time = min(until, stop) - alloc.start_distribution.low
    return Demand(pins=0, rate=rate * 10**6, work=_work(loads, cost, time))


def _work(loads: Sequence["_Load"], cost: float, time: float) -> float:
    """Estimate the work for an instance's first `time` µs. A hold counts as `cost` pins, a phase as PHASE pins."""
    rounds, rest = divmod(max(0.0, time), sum(load.lasts for load in loads))
    work = rounds * sum(PHASE + (cost + load.search) * load.rate * load.lasts for load in loads)
    for load in loads:
        part = min(rest, load.lasts)
        if part > 0:
            work += PHASE + (cost + load.search) * load.rate * part
        rest -= part
    return work


class _Load(NamedTuple):
    """The load of a phase. Times in µs, rate in arrivals per µs."""

    lasts: float  # on average
    rate: float
    busy: float  # on average, until the pages are released and unmapped; 0 if neither ever happens
    waits: bool  # whether each arrival waits for the end of that
    search: int  # work for the times of an arrival, in pins

    @classmethod
    def of(cls, phase: Phase, unmap: TimeDistribution | None) -> Self:
        """Estimate the load of a phase of a task whose pages are unmapped after this time."""
        hold, gap = phase.hold_distribution, phase.gap_distribution
        held = 0.0 if hold is None else hold.mean
        if phase.every is not None:
            rate = 1 / parse_time("every", phase.every)
        elif phase.rate is not None:
            rate = parse_rate("rate", phase.rate)
        elif gap is not None:
            rate = 1 / max(1.0, held + gap.mean)
        else:
            rate = 0.0
        lasts = (phase.repeat or 1) / rate if phase.lasts_distribution is None else phase.lasts_distribution.mean
        busy = max(held, 0.0 if unmap is None else unmap.mean)
        search = sum(times.search for times in (hold, gap, unmap) if times is not None)
        return cls(max(1.0, lasts), rate, busy, gap is not None and busy == held, search)

    def in_progress(self, period: float, stop: float) -> float:
        """Estimate how many holds are in progress at once, if the phase comes again every `period`."""
        if self.waits:
            return 1.0
        busy = min(self.busy, stop)
        return min(self.rate * busy, max(1.0, self.rate * self.lasts) * (1 + busy / period))
