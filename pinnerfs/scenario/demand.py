"""Estimate what a task takes of the machine: pages pinned at once, pins per second, phases without an arrival."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pinnerfs.scenario.distributions import TimeDistribution
from pinnerfs.scenario.quantities import parse_rate, parse_time
from pinnerfs.scenario.schema import Phase, Task

__all__ = ["Demand", "estimate_demand"]

PHASE = 100  # a phase takes as much processor time as this many pins


@dataclass(frozen=True)
class Demand:
    """The estimated demand of all instances of a task, by the names of the limits."""

    pins: float
    rate: float
    phases: float


def estimate_demand(task: Task, owner: Task, stop: float) -> Demand:
    """Estimate the demand of a task from means and medians, rather too high than too low; `stop` in µs."""
    pages = owner.pages or 1
    loads = [_Load.of(phase, task.unmap_distribution) for phase in task.phase]
    # Instances are in different phases at a time, so the pins of all phases count, not only those of the fullest.
    period = sum(load.lasts for load in loads)
    in_progress = sum(load.in_progress(period, stop) for load in loads)
    rate = pages * max(load.rate for load in loads) + PHASE * len(loads) / period  # per µs
    return Demand(
        # Each instance keeps one hold ready before it begins.
        pins=task.instances * pages * max(1.0, in_progress),
        rate=task.instances * rate * 10**6,
        phases=task.instances * len(loads) * _rounds(loads, stop),
    )


def _rounds(loads: list[_Load], stop: float) -> float:
    """Estimate how often an instance goes through all of its phases before an arrival."""
    if any(load.always for load in loads):
        return 1.0
    period = sum(load.usual for load in loads)
    chance = sum(min(1.0, load.usual * load.rate) for load in loads if load.wait is None)
    waits = [load.wait for load in loads if load.wait is not None]
    rounds = 2 / chance if chance else math.inf
    if waits:
        # The first arrival of a `gap` phase waits for the hold before it, which can be of another phase.
        rounds = min(rounds, max(waits) / period)
    return max(1.0, min(rounds, stop / period))


@dataclass(frozen=True)
class _Load:
    """The load of a phase. Times in µs, rate in arrivals per µs."""

    lasts: float  # on average
    usual: float  # the median
    rate: float
    busy: float  # on average, until the pages are released and unmapped; 0 if neither ever happens
    always: bool  # whether the phase always has an arrival
    wait: float | None  # the longest time between arrivals of a `gap` phase, except for rare draws

    @classmethod
    def of(cls, phase: Phase, unmap: TimeDistribution | None) -> _Load:
        """Estimate the load of a phase of a task whose pages are unmapped after this time."""
        hold, gap = phase.hold_distribution, phase.gap_distribution
        held = 0.0 if hold is None else hold.mean
        wait = None
        if phase.every is not None:
            rate = 1 / parse_time("every", phase.every)
        elif phase.rate is not None:
            rate = parse_rate("rate", phase.rate)
        elif gap is not None:
            rate = 1 / max(1.0, held + gap.mean)
            wait = gap.longest + (0 if hold is None else hold.longest)
        else:
            rate = 0.0
        if phase.lasts_distribution is not None:
            lasts, usual = max(1.0, phase.lasts_distribution.mean), max(1.0, phase.lasts_distribution.median)
        else:
            lasts = usual = (phase.repeat or 1) / rate
        always = not phase.pause and (phase.repeat is not None or phase.every is not None)
        return cls(lasts, usual, rate, max(held, 0.0 if unmap is None else unmap.mean), always, wait)

    def in_progress(self, period: float, stop: float) -> float:
        """Estimate how many holds are in progress at once, if the phase comes again every `period`."""
        busy = min(self.busy, stop)
        if self.wait is not None and busy <= self.wait:
            return 1.0
        return min(self.rate * busy, max(1.0, self.rate * self.lasts) * (1 + busy / period))
