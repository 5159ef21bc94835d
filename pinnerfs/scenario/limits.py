"""Limits on what a scenario takes of the machine that plays it: they stop a slip of a unit, and can be raised."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace

from pinnerfs.kernel.pageflags import PAGE_SIZE
from pinnerfs.scenario.messages import nearest, shown
from pinnerfs.scenario.quantities import parse_rate, parse_size, parse_time
from pinnerfs.scenario.schema import Phase, Scenario, Task
from pinnerfs.scenario.tables import TableError

__all__ = ["LIMITS", "Limits", "check_limits"]

PHASE = 100  # a phase takes as much processor time as this many pins


@dataclass(frozen=True)
class Limits:
    """The most that a scenario may take. scenarios/README.md says what each limit counts, and what that costs."""

    file: int = 1 << 20  # bytes; tomllib reads about 2.6 MB per second
    memory: int = 64 << 30  # bytes of the device; the accounting takes 16 bytes per frame that is ever pinned
    instances: int = 1 << 14
    pins: int = 1 << 20  # pages pinned at once
    rate: int = 10_000_000  # pins per second, and PHASE for each phase
    phases: int = 1 << 16  # from one arrival to the next, of all instances

    def raised(self, settings: Iterable[str]) -> Limits:
        """Return these limits with changes such as "memory=1TiB". Raise ValueError for a wrong one."""
        values: dict[str, int] = {}
        known = [field.name for field in fields(self)]
        for setting in settings:
            name, equals, value = setting.partition("=")
            if not equals or name not in known:
                wanted = ", ".join(f"{one}=..." for one in known)
                raise ValueError(f"no limit {setting!r}: wanted one of {wanted}{nearest(name, known)}")
            values[name] = _value(name, value)
        return replace(self, **values)


LIMITS = Limits()


def _value(name: str, text: str) -> int:
    if name in ("file", "memory"):
        return parse_size(name, text)
    if not (text.isascii() and text.isdecimal() and len(text) <= 25):
        raise ValueError(f"{name} = {text!r} must be a whole number, such as {getattr(LIMITS, name)}")
    return int(text)


@dataclass(frozen=True)
class _Demand:
    """The estimated demand of all instances of a task, by the names of the limits."""

    pins: float
    rate: float
    phases: float


# What a task does, with one and with several.
_WORDS = {
    "instances": ("needs {}", "instance", "instances"),
    "pins": ("pins {} at once", "page", "pages"),
    "rate": ("makes {} a second", "pin or phase", "pins and phases"),
    "phases": ("goes through {} before each instance has an arrival", "phase", "phases"),
}


def check_limits(scenario: Scenario, limits: Limits) -> None:
    """Raise TableError if a scenario exceeds a limit. It names the task that takes most, and how to raise the limit."""
    memory = scenario.memory.frames * PAGE_SIZE
    if memory > limits.memory:
        remedy = f"(limit {limits.memory >> 20}MiB; raise it with --limit memory=SIZE)"
        raise TableError(f"size = {scenario.memory.size!r} is too large {remedy}", ("memory",), "size")
    # Before the estimates, which multiply by it.
    _check("instances", scenario, [task.instances for task in scenario.task], limits)
    tasks = {task.name: task for task in scenario.task}
    stop = math.inf if scenario.duration is None else parse_time("duration", scenario.duration)
    demands = [_demand(task, tasks[task.share] if task.share else task, stop) for task in scenario.task]
    _check("pins", scenario, [demand.pins for demand in demands], limits)
    _check("rate", scenario, [demand.rate for demand in demands], limits)
    _check("phases", scenario, [demand.phases for demand in demands], limits)


def _check(name: str, scenario: Scenario, demands: Sequence[float], limits: Limits) -> None:
    total, limit = math.ceil(sum(demands)), getattr(limits, name)
    if total <= limit:
        return
    most = max(range(len(demands)), key=demands.__getitem__)
    own = math.ceil(demands[most])
    does, one, several = _WORDS[name]
    message = f'task "{scenario.task[most].name}" {does.format(f"{shown(own)} {one if own == 1 else several}")}'
    if own <= limit:
        message += f", of {shown(total)} for all tasks"
    key = name if name == "instances" else None
    raise TableError(f"{message} (limit {limit}; raise it with --limit {name}=N)", ("task", most), key, complete=True)


def _demand(task: Task, owner: Task, stop: float) -> _Demand:
    """Estimate the demand of a task from means and medians, rather too high than too low; `stop` in µs."""
    pages = owner.pages or 1
    loads = [_Load.of(phase) for phase in task.phase]
    # Instances are in different phases at a time, so the pins of all phases count, not only those of the fullest.
    period = sum(load.lasts for load in loads)
    in_progress = sum(load.in_progress(period, stop) for load in loads)
    rate = pages * max(load.rate for load in loads) + PHASE * len(loads) / period  # per µs
    return _Demand(
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
        # Such an arrival waits for the release before it, in whichever phase that hold began.
        rounds = min(rounds, max(waits) / period)
    return max(1.0, min(rounds, stop / period))


@dataclass(frozen=True)
class _Load:
    """The load of a phase. Times in µs, rate in arrivals per µs."""

    lasts: float  # on average
    usual: float  # the median
    rate: float
    hold: float  # on average; 0 if pins are never released: no arrival waits for it
    always: bool  # whether the phase always has an arrival
    wait: float | None  # the longest time between arrivals of a `gap` phase, except for rare draws

    @classmethod
    def of(cls, phase: Phase) -> _Load:
        """Estimate the load of a phase."""
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
        return cls(lasts, usual, rate, held, always, wait)

    def in_progress(self, period: float, stop: float) -> float:
        """Estimate how many holds are in progress at once, if the phase comes again every `period`."""
        if self.wait is not None:
            return 1.0
        hold = min(self.hold, stop)
        return min(self.rate * hold, max(1.0, self.rate * self.lasts) * (1 + hold / period))
