"""A scenario played against page_pinner: all of pinnerfs without a mount."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Protocol

from pinnerfs.arguments import checked_microseconds, checked_retries, checked_seed, checked_step, checked_threshold
from pinnerfs.clock import LAST_MOMENT
from pinnerfs.errors import BAD_INPUT, PinnerfsError
from pinnerfs.kernel.cma.allocation import Allocation, Request
from pinnerfs.kernel.cma.allocator import Allocator
from pinnerfs.kernel.cma.areas import Area
from pinnerfs.kernel.cma.mm import MMS, Mm
from pinnerfs.kernel.events import EventBatch
from pinnerfs.kernel.page_pinner.generations import GENERATIONS, INTRODUCED, Generation
from pinnerfs.kernel.page_pinner.pinner import DEFAULT_THRESHOLD, Pinner
from pinnerfs.kernel.page_pinner.records import Record
from pinnerfs.kernel.page_pinner.ring import ThresholdRings
from pinnerfs.kernel.pageflags import Migratetype, page_flags
from pinnerfs.kernel.pages import FrameRange, MemoryMap, file_mapping
from pinnerfs.kernel.stacks import StackDepot
from pinnerfs.recordfiles import RecordFiles
from pinnerfs.scenario.limits import LIMITS, Limits
from pinnerfs.scenario.memory import Memory
from pinnerfs.scenario.quantities import parse_time
from pinnerfs.scenario.schema import Scenario
from pinnerfs.threshold import no_threshold
from pinnerfs.workload.allocs import Allocs
from pinnerfs.workload.callchains import ReleaseChains
from pinnerfs.workload.timeline import Timeline

if TYPE_CHECKING:
    from pinnerfs.workload.live import Live

__all__ = ["Observer", "Simulation", "generation", "memory_management"]

# Frames that events touch in one step: about 10 ms of work, so that other threads get their turn soon.
STEP_FRAMES = 1 << 17


class Observer(Protocol):
    """Gets called at every step of a simulation."""

    def generated(self, batch: EventBatch, until: int) -> None:
        """Take note of the next events, which may be none, on the way to `until` (µs)."""

    def applied(self, now: int, stats: dict[str, int]) -> None:
        """Take note that all these events are accounted for, up to `now` (µs)."""


def generation(name: str) -> Generation:
    """Return a kernel's profile. Raise PinnerfsError with the known names for an unknown one."""
    if name not in GENERATIONS:
        raise PinnerfsError(f"no kernel {name!r}: wanted one of {', '.join(GENERATIONS)}")
    return GENERATIONS[name]


def memory_management(name: str) -> Mm:
    """Return a kernel's memory management. Raise PinnerfsError with the known names for an unknown one."""
    if name not in MMS:
        raise PinnerfsError(f"no mm {name!r}: wanted one of {', '.join(MMS)}", BAD_INPUT)
    return MMS[name]


def _areas(memory: Memory) -> list[Area]:
    return [
        Area(region.cma, memory.first_frame(region.name), region.frames, region.order_per_bit)
        for region in memory.region
        if region.cma is not None
    ]


def _memory_map(memory: Memory) -> MemoryMap:
    regions, start = [], memory.base_pfn
    for region in memory.region:
        flags = page_flags(region.flags, region.zone)
        mapping = file_mapping(region.name) if region.pages == "file" else 0
        regions.append(FrameRange(region.name, start, region.frames, Migratetype[region.migratetype], flags, mapping))
        start += region.frames
    return MemoryMap(memory.base_pfn, memory.frames, memory.pageblock_order, regions)


