"""The tables of a scenario file, and what each value must be. scenarios/README.md explains them."""

# Annotations are not postponed: msgspec would compile each one again in every process.

import re
from functools import cached_property
from typing import Literal, get_args

import msgspec

from pinnerfs.scenario.allocs import Alloc
from pinnerfs.scenario.distributions import Quantity, TimeDistribution, read_quantity
from pinnerfs.scenario.expectations import Expectation
from pinnerfs.scenario.faults import MAX_RULES, Fault
from pinnerfs.scenario.memory import Memory
from pinnerfs.scenario.messages import nearest, shown
from pinnerfs.scenario.phases import Phase
from pinnerfs.scenario.quantities import parse_time
from pinnerfs.scenario.tables import Measure, Number, Table, check_text

__all__ = ["LONGTERM", "MAX_PAGES", "RELEASES", "Release", "Scenario", "Stack", "Task"]

Via = Literal["slow", "fast"]
# FOLL_LONGTERM goes with FOLL_PIN alone: is_valid_gup_flags() refuses it to get_user_pages().
Foll = Literal["FOLL_GET", "FOLL_PIN", "FOLL_PIN|FOLL_LONGTERM", "none"]
LONGTERM: Foll = "FOLL_PIN|FOLL_LONGTERM"
Pick = Literal["contiguous", "scattered"]
Release = Literal["put_user_page", "unpin_user_page", "put_page", "free", "never"]
RELEASES: tuple[Release, ...] = get_args(Release)

# The call that releases pages by default. A reference without a FOLL flag is a plain one.
RELEASE_OF: dict[Foll, Release] = {
    "FOLL_GET": "put_user_page",
    "FOLL_PIN": "unpin_user_page",
    LONGTERM: "unpin_user_page",
    "none": "put_page",
}

MAX_PAGES = 1 << 18
MAX_WEIGHT = 1_000_000

# As a kernel prints it with %pS; kernel symbols can have dots and $ in them, such as those of .isra.0 or .cfi_jt.
FRAME = re.compile(r"[A-Za-z_.$][\w.$]*(?:\+0x(?P<offset>[0-9a-f]+)/0x(?P<size>[0-9a-f]+))?(?: \[[\w-]+\])?", re.ASCII)
MAX_FRAME = 200


class Stack(Table, frozen=True):
    """A call chain, `[stack.NAME]`."""

    frames: list[str]
    via: Via | None = None
    syscall: str | None = None

    def __post_init__(self) -> None:
        for frame in self.frames:
            _check_frame(frame)
        if self.syscall is not None and not re.fullmatch(r"\w{1,64}", self.syscall, re.ASCII):
            raise ValueError(f"syscall = {self.syscall!r} must be the name of a system call, such as 'ioctl'")


def _check_frame(frame: str) -> None:
    if len(frame) > MAX_FRAME:
        raise ValueError(f"frames has {frame!r}, which must have at most {MAX_FRAME} characters")
    match = FRAME.fullmatch(frame)
    if match is None:
        raise ValueError(
            f"frames has {frame!r}, which is not a frame: write symbol or symbol+0x10/0x80, "
            "and add ' [module]' if it is in a module"
        )
    if match["offset"] is not None and int(match["offset"], 16) >= int(match["size"], 16):
        raise ValueError(f"frames has {frame!r}, whose offset must be below its size: symbol+0x10/0x80")


