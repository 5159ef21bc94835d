"""The shape of a scenario file: what may stand in it, and what a value must be. scenarios/README.md explains it."""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import cached_property
from typing import Literal, get_args

import msgspec

from pinnerfs.kernel.stacks import symbol
from pinnerfs.scenario.distributions import Distribution, Quantity, TimeDistribution, read_quantity
from pinnerfs.scenario.expectations import Expectation
from pinnerfs.scenario.memory import Memory, Region
from pinnerfs.scenario.quantities import parse_rate, parse_time
from pinnerfs.scenario.tables import Table, Time, in_words, no_twins

__all__ = ["CHOICES", "RELEASES", "TABLE_LISTS", "Phase", "Scenario", "Stack", "Task"]

Via = Literal["slow", "fast"]
Foll = Literal["FOLL_GET", "FOLL_PIN", "none"]
Pick = Literal["contiguous", "scattered"]
Release = Literal["put_user_page", "unpin_user_page", "put_page", "free", "never"]
RELEASES: tuple[Release, ...] = get_args(Release)

# What a key of a few words may say: for messages, as msgspec's own do not list it.
CHOICES: dict[str, tuple[object, ...]] = {
    "format": (1,),
    "via": get_args(Via),
    "foll": get_args(Foll),
    "pick": get_args(Pick),
    "release": RELEASES,
    "dist": tuple(struct.__struct_config__.tag for struct in get_args(Distribution)),
}

# What there may be several of, each a table of its own.
TABLE_LISTS = ("memory.region", "task", "task.phase", "expect")

# What ends a hold unless a task says otherwise. A reference that was taken without a FOLL flag is a plain one.
RELEASE_OF: dict[Foll, Release] = {"FOLL_GET": "put_user_page", "FOLL_PIN": "unpin_user_page", "none": "put_page"}

MAX_PAGES = 1 << 18
MAX_WEIGHT = 1_000_000


class Stack(Table, frozen=True):
    frames: list[str]
    via: Via | None = None
    syscall: str | None = None

    def __post_init__(self) -> None:
        for frame in self.frames:
            if not frame or not frame.isprintable() or frame != frame.strip() or len(frame) > 200:
                raise ValueError(f"frames has {frame!r}, which must be a symbol of at most 200 characters")
        if self.syscall is not None and not re.fullmatch(r"\w{1,64}", self.syscall):
            raise ValueError(f"syscall = {self.syscall!r} must be the name of a system call, such as 'ioctl'")


class Phase(Table, frozen=True, dict=True, rename={"lasts": "for"}):
    lasts: Quantity | None = None
    repeat: int | None = None
    every: Time | None = None
    gap: Quantity | None = None
    rate: Time | None = None
    hold: Quantity | None = None

    def __post_init__(self) -> None:
        if (self.lasts is None) == (self.repeat is None):
            raise ValueError("a phase must have either `for` or `repeat`")
        if self.repeat is not None and not 1 <= self.repeat <= 1 << 40:
            raise ValueError(f"repeat = {self.repeat} must lie from 1 to {1 << 40}")
        arrivals = sum(way is not None for way in (self.every, self.gap, self.rate))
        if arrivals > 1 or (not arrivals and (self.repeat is not None or self.hold is not None)):
            raise ValueError("a phase must have one of `every`, `gap` or `rate` (none of them, nor `hold`: a pause)")
        if self.lasts_distribution is not None and isinstance(self.lasts, str) and not parse_time("for", self.lasts):
            raise ValueError(f"for = {self.lasts!r} must be above 0")
        if self.every is not None and not parse_time("every", self.every):
            raise ValueError(f"every = {self.every!r} must be at least 1us")
        if self.rate is not None:
            parse_rate("rate", self.rate)
        _ = self.gap_distribution, self.hold_distribution  # which refuse what is wrong

    # Read once for all instances: a choice may have thousands of values.
    @cached_property
    def lasts_distribution(self) -> TimeDistribution | None:
        return None if self.lasts is None else read_quantity("for", self.lasts)

    @cached_property
    def gap_distribution(self) -> TimeDistribution | None:
        return None if self.gap is None else read_quantity("gap", self.gap)

    @cached_property
    def hold_distribution(self) -> TimeDistribution | None:
        return None if self.hold is None else read_quantity("hold", self.hold)

    @property
    def pause(self) -> bool:
        return self.every is None and self.gap is None and self.rate is None


