"""How fast this machine plays a scenario, to warn of a real clock that is too fast for it."""

from __future__ import annotations

from contextlib import suppress
from time import perf_counter

from pinnerfs.scenario.demand import estimate_demands
from pinnerfs.scenario.schema import Scenario

__all__ = ["needs_trial", "reached_speed"]

# Pins per second, as the estimate counts them, that every machine can play: a fifth of what the slowest scenario of
# the gallery reaches on a small virtual machine.
SAFE_RATE = 200_000

TRIAL = 0.2  # seconds
LONGEST_TRIAL = 1.0


def needs_trial(scenario: Scenario, speed: float) -> bool:
    """Return whether this machine may be too slow for a scenario. One that needs little is not tried."""
    return speed * sum(demand.rate for demand in estimate_demands(scenario)) >= SAFE_RATE


def reached_speed(scenario: Scenario, speed: float) -> float | None:
    """Return about how fast this machine plays a scenario from its start, or None if it reaches `speed`.

    A scenario that needs no trial is not played. The trial is a simulation of its own: how far it gets has no effect on
    a mount.
    """
    if not needs_trial(scenario, speed):
        return None
    from pinnerfs.simulation import Simulation  # imports numpy

    with suppress(MemoryError):  # the mount itself may have enough
        simulation = Simulation(scenario)
        goal = int(speed * TRIAL * 1e6)
        began = perf_counter()
        for now in simulation.steps_to(goal):
            # To generate the first events can take longer than a trial. Then wait for the first µs, but not for long.
            if now < goal and (took := perf_counter() - began) >= (TRIAL if now else LONGEST_TRIAL):
                return max(now, 1) / 1e6 / took
    return None
