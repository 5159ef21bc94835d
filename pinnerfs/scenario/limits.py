"""How much a scenario may ask of the machine that plays it: limits that stop a slip, and that anyone may raise."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

from pinnerfs.kernel.pageflags import PAGE_SIZE
from pinnerfs.scenario.quantities import parse_rate, parse_size, parse_time
from pinnerfs.scenario.schema import Phase, Scenario, Task

__all__ = ["LIMITS", "Limits", "check_limits"]

PHASE = 100


@dataclass(frozen=True)
class Limits:
    """The most that a scenario may take. scenarios/README.md says of each what it counts, and what it costs."""

    file: int = 1 << 20  # bytes; tomllib reads some 2.6 MB a second
    memory: int = 64 << 30  # bytes of the device; the books take 16 bytes a frame, once it is touched
    instances: int = 1 << 14
    pins: int = 1 << 20  # in progress at once
    rate: int = 10_000_000  # pins a second, and phases, which take as long as PHASE of them
    phases: int = 1 << 16  # gone through from arrival to arrival

    def raised(self, settings: Iterable[str]) -> Limits:
        """These limits, but for settings such as "memory=1TiB". ValueError says what is wrong with one."""
        values: dict[str, int] = {}
        known = [field.name for field in fields(self)]
        for setting in settings:
            name, equals, value = setting.partition("=")
            if not equals or name not in known:
                wanted = ", ".join(f"{one}=..." for one in known)
                raise ValueError(f"no limit {setting!r}: wanted one of {wanted}")
            values[name] = _value(name, value)
        return replace(self, **values)


LIMITS = Limits()


def _value(name: str, text: str) -> int:
    if name in ("file", "memory"):
        return parse_size(name, text)
    if not (text.isascii() and text.isdecimal() and len(text) <= 25):
        raise ValueError(f"{name} = {text!r} must be a number, such as {getattr(LIMITS, name)}")
    return int(text)


@dataclass(frozen=True)
class _Demand:
    """What an instance of a task asks for: pins in progress at once, pins a second, phases from arrival to arrival."""

    pins: float
    rate: float
    phases: float


def check_limits(scenario: Scenario, limits: Limits) -> None:
    """ValueError where a scenario takes more than that; it names the first task with which it does, and the limit."""
    memory = scenario.memory.frames * PAGE_SIZE
    if memory > limits.memory:
        raise ValueError(
            f"size = {scenario.memory.size!r} is over the limit of {limits.memory >> 20}MiB, "
            "which --limit memory=SIZE raises - at `$.memory.size`"
        )
    tasks = {task.name: task for task in scenario.task}
    stop = math.inf if scenario.duration is None else parse_time("duration", scenario.duration)
    instances = 0
    pins = rate = phases = 0.0
    for number, task in enumerate(scenario.task):
        where = f"$.task[{number}]"
        instances += task.instances
        _check("instances", instances, limits, "instances of all tasks", f"{where}.instances")
        demand = _demand(task, tasks[task.share] if task.share else task, stop)
        pins += task.instances * demand.pins
        rate += task.instances * demand.rate
        phases += task.instances * demand.phases
        _check("pins", pins, limits, "pages are pinned at once", where)
        _check("rate", rate, limits, "pins and phases a second", where)
        _check("phases", phases, limits, "phases go by until all instances have an arrival", where)


def _check(name: str, came: float, limits: Limits, words: str, where: str) -> None:
    if came > (most := getattr(limits, name)):
        amount = f"{came}" if isinstance(came, int) else f"{came:.3g}"
        raise ValueError(
            f"up to this task {amount} {words}, over the limit of {most}, which --limit {name}=N raises - at `{where}`"
        )


def _demand(task: Task, owner: Task, stop: float) -> _Demand:
    """An estimate that is rather too high than too low, from means and medians; `stop` is the scenario's end in µs."""
    pages = owner.pages or 1
    loads = [_Load.of(phase) for phase in task.phase]
    # Instances are somewhere else in their phases each: what one pins in all phases counts, not in the fullest one.
    period = sum(load.lasts for load in loads)
    in_progress = sum(load.in_progress(period, stop) for load in loads)
    return _Demand(
        # Each instance has one hold at hand before it takes place.
        pins=pages * max(1.0, in_progress),
        rate=(pages * max(load.rate for load in loads) + PHASE * len(loads) / period) * 10**6,
        phases=len(loads) * _rounds(loads, stop),
    )


def _rounds(loads: list[_Load], stop: float) -> float:
    """How often an instance may go round its phases without an arrival."""
    if any(load.always for load in loads):
        return 1.0
    period = sum(load.usual for load in loads)
    chance = sum(min(1.0, load.usual * load.rate) for load in loads if load.wait is None)
    waits = [load.wait for load in loads if load.wait is not None]
    rounds = 2 / chance if chance else math.inf
    if waits:
        # An arrival that waits for the release before it, in whichever phase it began.
        rounds = min(rounds, max(waits) / period)
    return max(1.0, min(rounds, stop / period))


@dataclass(frozen=True)
class _Load:
    """What a phase brings. Times in µs, rate in arrivals a µs."""

    lasts: float  # on average
    usual: float  # at least so long half of the time
    rate: float
    hold: float  # on average; 0 where pins are never released, as nobody waits for that
    always: bool  # whether there is an arrival each time
    wait: float | None  # of a `gap` phase: the longest time from one arrival to the next, but for rare draws

    @classmethod
    def of(cls, phase: Phase) -> _Load:
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
        """How many holds of the phase are in progress at once, if it comes round every `period`."""
        if self.wait is not None:
            return 1.0
        hold = min(self.hold, stop)
        return min(self.rate * hold, max(1.0, self.rate * self.lasts) * (1 + hold / period))
