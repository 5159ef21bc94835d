"""The simulation or the replay behind a mount: built at once, or after the mount."""

from __future__ import annotations

import gc
import sys
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from pinnerfs.cli import limits_memory
from pinnerfs.cli.launch import say
from pinnerfs.cli.load_numpy import find_numpy, load_numpy
from pinnerfs.cli.memory import memory_for
from pinnerfs.debugfs.engine import Deferred
from pinnerfs.scenario.schema import Scenario
from pinnerfs.simulation import generation, memory_management, need_threshold
from pinnerfs.trace import SimulationTrace

if TYPE_CHECKING:
    from pinnerfs.cli.device import DeviceOptions
    from pinnerfs.clock import Clock
    from pinnerfs.replay import Replay
    from pinnerfs.simulation import Simulation

__all__ = ["clock", "other_files", "play_to_start", "simulation"]

# The state of 16 GiB takes less than 100 MiB of memory, which any machine that can import numpy has.
MOST_DEFERRED = 1 << 22  # page frames


def simulation(options: DeviceOptions, scenario: Scenario, *, traced: bool, defer: bool) -> Simulation | Deferred:
    """Return the simulation of a scenario at time 0.

    With `defer` return one that is built later, if building it neither fails nor warns. PinnerfsError if the scenario
    cannot be played.
    """
    imitated = generation(options.kernel)
    if options.threshold is not None:
        need_threshold(imitated)
    build = partial(_build, options, scenario, SimulationTrace() if traced else None)
    if not defer or not _may_defer(options, scenario):
        return build()
    find_numpy()
    return Deferred(
        build,
        generation=imitated,
        mm=memory_management(options.mm.mm or imitated.mm),
        areas=[region.cma for region in scenario.memory.region if region.cma is not None],
        seed=scenario.seed if options.seed is None else options.seed,
        faults=scenario.fault,
    )


def _may_defer(options: DeviceOptions, scenario: Scenario) -> bool:
    """Return whether to mount first. Not if building may fail for lack of memory, takes long, or is fast anyway."""
    if limits_memory() or scenario.memory.frames > MOST_DEFERRED or options.start or "numpy" in sys.modules:
        return False
    from pinnerfs.pace import needs_trial

    return options.clock_name == "manual" or not needs_trial(scenario, options.speed or 1.0)


def _build(options: DeviceOptions, scenario: Scenario, observer: SimulationTrace | None) -> Simulation:
    is_loaded = "numpy" in sys.modules
    load_numpy()
    from pinnerfs.simulation import Simulation

    if not is_loaded:
        gc.freeze()  # exempt what was imported from garbage collection
    with memory_for(scenario):
        return Simulation(
            scenario,
            seed=options.seed,
            threshold=options.threshold,
            kernel=options.kernel,
            limits=options.limits,
            observer=observer,
            **options.mm.arguments,
        )


def clock(options: DeviceOptions) -> Clock:
    """Return the clock, at the time of --start."""
    from pinnerfs.clock import MAX_LAG, ManualClock, RealClock

    if options.clock_name == "manual":
        return ManualClock(options.start)
    max_lag = MAX_LAG if options.max_lag is None else options.max_lag / 1e6
    return RealClock(options.start, options.speed or 1.0, max_lag)


def other_files(engine: Simulation | Replay | Deferred) -> Mapping[str, bytes] | None:
    """Return the files of a replay that are not those of page_pinner."""
    if isinstance(engine, Deferred):
        return None
    from pinnerfs.replay import Replay

    return engine.recording.files if isinstance(engine, Replay) else None


def play_to_start(options: DeviceOptions, engine: Simulation | Replay, mountpoint: str) -> None:
    """Advance to --start, and warn of a clock that is too fast for this machine."""
    from pinnerfs.pace import reached_speed
    from pinnerfs.replay import Replay

    if isinstance(engine, Replay):
        engine.advance_to(options.start)
        return
    with memory_for(engine.scenario):
        engine.advance_to(options.start)
    speed = options.speed or 1.0
    if options.clock_name != "manual" and (reached := reached_speed(engine.scenario, speed)) is not None:
        say(
            f"Warning: this machine plays {engine.scenario.name} at speed {reached:.3g} or so, not {speed:g}: "
            f"the clock will slip, as `pinnerfs ctl {mountpoint} clock` shows; wanted a lower --speed"
        )
