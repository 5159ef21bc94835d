"""Limits on the memory and time that a scenario takes. They catch a wrong unit; --limit raises them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec

from pinnerfs.errors import BAD_INPUT, PinnerfsError, in_a_line
from pinnerfs.kernel.pageflags import PAGE_SIZE
from pinnerfs.scenario.demand import MOST_RETRIES, allocation_work, estimate_demands
from pinnerfs.scenario.messages import nearest, shown
from pinnerfs.scenario.quantities import parse_size
from pinnerfs.scenario.schema import Scenario
from pinnerfs.scenario.tables import TableError

__all__ = ["LIMITS", "Limits", "check_alloc_work", "check_limits", "check_work", "refuse_work", "work_up_to"]


class Limits(msgspec.Struct, frozen=True):
    """The most that a scenario may take. scenarios/README.md says what each limit counts, and what that costs."""

    file: int = 1 << 20  # bytes; tomllib reads about 2.6 MB per second
    memory: int = 64 << 30  # bytes of the device; the accounting takes 24 bytes per frame that is ever pinned
    instances: int = 1 << 14
    pins: int = 1 << 20  # pages pinned at once
    rate: int = 10_000_000  # pins per second; a phase counts as 100 pins
    work: int = 1_000_000_000  # pins of a single page in all, for what a command plays before it answers

    def raised(self, settings: Iterable[str]) -> Limits:
        """Return these limits with changes such as "memory=1TiB". Raise ValueError for a wrong one."""
        values: dict[str, int] = {}
        known = self.__struct_fields__
        for setting in settings:
            name, equals, value = setting.partition("=")
            if name in known and not equals:
                raise ValueError(f"limit {name!r} has no value: wanted {name}=VALUE")
            if name not in known:
                wanted = ", ".join(f"{one}=..." for one in known)
                raise ValueError(f"no limit {setting!r}: wanted one of {wanted}{nearest(name, known)}")
            values[name] = _value(name, value)
        return msgspec.structs.replace(self, **values)


LIMITS = Limits()

PINS_PER_SECOND = 3_000_000  # of a single page, on one processor of 2020


def _value(name: str, text: str) -> int:
    if name in ("file", "memory"):
        return parse_size(name, text)
    if not (text.isascii() and text.isdecimal() and len(text) <= 25):
        raise ValueError(f"{name} = {text!r} must be a whole number, such as {getattr(LIMITS, name)}")
    return int(text)


# What a task does, with one and with several.
_WORDS = {
    "instances": ("needs {}", "instance", "instances"),
    "pins": ("pins about {} at once in the long run", "page", "pages"),
    "rate": ("makes {} a second", "pin or phase", "pins and phases"),
}
# An alloc makes no pins, but its rounds take time.
_ALLOC_WORDS = ("takes as much work as {} a second", "pin", "pins")


def check_limits(scenario: Scenario, limits: Limits) -> None:
    """Raise TableError if a scenario exceeds a limit. It names the task that takes most, and how to raise the limit."""
    memory = scenario.memory.frames * PAGE_SIZE
    if memory > limits.memory:
        remedy = f"(limit {limits.memory >> 20}MiB; raise it with --limit memory=SIZE)"
        raise TableError(f"size = {scenario.memory.size!r} is too large {remedy}", ("memory",), "size")
    # Before the estimates, which multiply by it.
    _check("instances", scenario, [task.instances for task in scenario.task], limits)
    demands = estimate_demands(scenario)
    _check("pins", scenario, [demand.pins for demand in demands], limits)
    _check("rate", scenario, [demand.rate for demand in demands], limits)


def check_work(
    scenario: Scenario, where: str, moments: Iterable[int], limits: Limits, retries: int | None = None
) -> None:
    """Raise PinnerfsError if it is too much work to play a scenario from its start up to each of these moments (µs).

    The message begins with `where`. `retries` is the number of --cma-retries, if that is given.
    """
    refuse_work(sum(work_up_to(scenario, moment, retries) for moment in moments), where, limits)


def check_alloc_work(scenario: Scenario, where: str, limits: Limits, retries: int | None = None) -> None:
    """Raise PinnerfsError if it is too much work to let an allocation fail that a user of the device can begin.

    The arguments are those of `check_work`.
    """
    for region in scenario.memory.region:
        if region.cma is not None:
            work = allocation_work(region.frames, MOST_RETRIES if retries is None else retries)
            other = "" if retries is None else ", or lower --cma-retries"
            _refuse_work(work, f"{where}: an allocation from CMA area {region.cma!r} that fails", limits, other)


def work_up_to(scenario: Scenario, moment: int, retries: int | None = None) -> float:
    """Return how much work it is to play a scenario from its start up to a moment (µs), in pins of a single page."""
    most = MOST_RETRIES if retries is None else retries
    return sum(demand.work for demand in estimate_demands(scenario, moment, most))


def refuse_work(amount: float, where: str, limits: Limits) -> None:
    """Raise PinnerfsError if this is too much work. The message begins with `where`."""
    _refuse_work(math.ceil(amount), f"{where}: to play it", limits)


def _refuse_work(work: int, what: str, limits: Limits, other_remedy: str = "") -> None:
    if work > limits.work:
        takes = f"takes as much work as {work} pins of a single page, about {_rounded(work / PINS_PER_SECOND)}"
        remedy = f"limit {limits.work}; raise it with --limit work=N{other_remedy}"
        raise PinnerfsError(in_a_line(f"{what} {takes} ({remedy})"), BAD_INPUT)


def _rounded(seconds: float) -> str:
    """Return a time in words, such as "5 min"."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(1, seconds):.0f} s"


def _check(name: str, scenario: Scenario, demands: Sequence[float], limits: Limits) -> None:
    total, limit = math.ceil(sum(demands)), getattr(limits, name)
    if total <= limit:
        return
    most = max(range(len(demands)), key=demands.__getitem__)
    own = math.ceil(demands[most])
    users = [("task", number, task.name) for number, task in enumerate(scenario.task)]
    users += [("alloc", number, alloc.name) for number, alloc in enumerate(scenario.alloc)]
    kind, number, user = users[most]
    does, one, several = _WORDS[name] if kind == "task" else _ALLOC_WORDS
    message = f'{kind} "{user}" {does.format(f"{shown(own)} {one if own == 1 else several}")}'
    if own <= limit:
        message += f", of {shown(total)} for all tasks{' and allocs' if scenario.alloc else ''}"
    key = name if name == "instances" else None
    raise TableError(f"{message} (limit {limit}; raise it with --limit {name}=N)", (kind, number), key, complete=True)