class Task(Table, frozen=True, dict=True):
    name: str
    stack: str
    phase: list[Phase]
    instances: int = 1
    start: Quantity = "0s"
    foll: Foll = "FOLL_GET"
    region: str | None = None
    pages: int | None = None
    order: int | None = None
    pick: Pick | None = None
    share: str | None = None
    pfn: int | None = None
    release: Release | dict[str, int] | None = None

    def __post_init__(self) -> None:
        in_words("name", self.name)
        if self.instances < 1:
            raise ValueError(f"instances = {self.instances} must be at least 1")
        _ = self.start_distribution
        if self.share is None:
            if self.region is None:
                raise ValueError("a task must have a `region` for its pages, or `share` those of another task")
        elif (self.region, self.pages, self.order, self.pick, self.pfn) != (None, None, None, None, None):
            raise ValueError(f"share = {self.share!r} brings its pages: leave out region, pages, order, pick and pfn")
        if not 1 <= (1 if self.pages is None else self.pages) <= MAX_PAGES:
            raise ValueError(f"pages = {self.pages} must lie from 1 to {MAX_PAGES}")
        if not 0 <= (self.order or 0) <= 18:
            raise ValueError(f"order = {self.order} must lie from 0 to 18")
        if self.pfn is not None:
            self._check_pfn(self.pfn)
        if isinstance(self.release, dict):
            _check_weights(self.release)
        if not self.phase or all(phase.pause for phase in self.phase):
            raise ValueError("a task must have a phase in which something arrives")
        for number, phase in enumerate(self.phase):
            if not phase.pause and (phase.hold is None) != (self.release == "never"):
                wanted = "no `hold`: its pins are never released" if self.release == "never" else "a `hold`"
                raise ValueError(f"phase[{number}] must have {wanted}")

    @cached_property
    def start_distribution(self) -> TimeDistribution:
        return read_quantity("start", self.start)

    def _check_pfn(self, pfn: int) -> None:
        if self.pick == "scattered":
            raise ValueError(f"pfn = {pfn} places all pages: leave out pick = 'scattered'")
        alignment = 1 << (self.order or 0)
        if pfn % alignment:
            raise ValueError(f"pfn = {pfn} must be a multiple of {alignment}, the frames of a page of this order")

    @property
    def releases(self) -> dict[Release, int]:
        """Return the calls that can end a hold, each with its weight; a single call has weight 1.

        The calls come in the order of RELEASES: the order of keys in a file changes no draw.
        """
        if isinstance(self.release, dict):
            return {call: self.release[call] for call in RELEASES if call in self.release}
        return {self.release or RELEASE_OF[self.foll]: 1}


class Scenario(Table, frozen=True):
    format: Literal[1]
    name: str
    description: str
    memory: Memory
    stack: dict[str, Stack]
    task: list[Task]
    expect: list[Expectation] = msgspec.field(default_factory=list)
    seed: int = 0
    duration: Time | None = None
    threshold: Time = "300ms"
    race: float = 0.0

    def __post_init__(self) -> None:
        in_words("name", self.name)
        if self.description:
            in_words("description", self.description)
        for name in self.stack:
            in_words("a stack's name", name)
        if not 0 <= self.seed < 1 << 64:
            raise ValueError(f"seed = {self.seed} must be a number of 64 bits")
        if self.duration is not None and not parse_time("duration", self.duration):
            raise ValueError(f"duration = {self.duration!r} must be above 0")
        parse_time("threshold", self.threshold)
        if not 0 <= self.race <= 1:
            raise ValueError(f"race = {self.race} must lie from 0 to 1")
        no_twins("task", [task.name for task in self.task])
        tasks = {task.name: task for task in self.task}
        regions = {region.name: region for region in self.memory.region}
        for number, task in enumerate(self.task):
            where = f"task[{number}] {task.name!r}:"
            if task.stack not in self.stack:
                raise ValueError(f"{where} stack = {task.stack!r} must be one of {_names(self.stack)}")
            if task.share is None:
                self._check_room(where, task, regions)
            elif task.share == task.name or task.share not in tasks:
                others = [name for name in tasks if name != task.name]
                raise ValueError(f"{where} share = {task.share!r} must name another task, of {_names(others)}")
            elif tasks[task.share].share is not None:
                raise ValueError(f"{where} share = {task.share!r} must name a task with pages of its own")

        # A misspelt one would never be found, and an expectation of none of its records always hold.
        known = {symbol(frame) for stack in self.stack.values() for frame in stack.frames}
        for number, expectation in enumerate(self.expect):
            if expectation.call_site is not None and expectation.call_site not in known:
                where = f"expect[{number}]: call_site = {expectation.call_site!r}"
                raise ValueError(f"{where} must be a symbol of the stacks' frames, without offset and module")

    def _check_room(self, where: str, task: Task, regions: dict[str, Region]) -> None:
        if task.region not in regions:
            raise ValueError(f"{where} region = {task.region!r} must be one of {_names(regions)}")
        order = task.order or 0
        if order > self.memory.pageblock_order:
            raise ValueError(f"{where} order = {order} must not lie above the pageblock_order")
        needed, there = (task.pages or 1) << order, regions[task.region].frames
        if needed > there:
            raise ValueError(f"{where} a hold of {needed} frames is larger than region {task.region!r} ({there})")
        if task.pfn is not None:
            first = self.memory.first_frame(task.region)
            end = task.pfn + task.instances * needed
            if task.pfn < first or end > first + there:
                raise ValueError(
                    f"{where} pfn = {task.pfn} places its pages at frames {task.pfn} to {end - 1}, "
                    f"outside of region {task.region!r} ({first} to {first + there - 1})"
                )


def _names(names: object) -> str:
    return ", ".join(repr(name) for name in names) or "none"  # type: ignore[attr-defined]


def _check_weights(weights: dict[str, int]) -> None:
    calls = [call for call in RELEASES if call != "never"]
    if not weights:
        raise ValueError(f"release has no call: it must have one or more of {', '.join(calls)}")
    for call, weight in weights.items():
        if call == "never":
            raise ValueError("release.never is not allowed: a task releases all of its holds or none")
        if call not in calls:
            near = get_close_matches(call, calls, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"release has the call {call!r}, which must be one of {', '.join(calls)}{hint}")
        if not 1 <= weight <= MAX_WEIGHT:
            raise ValueError(f"release.{call} = {weight} must be a whole number from 1 to {MAX_WEIGHT}")