class Task(Table, frozen=True, dict=True):
    """A user of pages, `[[task]]`."""

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
    release_stack: str | None = None
    mapped: bool = True
    unmap: Quantity = "never"

    def __post_init__(self) -> None:
        check_text("name", self.name)
        if self.instances < 1:
            raise ValueError(f"instances = {shown(self.instances)} must be at least 1")
        _ = self.start_distribution  # to check it
        if self.share is None:
            if self.region is None:
                raise ValueError("a task must have a `region` for its pages, or `share` those of another task")
        elif (self.region, self.pages, self.order, self.pick, self.pfn) != (None, None, None, None, None):
            raise ValueError(
                f"share = {self.share!r} takes another task's pages: leave out region, pages, order, pick and pfn"
            )
        if self.pages is not None and not 1 <= self.pages <= MAX_PAGES:
            raise ValueError(f"pages = {shown(self.pages)} must be from 1 to {MAX_PAGES}")
        if not 0 <= (self.order or 0) <= 18:
            raise ValueError(f"order = {shown(self.order)} must be from 0 to 18")
        if self.pfn is not None:
            self._check_pfn(self.pfn)
        if isinstance(self.release, dict):
            _check_weights(self.release)
        self._check_phases()
        self._check_unmap()

    def _check_unmap(self) -> None:
        if self.unmap == "never":
            return
        if not self.mapped:
            raise ValueError(f"unmap = {shown(self.unmap)} goes with mapped = true: leave out one of the two")
        if self.unmap == "with-release" and self.release == "never":
            raise ValueError("unmap = 'with-release' goes with a task that releases its pages")
        try:
            _ = self.unmap_distribution  # to check it
        except ValueError as error:
            raise ValueError(f"{error}, or 'with-release', or 'never'") from None

    def _check_phases(self) -> None:
        if all(phase.pause for phase in self.phase):
            raise ValueError("a task must have a phase in which something arrives, with `every`, `gap` or `rate`")
        for number, phase in enumerate(self.phase, start=1):
            if not phase.pause and (phase.hold is None) != (self.release == "never"):
                wanted = "no `hold`: its pins are never released" if self.release == "never" else "a `hold`"
                raise ValueError(f"phase {number} must have {wanted}")

    def _check_pfn(self, pfn: int) -> None:
        if self.pick == "scattered":
            raise ValueError(f"pfn = {shown(pfn)} places the pages side by side: leave out pick = 'scattered'")
        alignment = 1 << (self.order or 0)
        if pfn % alignment:
            pages = f"pages of order {self.order} are aligned to their size"
            raise ValueError(f"pfn = {shown(pfn)} must be a multiple of {alignment}: {pages}")

    @cached_property
    def start_distribution(self) -> TimeDistribution:
        """Return when an instance begins its first phase."""
        return read_quantity("start", self.start)

    @cached_property
    def unmap_distribution(self) -> TimeDistribution | None:
        """Return the time from a pin to the munmap of its pages; None if it comes with the release, or never."""
        return None if self.unmap in ("never", "with-release") else read_quantity("unmap", self.unmap)

    @property
    def releases(self) -> dict[Release, int]:
        """Return the calls that can release a hold, each with its weight; a single call has weight 1.

        They come in the order of RELEASES, so that the order of keys in a file changes no draw.
        """
        if isinstance(self.release, dict):
            return {call: self.release[call] for call in RELEASES if call in self.release}
        return {self.release or RELEASE_OF[self.foll]: 1}


class Scenario(Table, frozen=True):
    """A whole scenario file. pinnerfs.scenario.references checks what its tables say about each other."""

    format: Literal[1]
    name: str
    description: str
    memory: Memory
    stack: dict[str, Stack]
    task: list[Task]
    alloc: list[Alloc] = msgspec.field(default_factory=list)
    expect: list[Expectation] = msgspec.field(default_factory=list)
    fault: list[Fault] = msgspec.field(default_factory=list)
    seed: int = 0
    duration: Measure | None = None
    threshold: Measure = "300ms"
    race: Number = 0.0
    culprit: str | None = None
    cpus: int = 8

    def __post_init__(self) -> None:
        check_text("name", self.name)
        if self.description:
            check_text("description", self.description)
        if not 0 <= self.seed < 1 << 64:
            raise ValueError(f"seed = {shown(self.seed)} must be from 0 to {(1 << 64) - 1}")
        if self.duration is not None and not parse_time("duration", self.duration):
            raise ValueError(f"duration = {self.duration!r} must be above 0")
        parse_time("threshold", self.threshold)
        if len(self.fault) > MAX_RULES:
            raise ValueError(f"fault has {len(self.fault)} entries: it must have at most {MAX_RULES}")
        if not 0 <= self.race <= 1:
            raise ValueError(f"race = {shown(self.race)} must be from 0 to 1")
        if not 1 <= self.cpus <= 8192:
            raise ValueError(f"cpus = {shown(self.cpus)} must be from 1 to 8192")


def _check_weights(weights: dict[str, int]) -> None:
    calls = [call for call in RELEASES if call != "never"]
    if not weights:
        raise ValueError(f"release is an empty table: it must have one or more of {', '.join(calls)}")
    for call, weight in weights.items():
        if call == "never":
            raise ValueError(
                "release.never is not allowed: a task releases all of its holds, or none (to forget some releases, "
                'let `hold` be a choice with a time such as "100h")'
            )
        if call not in calls:
            hint = nearest(call, calls)
            raise ValueError(f"release has the unknown call {call!r}: the calls are {', '.join(calls)}{hint}")
        if not 1 <= weight <= MAX_WEIGHT:
            raise ValueError(f"release.{call} = {shown(weight)} must be from 1 to {MAX_WEIGHT}")
