"""The text of an imported scenario."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pinnerfs.importing.plan import TaskPlan
from pinnerfs.importing.words import array, comment, key, quoted, time_of
from pinnerfs.kernel.pageflags import PAGE_SIZE
from pinnerfs.kernel.stacks import symbol
from pinnerfs.words import count_of

__all__ = ["Skeleton"]


@dataclass
class Skeleton:
    """A scenario. kernel: the one that the capture is from. length_us: for how long tasks pin.

    file: the record file that has the sites, kind: that of their records, or "" if the file does not tell kinds.
    shows_duration: whether the records tell how long a hold lasted. left_out: what the scenario does not have.
    """

    source: str
    headline: str
    kernel: str
    threshold_us: int
    length_us: int
    file: str
    kind: str
    shows_duration: bool
    block_order: int
    areas: Sequence[str]
    tasks: Sequence[TaskPlan]
    left_out: Sequence[str]
    seed: int = 0

    @property
    def end_us(self) -> int:
        """Return when the last hold is over, in whole seconds."""
        last = max(plan.start_us + plan.period_us * (plan.holds - 1) + plan.longest for plan in self.tasks)
        return (last // 10**6 + 1) * 10**6

    def text(self) -> str:
        """Return the TOML."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        yield f"# Imported from {comment(self.source)} (kernel {self.kernel}):"
        yield f"#   {comment(self.headline)}"
        yield "# From the dump: the stacks, the pages of a hold, how long holds last, the flags, the kind of memory."
        yield "# Guessed, marked with `guess`: what a dump does not tell. Replace it by what you know."
        yield from (f"# Left out: {comment(sentence)}" for sentence in self.left_out)
        yield from ("", "format = 1", 'name = "imported"')
        yield f"description = {quoted(self.headline)}"
        yield f"seed = {self.seed}"
        yield f"duration = {quoted(time_of(self.length_us))}  # guess: no file tells how long a dump took"
        yield f"threshold = {quoted(time_of(self.threshold_us))}"
        yield f"culprit = {quoted(self.tasks[0].name)}"
        yield from self._memory()
        for plan in self.tasks:
            yield from _stack(plan.name, plan.frames)
            if plan.refused:
                yield from _stack(f"{plan.name} refused", plan.refused)
        for plan in self.tasks:
            yield from self._task(plan)
        for plan, area in zip(self.tasks, self.areas, strict=True):
            if plan.refused:
                yield from self._alloc(plan, area)
        yield from self._expectations()

    def _memory(self) -> Iterator[str]:
        block = PAGE_SIZE << self.block_order
        base = self.tasks[0].first_block << self.block_order
        yield from (
            "",
            "# Each task has a region of its own, with as many pageblocks as its pages were in. Page frame numbers are",
            "# not those of the dump: the regions are next to each other, from a pageblock of the first task on.",
            "[memory]",
        )
        yield f"size = {quoted(_size(block * sum(plan.blocks for plan in self.tasks)))}"
        yield f"base_pfn = {base:#x}"
        yield f"pageblock_order = {self.block_order}"
        for plan, area in zip(self.tasks, self.areas, strict=True):
            yield from ("", "[[memory.region]]", f"name = {quoted(plan.name)}")
            yield f"size = {quoted(_size(block * plan.blocks))}"
            yield f"migratetype = {quoted('CMA' if plan.cma else 'Movable')}"
            if area:
                yield f"cma = {quoted(area)}"
            yield f"flags = {array(plan.flags)}"
            if plan.zone:
                yield f"zone = {plan.zone}"
            if plan.of_file:
                yield 'pages = "file"'

    def _task(self, plan: TaskPlan) -> Iterator[str]:
        values, weights = plan.choice
        about = f"# {plan.site} ({plan.owner}): {count_of(len(plan.durations), 'hold')} in the dump"
        yield from ("", comment(about), "[[task]]", f"name = {quoted(plan.name)}")
        yield f"stack = {quoted(plan.name)}"
        yield f"foll = {quoted(plan.foll)}"
        if plan.refused:
            yield f"start = {quoted(time_of(plan.start_us))}"
            yield f"release = {quoted(plan.release)}"
        yield f"region = {quoted(plan.name)}"
        yield f"pages = {plan.pages}"
        if plan.order:
            yield f"order = {plan.order}"
        short = plan.stride - 1
        step = max(1, plan.period_us // (2 * plan.stride))
        yield from ("", "[[task.phase]]", "repeat = 1")
        yield f"every = {quoted(time_of(plan.period_us - short * step))}  # guess: a dump does not tell the rate"
        times = [time_of(plan.lead_us + value) for value in values]
        weighted = f", weights = {array(weights)}" if len(set(weights)) > 1 else ""
        choice = f'{{ dist = "choice", values = {array(times)}{weighted} }}'
        yield f"hold = {choice if len(times) > 1 else quoted(times[0])}"
        if short:
            yield from ("", "# guess: pins too short to be recorded, so that the recorded ones are in all pageblocks")
            yield from ("[[task.phase]]", f"repeat = {short}", f"every = {quoted(time_of(step))}", 'hold = "1us"')

    def _alloc(self, plan: TaskPlan, area: str) -> Iterator[str]:
        yield from (
            "",
            "# It meets the pages of each hold. A guess: when it comes, how much it wants, and how often it tries.",
        )
        yield from ("[[alloc]]", f"name = {quoted(plan.name)}", f"area = {quoted(area)}")
        yield f"stack = {quoted(f'{plan.name} refused')}"
        yield f"pages = {plan.blocks << self.block_order}"
        yield f"start = {quoted(time_of(plan.alloc_us))}"
        yield "retries = 0"
        yield from ("", "[[alloc.phase]]", f"repeat = {plan.holds}", f"every = {quoted(time_of(plan.period_us))}")
        yield 'hold = "1ms"'

    def _expectations(self) -> Iterator[str]:
        for name in dict.fromkeys(symbol(frame) for frame in map(_named_frame, self.tasks)):
            found = [plan for plan in self.tasks if name in map(symbol, plan.frames)]
            times = [time for plan in found for time in plan.choice[0]]
            yield from ("", "[[expect]]", f"at = {quoted(time_of(self.end_us))}", f"kernel = {quoted(self.kernel)}")
            if self.kind:
                yield from (f"file = {quoted(self.file)}", f"kind = {quoted(self.kind)}")
            elif found[0].refused:
                yield f"file = {quoted(self.file)}"
            yield f"call_site = {quoted(name)}"
            count = sum(plan.records for plan in found)
            yield f"records = {{ min = {count} }}" if found[0].refused else f"records = {count}"
            if self.shows_duration:
                yield f"ts = {{ min = {quoted(time_of(min(times)))}, max = {quoted(time_of(max(times)))} }}"


def _stack(name: str, frames: Sequence[str]) -> Iterator[str]:
    yield from ("", f"[stack.{key(name)}]", "frames = [")
    yield from (f"    {quoted(frame)}," for frame in frames)
    yield "]"


def _named_frame(plan: TaskPlan) -> str:
    """Return the frame that the name of the site ends with."""
    last = plan.site.rpartition(" | ")[2]
    return next((frame for frame in plan.frames if symbol(frame).startswith(last)), plan.frames[0])


def _size(size: int) -> str:
    for unit, length in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if size % length == 0:
            return f"{size // length}{unit}"
    return f"{size >> 10}KiB"
