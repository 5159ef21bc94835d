"""A scenario played against page_pinner: all of pinnerfs without a mount."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from pinnerfs.arguments import (
    checked_microseconds,
    checked_number,
    checked_retries,
    checked_seed,
    checked_step,
    checked_threshold,
)
from pinnerfs.clock import LAST_MOMENT
from pinnerfs.errors import PinnerfsError
from pinnerfs.kernel.cma.allocation import Allocation, Request
from pinnerfs.kernel.cma.allocator import Allocator
from pinnerfs.kernel.events import EventBatch
from pinnerfs.kernel.page_pinner.generations import INTRODUCED
from pinnerfs.kernel.page_pinner.pinner import DEFAULT_THRESHOLD, Pinner
from pinnerfs.kernel.stacks import StackDepot
from pinnerfs.recordfiles import RecordFiles
from pinnerfs.scenario.allocs import MAX_ALIGN
from pinnerfs.scenario.faults import Fault
from pinnerfs.scenario.limits import LIMITS, Limits
from pinnerfs.scenario.quantities import parse_time
from pinnerfs.scenario.schema import Scenario
from pinnerfs.simulation.contiguous import CmaFiles
from pinnerfs.simulation.counters import by_task, totals
from pinnerfs.simulation.profiles import generation, memory_management, need_threshold
from pinnerfs.simulation.records import PinnerFiles
from pinnerfs.simulation.schedule import Schedule
from pinnerfs.simulation.setup import cma_areas, memory_map
from pinnerfs.workload.allocs import Allocs
from pinnerfs.workload.callchains import ReleaseChains
from pinnerfs.workload.timeline import Timeline

__all__ = ["Observer", "Simulation"]

NO_EVENTS = EventBatch.of([])

_LEAST_PAGES, _MOST_PAGES = -(1 << 31), (1 << 31) - 1  # of a write to cma/NAME/alloc or free


class Observer(Protocol):
    """Gets called at every step of a simulation."""

    def generated(self, batch: EventBatch, until: int) -> None:
        """Take note of the next events, which may be none, on the way to `until` (µs)."""

    def applied(self, now: int, stats: dict[str, int]) -> None:
        """Take note that all these events are accounted for, up to `now` (µs)."""


class Simulation(PinnerFiles, CmaFiles):
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
        self.memory = memory_map(scenario.memory)
        self._depot = StackDepot()
        if threshold is not None:
            need_threshold(self.generation)
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
        areas = cma_areas(scenario.memory)
        self._allocator = Allocator(areas, self._mm, self._pinner, self._depot, scenario.cpus, quiet_migration)
        self._allocs = Allocs(scenario, self._seed, self.generation, self._allocator, self._retries)
        self._chains = ReleaseChains(scenario, self.generation, self._depot)
        self._files = RecordFiles(self._pinner, self._depot, self._chains)
        self._schedule = Schedule(self._timeline, self._allocs)
        self._most_live = limits.pins
        self._observer = observer
        self._now = 0
        self._finished = -1  # all events up to and at this moment are accounted for

    @property
    def now(self) -> int:
        """Return the boot time (µs) up to which all events are accounted for."""
        return self._now

    @property
    def seed(self) -> int:
        """Return the seed of all draws."""
        return self._seed

    @property
    def faults(self) -> Sequence[Fault]:
        """Return the scenario's rules of faults."""
        return self.scenario.fault

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
        is_due = True
        while is_due:
            due = self.next_event()
            is_due = due is not None and due <= moment
            if not is_due and self._now >= moment:
                break
            batch = self._schedule.take(moment) if is_due else NO_EVENTS
            if self._observer is not None:
                self._observer.generated(batch, moment)
            if not is_due:
                self._now = moment
            elif len(batch):
                self._allocator.apply(batch)
                self._now = int(batch.time[-1])
            elif (due := self._schedule.due_alloc(moment)) is not None:
                self._allocs.step(due)
                self._now = max(self._now, due)
            else:
                # The next event is not known yet, if it may be due.
                due = self.next_event()
                self._now = moment if due is None or due > moment else max(self._now, due - 1)
            if self._observer is not None:
                self._observer.applied(self._now, self.stats())
            yield self._now
        self._finished = max(self._finished, moment)

    def _finish_moment(self) -> None:
        """Account for the events that are due now."""
        if self._finished < self._now:
            self.advance_to(self._now)

    def do(self, actions: str) -> None:
        """Pin, release, unmap, free and allocate pages now, one action per line: "pin task=camera pages=64 hold=500ms".

        Raise PinnerfsError with the line and the reason if one of them is refused. None of them is done then.
        """
        from pinnerfs.workload.live import Live  # rarely needed, so do not load it at start

        self.advance_to(self._now)
        if self._schedule.live is None:
            self._schedule.live = Live(
                self.scenario, self._seed, self.memory, self.generation, self._depot, self._most_live, self._allocs
            )
        try:
            self._schedule.live.do(actions, self._now)
        except ValueError as error:
            raise PinnerfsError(str(error)) from None
        self.advance_to(self._now)

    def next_event(self) -> int | None:
        """Return the time (µs) of the next event, or None if there are no more."""
        return self._schedule.next_event()

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

        Raise PinnerfsError for an unknown area and for a number out of its range.
        """
        self._finish_moment()
        checked_number("pages", pages, _MOST_PAGES, _LEAST_PAGES)
        checked_number("align", align, MAX_ALIGN)
        frames = tuple(stack) if stack is not None else ()
        most = self._retries if retries is None else checked_retries(retries, "retries")
        request = Request(pages, align, most, no_warn, noretry, frames, kept)
        return self._allocator.start(self._area(area), request, self._now)

    def release_alloc(self, allocation: Allocation) -> None:
        """Give the pages of an allocation back: imitates `cma_release`.

        Raise PinnerfsError if the caller does not have them: the allocation has no pages, not yet or not any more, or
        cma/NAME/free gives them back.
        """
        self._finish_moment()
        if allocation.state != "got" or allocation.request.kept:
            state = "kept for cma/NAME/free" if allocation.state == "got" else allocation.state
            raise PinnerfsError(f"cannot release the pages of an allocation that is {state}: wanted one that is got")
        self._allocator.release(allocation)
        allocation.state = "released"

    def give_up_alloc(self, allocation: Allocation) -> None:
        """Let an allocation that waits for its next round fail now, as after a fatal signal."""
        self._finish_moment()
        self._allocator.give_up(allocation, self._now)

    def free_kept(self, area: str, pages: int) -> None:
        """Free pages that cma/NAME/alloc got, the newest first, or all if negative: imitates `cma_free_write`."""
        self._finish_moment()
        self._area(area).give_back(checked_number("pages", pages, _MOST_PAGES, _LEAST_PAGES))

    def stats(self) -> dict[str, int]:
        """Return the counters since the start, by name.

        `pins`, `releases`, `put_page`, `untracked` and `held_now` count pages, and a compound page is one page.
        `shares_empty` counts holds. All other counters count frames, and each frame has its own record. See `Counter`.
        """
        shares_empty = sum(self._timeline.shares_empty(self._now).values())
        return totals(self._pinner, self._files.ring(), self._allocator, shares_empty)

    def explain(self) -> dict[str, dict[str, int]]:
        """Return the counters of each task, by its name, in the scenario's order.

        Calls count for the task that makes them, and so does `held_now`, the pages that it took and has not let go.
        Records and marks count for the task that set the mark, which is the last one that pinned the frame.
        `pinned_now` is the number of frames that carry the task's mark.
        """
        names = [task.name for task in self.scenario.task]
        return by_task(self._pinner, self._depot, names, self._timeline.shares_empty(self._now))

    def explain_allocs(self) -> dict[str, dict[str, int]]:
        """Return the counters of each alloc of the scenario, by its name, in the scenario's order.

        `allocs` began, of which some `got` their pages, some `failed`, and the others are `waiting` for a later round.
        `pages_now` is the number of pages that the alloc has now. Live allocations by the alloc's name count, too.
        """
        return self._allocs.counters()
