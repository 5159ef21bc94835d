"""Allocations from CMA areas, those of the scenario and live ones: when they begin, and when they are released."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass

from pinnerfs.kernel.cma.allocation import Allocation, Request
from pinnerfs.kernel.cma.allocator import Allocator
from pinnerfs.kernel.page_pinner.generations import Generation
from pinnerfs.scenario.actions import AllocAction
from pinnerfs.scenario.allocs import Alloc
from pinnerfs.scenario.demand import ROUND
from pinnerfs.scenario.quantities import parse_time
from pinnerfs.scenario.schema import Scenario
from pinnerfs.workload.alloctimes import AllocTimes
from pinnerfs.workload.callchains import call_chain
from pinnerfs.workload.tasks import FOREVER

__all__ = ["MAX_LIVE", "Allocs"]

# Each action looks at all live allocations, so their number bounds the time of an action.
MAX_LIVE = 4096


@dataclass(eq=False)
class _Open:
    """An allocation that is not over: it waits for its next round, or it has its pages."""

    allocation: Allocation
    name: str | None  # of the scenario's alloc, or None for a live one of an area
    asked: int  # µs
    hold: int | None  # µs from its success to its release; None: not released by itself
    live: bool


class Allocs:
    """The allocations of a scenario and the live ones.

    The order at one moment: releases, later rounds of all allocations, then requests in the order of the scenario's
    tables.
    """

    def __init__(
        self, scenario: Scenario, seed: int, generation: Generation, allocator: Allocator, retries: int
    ) -> None:
        stop = FOREVER if scenario.duration is None else parse_time("duration", scenario.duration)
        self._allocator = allocator
        self._retries = retries  # of an alloc without a number of its own
        self._allocs = {alloc.name: alloc for alloc in scenario.alloc}
        self._times = {alloc.name: AllocTimes(alloc, seed, stop) for alloc in scenario.alloc}
        self._places = {name: place for place, name in enumerate(self._allocs)}
        # A heap of (moment, place, name) of the next requests. An entry is stale if that moment is another by now.
        self._requests = [(times.next_event, self._places[name], name) for name, times in self._times.items()]
        heapq.heapify(self._requests)
        self._stacks = {alloc.name: call_chain(scenario.stack[alloc.stack], generation) for alloc in scenario.alloc}
        self._waiting: dict[Allocation, _Open] = {}
        self._got: dict[_Open, None] = {}  # with their pages, in the order of their success
        self._releases: list[tuple[int, int, _Open]] = []  # a heap of (moment, number, allocation)
        self._released = 0
        self._counters = {alloc.name: Counter[str]() for alloc in scenario.alloc}

    def next_event(self) -> int | None:
        """Return a time (µs) before which nothing is due. Nothing may happen at that time. None: there is no more."""
        while self._requests and self._requests[0][0] != self._times[self._requests[0][2]].next_event:
            heapq.heappop(self._requests)
        due = self._requests[0][0] if self._requests else FOREVER
        if self._releases:
            due = min(due, self._releases[0][0])
        if (round_due := self._allocator.next_round()) is not None:
            due = min(due, round_due)
        return None if due == FOREVER else due

    def step(self, now: int) -> None:
        """Do the first thing that is due now, if anything is."""
        if self._releases and self._releases[0][0] <= now:
            self._release(heapq.heappop(self._releases)[2])
        elif (due := self._allocator.next_round()) is not None and due <= now:
            # A write to cma/NAME/alloc has none.
            if (one := self._waiting.pop(self._allocator.run(now), None)) is not None:
                self._note(one)
        elif (due := self.next_event()) is not None and due <= now:
            _, _, name = heapq.heappop(self._requests)
            request = self._times[name].take()
            self._expect(name)
            if request is not None:
                alloc = self._allocs[name]
                allocation = self._start(alloc, alloc.pages, now)
                self._note(_Open(allocation, name, now, request.hold, live=False))

    def begin_live(self, action: AllocAction, now: int) -> None:
        """Begin the allocation of a live action."""
        if action.alloc is not None:
            allocation = self._start(action.alloc, action.pages or action.alloc.pages, now)
            name = action.alloc.name
        else:
            assert action.pages is not None
            request = Request(action.pages, 0, self._retries, False, False, (), False)
            allocation, name = self._allocator.start(self._allocator.areas[action.area], request, now), None
        self._note(_Open(allocation, name, now, action.hold, live=True))

    def release_live(self, action: AllocAction) -> None:
        """Release the live allocations of an area or an alloc, the oldest first."""
        for one in self.live(action):
            self._release(one)

    def live(self, action: AllocAction) -> list[_Open]:
        """Return the live allocations that have their pages, of the area or the alloc of an action."""
        return [one for one in self._got if one.live and _is_of(one, action)]

    @property
    def room(self) -> int:
        """Return how many live allocations may begin."""
        return MAX_LIVE - sum(one.live for one in (*self._got, *self._waiting.values()))

    def work(self, action: AllocAction) -> int:
        """Return the work of the first round of a live allocation, in pins of a single page."""
        return ROUND + self._allocator.areas[action.area].pages

    def counters(self) -> dict[str, dict[str, int]]:
        """Return for each alloc of the scenario how many allocations began, got their pages, failed, and wait.

        Live ones of an alloc count, too. `pages_now` is the number of pages that they have now.
        """
        found = {}
        for name, counted in self._counters.items():
            have = [one for one in self._got if one.name == name]
            found[name] = {
                "allocs": counted["allocs"],
                "got": counted["got"],
                "failed": counted["failed"],
                "waiting": sum(one.name == name for one in self._waiting.values()),
                "pages_now": sum(one.allocation.pages for one in have),
            }
        return found

    def _expect(self, name: str) -> None:
        heapq.heappush(self._requests, (self._times[name].next_event, self._places[name], name))

    def _start(self, alloc: Alloc, pages: int, now: int) -> Allocation:
        self._counters[alloc.name]["allocs"] += 1
        retries = self._retries if alloc.retries is None else alloc.retries
        request = Request(pages, alloc.align, retries, alloc.no_warn, False, self._stacks[alloc.name], False)
        return self._allocator.start(self._allocator.areas[alloc.area], request, now)

    def _note(self, one: _Open) -> None:
        """Take note of an allocation's state."""
        state = one.allocation.state
        if state == "waiting":
            self._waiting[one.allocation] = one
            return
        if one.name is not None:
            self._counters[one.name][state] += 1
        end = one.allocation.ended
        assert end is not None
        if state == "got":
            self._got[one] = None
            if one.hold is not None:
                end += one.hold
                self._released += 1
                heapq.heappush(self._releases, (end, self._released, one))
        if one.name is not None and not one.live:
            self._times[one.name].end(one.asked, end)
            self._expect(one.name)

    def _release(self, one: _Open) -> None:
        """Release an allocation, unless a live action has done so already."""
        if one in self._got:
            del self._got[one]
            self._allocator.release(one.allocation)


def _is_of(one: _Open, action: AllocAction) -> bool:
    return one.name == action.alloc.name if action.alloc is not None else one.allocation.area.name == action.area
