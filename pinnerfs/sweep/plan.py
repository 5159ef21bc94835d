"""From the arguments of a sweep to its points, all of them checked before the first is played."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Any

from pinnerfs.errors import BAD_INPUT, PinnerfsError, in_a_line
from pinnerfs.kernel.page_pinner.generations import GENERATIONS
from pinnerfs.scenario.gallery import Source
from pinnerfs.scenario.limits import Limits, refuse_work, work_up_to
from pinnerfs.scenario.quantities import parse_time
from pinnerfs.scenario.schema import Scenario
from pinnerfs.scenario.settings import Setting, with_values
from pinnerfs.sweep.points import MOST_POINTS, Sweep
from pinnerfs.threshold import no_threshold
from pinnerfs.words import count_of

__all__ = ["BACKENDS", "plan"]

BACKENDS = ("processes", "dask")


def plan(
    source: Source,
    *,
    settings: Sequence[Setting] = (),
    seeds: Sequence[int] | None = None,
    thresholds: Sequence[int] | None = None,
    moment: int | None = None,
    kernel: str,
    limits: Limits,
    **mm: Any,
) -> Sweep:
    """Return the sweep of a scenario. Raise PinnerfsError if one of its points is wrong, or all are too much work.

    seeds, moment: by default the scenario's own. mm: the arguments of a Simulation for the memory management.
    """
    if thresholds is not None and not GENERATIONS[kernel].has_threshold:
        raise PinnerfsError(no_threshold(f"kernel {kernel}"), BAD_INPUT)
    combinations = prod(len(setting.values) for setting in settings)
    count = combinations * len(seeds or (0,)) * len(thresholds or (0,))
    if count > MOST_POINTS:
        raise PinnerfsError(f"{source.where}: {count} points: wanted at most {MOST_POINTS}", BAD_INPUT)
    scenarios = tuple(
        (values, with_values(source, settings, values, limits))
        for values in product(*(setting.values for setting in settings))
    )
    first = scenarios[0][1]
    sweep = Sweep(
        settings=tuple(settings),
        scenarios=scenarios,
        seeds=(first.seed,) if seeds is None else tuple(seeds),
        thresholds=None if thresholds is None else tuple(thresholds),
        kernel=kernel,
        moment=_own_moment([scenario for _, scenario in scenarios], source.where) if moment is None else moment,
        **mm,
    )
    work = sum(work_up_to(scenario, sweep.moment, sweep.cma_retries) for _, scenario in scenarios) * len(sweep.seeds)
    refuse_work(work, f"{source.where}: {count_of(sweep.plays, 'play')}", limits)
    return sweep


def _own_moment(scenarios: Sequence[Scenario], where: str) -> int:
    """Return when a scenario is over, or else when its expectations have looked at it for the last time.

    Raise PinnerfsError if that is not the same with all values that are set: their rows could not be compared.
    """
    moments = {_end(scenario, where) for scenario in scenarios}
    if len(moments) > 1:
        wanted = "with these values the scenario has different ends"
        raise PinnerfsError(in_a_line(f"{where}: wanted --at TIME: {wanted}"), BAD_INPUT)
    return moments.pop()


def _end(scenario: Scenario, where: str) -> int:
    if scenario.duration is not None:
        return parse_time("duration", scenario.duration)
    if not scenario.expect:
        wanted = "it has neither a duration nor an [[expect]] table that tells how long to play it"
        raise PinnerfsError(in_a_line(f"{where}: wanted --at TIME: {wanted}"), BAD_INPUT)
    return max(expectation.moment for expectation in scenario.expect)