class Simulation:
    """A scenario from time 0 on.

    `seed` and `threshold` replace the scenario's own. A threshold is a time such as "1s", or a number of µs. A kernel
    without a threshold ignores the scenario's own. Of the limits only `pins` counts: it is the most for live pins.

    `mm` names the memory management around page_pinner, and the default is the kernel's own. `cma_retries` replaces its
    number of retries. `quiet_migration` leaves out the records of a marked page's mappings, which a failing allocation
    takes away and puts back fifty times.

    Raise PinnerfsError for a wrong seed, threshold, kernel or mm, and for a threshold on a kernel that has none.
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        seed: int | None = None,
        threshold: int | str | None = None,
        kernel: str = INTRODUCED.name,
        limits: Limits = LIMITS,
        observer: Observer | None = None,
        mm: str | None = None,
        cma_retries: int | None = None,
        quiet_migration: bool = False,
    ) -> None:
        self.scenario = scenario
        self.generation = generation(kernel)
        self.memory = _memory_map(scenario.memory)
        self._depot = StackDepot()
        if threshold is not None:
            self._need_threshold()
            start_threshold = checked_threshold(threshold)
        elif self.generation.has_threshold:
            start_threshold = parse_time("threshold", scenario.threshold)
        else:
            start_threshold = DEFAULT_THRESHOLD
        self._mm = memory_management(self.generation.mm if mm is None else mm)
        self._pinner = Pinner(self.memory, self._mm.seen(self.generation), start_threshold)
        self._seed = scenario.seed if seed is None else checked_seed(seed)
        self._timeline = Timeline(scenario, self._seed, self.memory, self.generation, self._depot)
        for task in scenario.task:
            if not task.mapped:
                self._pinner.unmapped.update(self._depot.handles(task.name))
        self._retries = self._mm.retries if cma_retries is None else checked_retries(cma_retries)
        areas = _areas(scenario.memory)
        self._allocator = Allocator(areas, self._mm, self._pinner, self._depot, scenario.cpus, quiet_migration)
        self._allocs = Allocs(scenario, self._seed, self.generation, self._allocator, self._retries)
        self._chains = ReleaseChains(scenario, self.generation, self._depot)
        self._files = RecordFiles(self._pinner, self._depot, self._chains)
        self._live: Live | None = None  # until the first live action
        self._most_live = limits.pins
        self._observer = observer
        self._now = 0

    @property
    def now(self) -> int:
        """Return the boot time (µs) up to which all events are accounted for."""
        return self._now

    @property
    def seed(self) -> int:
        """Return the seed of all draws."""
        return self._seed

    def advance(self, step: int | str) -> None:
        """Advance by a time in µs, or by one with its unit: "5s". Raise PinnerfsError for anything else."""
        self.advance_to(self._now + checked_step(step))

    def advance_to(self, moment: int) -> None:
        """Account for all events up to and at a moment (µs). A moment in the past changes nothing.

        Raise PinnerfsError for a moment that no kernel's boot time reaches, or that is not a whole number.
        """
        for _ in self.steps_to(moment):
            pass

    def steps_to(self, moment: int) -> Iterator[int]:
        """Do the same in steps of bounded work. After each step yield the time (µs) that it reached.

        A step may reach no later time than the one before: to find the next event can take many steps.
        """
        if checked_microseconds("moment", moment) > LAST_MOMENT:
            raise PinnerfsError(f"cannot advance to {moment} us: boot time ends at {LAST_MOMENT} us (292 years)")
        while self._now < moment or self.next_event() == moment:
            batch = self._take(moment)
            if self._observer is not None:
                self._observer.generated(batch, moment)
            self._allocator.apply(batch)
            if not len(batch) and (due := self._due_alloc(moment)) is not None:
                self._allocs.step(due)
                self._now = max(self._now, due)
            elif len(batch):
                self._now = int(batch.time[-1])
            else:
                # The next event is not known yet, if it may be due.
                due = self.next_event()
                self._now = moment if due is None or due > moment else max(self._now, due - 1)
            if self._observer is not None:
                self._observer.applied(self._now, self.stats())
            yield self._now

    def _take(self, moment: int) -> EventBatch:
        """Return the next events. At equal times, live actions come after the scenario's events and allocations."""
        own = self._timeline.next_event()
        if (due := self._allocs.next_event()) is not None and due <= moment:
            moment = due
            if self._live is not None and self._live.next_event() == due:
                return self._timeline.take(moment, STEP_FRAMES)
        if self._live is None or (live := self._live.next_event()) is None or live > moment:
            return self._timeline.take(moment, STEP_FRAMES)
        if own is not None and own <= live:
            batch = self._timeline.take(live, STEP_FRAMES)
            if len(batch) or ((own := self._timeline.next_event()) is not None and own <= live):
                return batch
        return self._live.take(live, STEP_FRAMES)

    def _due_alloc(self, moment: int) -> int | None:
        """Return the time of the next step of allocations, if all that comes before it is done."""
        due = self._allocs.next_event()
        if due is None or due > moment or ((own := self._timeline.next_event()) is not None and own <= due):
            return None
        live = None if self._live is None else self._live.next_event()
        return None if live is not None and live < due else due

    def do(self, actions: str) -> None:
        """Pin, release, unmap and free pages now, one action on each line: "pin task=camera pages=64 hold=500ms".

        Raise PinnerfsError with the line and the reason if one of them is refused. None of them is done then.
        """
        from pinnerfs.workload.live import Live  # rarely needed, so do not load it at start

        self.advance_to(self._now)
        if self._live is None:
            self._live = Live(
                self.scenario, self._seed, self.memory, self.generation, self._depot, self._most_live, self._allocs
            )
        try:
            self._live.do(actions, self._now)
        except ValueError as error:
            raise PinnerfsError(str(error)) from None
        self.advance_to(self._now)

    def next_event(self) -> int | None:
        """Return the time (µs) of the next event, or None if there are no more."""
        own = self._timeline.next_event()
        live = None if self._live is None else self._live.next_event()
        due = self._allocs.next_event()
        return min((moment for moment in (own, live, due) if moment is not None), default=None)

    @property
    def mm(self) -> Mm:
        """Return the memory management around page_pinner."""
        return self._mm

    @property
    def areas(self) -> dict[str, Area]:
        """Return the CMA areas by name, in the order of the scenario's regions."""
        return self._allocator.areas

    def start_alloc(
        self,
        area: str,
        pages: int,
        *,
        align: int = 0,
        retries: int | None = None,
        no_warn: bool = False,
        noretry: bool = False,
        stack: Sequence[str] | None = None,
        kept: bool = False,
    ) -> Allocation:
        """Begin to allocate contiguous pages now, and make the first round: imitates `cma_alloc`.

        The rounds of an allocation that finds busy pages are events of later times. `stack` has the frames outside of
        cma_alloc; the default is a write to cma/NAME/alloc. `kept` pages belong to the list that cma/NAME/free takes
        from, the others to the caller.
        """
        self.advance_to(self._now)
        frames = tuple(stack) if stack is not None else ()
        most = self._retries if retries is None else retries
        request = Request(pages, align, most, no_warn, noretry, frames, kept)
        return self._allocator.start(self._area(area), request, self._now)

    def release_alloc(self, allocation: Allocation) -> None:
        """Give the pages of an allocation back: imitates `cma_release`."""
        self.advance_to(self._now)
        self._allocator.release(allocation)

    def give_up_alloc(self, allocation: Allocation) -> None:
        """Let an allocation that waits for its next round fail now, as after a fatal signal."""
        self.advance_to(self._now)
        self._allocator.give_up(allocation, self._now)

    def free_kept(self, area: str, pages: int) -> None:
        """Free pages that cma/NAME/alloc got, the newest first, or all if negative: imitates `cma_free_write`."""
        self.advance_to(self._now)
        self._area(area).give_back(pages)

    def dmesg(self) -> str:
        """Return the newest lines of the kernel log."""
        return self._allocator.log.text()

    def cma_counters(self, area: str) -> dict[str, int]:
        """Return the pages asked for, as /sys/kernel/mm/cma/NAME counts them."""
        counted = self._area(area)
        return {"alloc_pages_success": counted.alloc_pages_success, "alloc_pages_fail": counted.alloc_pages_fail}

    def vmstat(self) -> dict[str, int]:
        """Return the calls of cma_alloc, as /proc/vmstat counts them."""
        return {"cma_alloc_success": self._allocator.succeeded, "cma_alloc_fail": self._allocator.failed}

    def _area(self, name: str) -> Area:
        if name not in self.areas:
            known = ", ".join(self.areas) or "none"
            raise PinnerfsError(f"no CMA area {name!r}: the scenario has {known}", BAD_INPUT)
        return self.areas[name]

    def _need_threshold(self) -> None:
        if not self.generation.has_threshold:
            raise PinnerfsError(no_threshold(f"kernel {self.generation.name}"), BAD_INPUT)

    @property
    def threshold(self) -> int:
        """Return the threshold in force, in µs, signed. Raise PinnerfsError on a kernel without one."""
        self._need_threshold()
        return self._pinner.threshold

    @threshold.setter
    def threshold(self, value: int | str) -> None:
        """Set the threshold and clear the long-term records, even if it is the same. A time such as "1s" works."""
        self._need_threshold()
        self._pinner.write_threshold(checked_threshold(value))

    @property
    def files(self) -> RecordFiles:
        """Return the record files."""
        return self._files

    def files_at(self, thresholds: Sequence[int]) -> dict[int, RecordFiles]:
        """Keep longterm_pinner under each of these thresholds (µs, signed) from now on, and return the files by them.

        The threshold in force becomes the lowest one, and the records that there are go.
        """
        self._need_threshold()
        rings = ThresholdRings(thresholds)
        self._pinner.rings["longterm_pinner"] = rings
        self._pinner.threshold = rings.lowest
        return {
            threshold: RecordFiles(
                self._pinner, self._depot, self._chains, self._pinner.rings | {"longterm_pinner": ring}
            )
            for threshold, ring in rings.by_threshold.items()
        }

    @property
    def tracking(self) -> bool:
        """Return whether failed migrations are tracked: the switch `failure_tracking`."""
        return self._pinner.tracking

    @tracking.setter
    def tracking(self, value: bool) -> None:
        self._pinner.tracking = value

    @property
    def buffer_size(self) -> int:
        """Return the number of records that `buffer` has room for. Raise PinnerfsError on a kernel without `buffer`."""
        return self._files.ring("buffer").size

    @buffer_size.setter
    def buffer_size(self, value: int) -> None:
        """Set the number and empty `buffer`, even if it is the same. Raise OSError ENOMEM if it is too large."""
        self._files.ring("buffer").resize(value)

    def record(self, position: int, file: str | None = None) -> Record | None:
        """Return the record of a file `position` places after the newest, or None if there is none.

        The default is the kernel's main record file.
        """
        return self._files.record(position, file)

    def records(self, file: str | None = None) -> Iterator[Record]:
        """Yield the records of a file, newest first."""
        position = 0
        while (record := self.record(position, file)) is not None:
            yield record
            position += 1

    def text(self, position: int, file: str | None = None) -> bytes:
        """Return the text of the record `position` places after the newest, or b"" if there is none."""
        return self._files.text(position, file)

    def cat(self, file: str | None = None) -> str:
        """Return the text of a record file, as `cat` shows it."""
        texts = map(lambda position: self.text(position, file), range(self._files.ring(file).filled))
        return b"".join(takewhile(bool, texts)).decode()

    def stats(self) -> dict[str, int]:
        """Return the counters since the start, by name.

        `pins`, `releases`, `put_page`, `untracked` and `held_now` count pages, and a compound page is one page.
        `shares_empty` counts holds. All other counters count frames, and each frame has its own record. See `Counter`.
        """
        ring, counters = self._files.ring(), self._pinner.counters
        counted = counters.totals()
        first = {name: counted.pop(name) for name in ("pins", "releases", "longterm_records")}
        return {
            **first,
            "records_overwritten": ring.overwritten,
            "records_now": ring.filled,
            "pinned_now": counted.pop("pinned_now"),
            "pinned_now_in_cma": counters.pinned_now_in_cma,
            "held_now": counted.pop("held_now"),
            **counted,
            "shares_empty": sum(self._timeline.shares_empty(self._now).values()),
            "allocs_ok": self._allocator.succeeded,
            "allocs_failed": self._allocator.failed,
            "cma_pages_now": sum(area.used for area in self.areas.values()),
        }

    def explain(self) -> dict[str, dict[str, int]]:
        """Return the counters of each task, by its name, in the scenario's order.

        Calls count for the task that makes them, and so does `held_now`, the pages that it took and has not let go.
        Records and marks count for the task that set the mark, which is the last one that pinned the frame.
        `pinned_now` is the number of frames that carry the task's mark.
        """
        shares_empty = self._timeline.shares_empty(self._now)
        explained = {}
        for task in self.scenario.task:
            counted = self._pinner.counters.of(self._depot.handles(task.name))
            explained[task.name] = counted | {"shares_empty": shares_empty.get(task.name, 0)}
        return explained

    def explain_allocs(self) -> dict[str, dict[str, int]]:
        """Return the counters of each alloc of the scenario, by its name, in the scenario's order.

        `allocs` began, of which some `got` their pages, some `failed`, and the others are `waiting` for a later round.
        `pages_now` is the number of pages that the alloc has now. Live allocations by the alloc's name count, too.
        """
        return self._allocs.counters()
