"""The events of all tasks, merged in time order and generated window by window.

At equal times the order is by task, then by instance, then as within the instance. The windows depend on the scenario
alone, so the events are the same for every way to advance.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

import numpy as np

from pinnerfs.kernel.events import Event, EventBatch
from pinnerfs.kernel.order import stable_order
from pinnerfs.kernel.page_pinner.generations import Generation
from pinnerfs.kernel.pages import MemoryMap
from pinnerfs.kernel.stacks import StackDepot
from pinnerfs.scenario.longterm import settled
from pinnerfs.scenario.schema import Scenario, Task
from pinnerfs.workload.callchains import call_chain
from pinnerfs.workload.holds import Holds
from pinnerfs.workload.races import race
from pinnerfs.workload.sharing import EmptyShares, OpenHolds
from pinnerfs.workload.taskevents import TaskEvents
from pinnerfs.workload.tasks import FOREVER
from pinnerfs.workload.work import LOOK, TASK, Work

__all__ = ["Timeline", "take_first"]

# A window with fewer events makes the next one longer, one with over four times as many makes it shorter.
WINDOW_EVENTS = 1 << 15
FIRST_WINDOW = 100_000  # µs
LARGEST_WINDOW = 3600 * 10**6
# A window ends early at about this many events, or this much work to generate them. So a reader does not wait for
# what comes later, and a burst after a long pause takes no more memory.
MOST_EVENTS = 4 * WINDOW_EVENTS
# Batches of more tasks are put together along the way: all at the end would be too much for one step.
MOST_BATCHES = 256


def _call_begin(events: EventBatch, row: int) -> int:
    """Return the row at which the call that has this row begins, if it is a munmap or exit, or else the row."""
    kind = events.kind[row]
    if kind not in (Event.unmap, Event.free):
        return row
    others = (events.kind != kind) | (events.time != events.time[row]) | (events.handle != events.handle[row])
    before = np.flatnonzero(others[:row])
    return int(before[-1]) + 1 if len(before) else 0


def take_first(events: EventBatch, until: int, most: int) -> tuple[EventBatch, EventBatch]:
    """Split off the events up to and at `until`, on at most `most` frames or a single page. Return both parts.

    Do not divide a munmap or exit, unless it is too large itself: it frees its pages in batches.
    """
    due = int(np.searchsorted(events.time, until, side="right"))
    taken, left = events[:due].split(most)
    is_cut = 0 < len(taken) < due and len(taken) + len(left) == due  # between two events, not inside of one
    if is_cut and (begin := _call_begin(events, len(taken))):
        taken, left = events[:begin], events[begin:due]
    return taken, EventBatch.concatenate([left, events[due:]]) if len(left) else events[due:]


class Timeline:
    """The events of a scenario, in the order in which they happen."""

    def __init__(
        self, scenario: Scenario, seed: int, memory: MemoryMap, generation: Generation, depot: StackDepot
    ) -> None:
        scenario = settled(scenario)
        self._chance, self._seed = scenario.race, seed
        self.work = Work()
        tasks = {task.name: task for task in scenario.task}
        self._tasks: list[tuple[Task, TaskEvents]] = []
        for task in scenario.task:
            handle = depot.save(call_chain(scenario.stack[task.stack], generation), task.name)
            owner = tasks[task.share] if task.share else task
            self._tasks.append((task, TaskEvents(task, owner, scenario, seed, memory, handle, self.work)))
        self._place = {task.name: place for place, task in enumerate(scenario.task)}
        self._empty: dict[str, EmptyShares] = {}  # of each `share` task
        for task in scenario.task:
            if task.share is not None:
                self._tasks[self._place[task.share]][1].open = OpenHolds(tasks[task.share].instances)
                self._empty[task.name] = EmptyShares()
        self._width = FIRST_WINDOW
        self._end = 0  # every event before this moment was generated
        self._ready = EventBatch.of([])  # generated, not yet taken
        self._held = EventBatch.of([])  # generated, but may race with events of the next window
        self._due = min((events.next_event for _, events in self._tasks), default=FOREVER)
        self._next = self._find_next()
        self._windows = self._generate()

    def next_event(self) -> int | None:
        """Return a time (µs) before which no event is left to take, or None if there are no more at all.

        Nothing may happen at that time: to find the next event can take many steps.
        """
        return self._next

    def _find_next(self) -> int | None:
        if len(self._ready):
            return int(self._ready.time[0])
        if len(self._held):
            return int(self._held.time[0])
        return None if self._due >= FOREVER else self._due

    def shares_empty(self, moment: int) -> dict[str, int]:
        """Return for each `share` task the number of holds that found no pages, up to and at `moment`.

        All events up to `moment` must have been taken, and no later ones.
        """
        return {name: empty.count(moment) for name, empty in self._empty.items()}

    def take(self, until: int, most: int) -> EventBatch:
        """Return the next events up to and at `until`, on at most `most` frames or a single page.

        If there are none, more may come as long as `next_event` is not after `until`: each call does a bounded amount
        of work, and the next call continues it.
        """
        if not len(self._ready) and (due := self.next_event()) is not None and due <= until:
            self.work.begin()
            window = next(self._windows)
            if window is not None:
                self._ready = window
        taken, self._ready = take_first(self._ready, until, most)
        self._next = self._find_next()
        return taken

    def _generate(self) -> Iterator[EventBatch | None]:
        """Yield the events of one window after the other. Yield None whenever the work of a step is used up."""
        while (due := self.next_event()) is not None:
            for empty in self._empty.values():
                empty.forget(due)
            # Skip a stretch without events: it may be years long.
            self._end = max(self._end, due)
            until = yield from self._look_ahead()
            window = yield from self._window(until)
            yield self._raced(window, until) if self._chance else window

    def _look_ahead(self) -> Generator[None, None, int]:
        """Generate the holds of the next window. Return its end."""
        until, room = self._end + self._width, MOST_EVENTS
        for _, events in self._tasks:
            until, taken = yield from events.look_ahead(self._end, until, room)
            room -= taken
            yield from self._worked(LOOK)
        return until

    def _window(self, until: int) -> Generator[None, None, EventBatch]:
        """Return the events before `until`, in order."""
        holds = []
        for _, events in self._tasks:
            taken = events.pool.take(until)
            if events.open is not None:
                events.open.add(taken)
            holds.append(taken)
            yield from self._worked(TASK + taken.pfn.size if len(taken) else LOOK)
        batches, due = list[EventBatch](), FOREVER
        for place, ((task, events), taken) in enumerate(zip(self._tasks, holds, strict=True)):
            if task.share is not None and len(taken):
                taken = self._share(task.name, taken, self._place[task.share], place)
            batch = events.events(taken, until)
            due = min(due, events.next_event)
            if len(batch):
                batches.append(batch)
            if len(batches) == MOST_BATCHES:
                batches = [EventBatch.concatenate(batches)]
            yield from self._worked(TASK + len(batch) if len(batch) else LOOK)
        for _, events in self._tasks:
            if events.open is not None:
                events.open.forget(until)
        window = EventBatch.concatenate(batches)
        made = int(window.pages.sum()) if self._chance else len(window)
        yield from self._worked(made)
        window = window[stable_order(window.time - self._end)]
        whole = until == self._end + self._width  # not ended early by the work to generate it
        self._end, self._due = until, due
        if whole and made < WINDOW_EVENTS:
            self._width = min(2 * self._width, LARGEST_WINDOW)
        elif made > 4 * WINDOW_EVENTS:
            self._width = max(self._width // 2, 1)
        return window

    def _worked(self, amount: int) -> Generator[None, None, None]:
        """Count some work. Yield if the step has done enough."""
        self.work.add(amount)
        if self.work.used_up:
            yield

    def _share(self, name: str, holds: Holds, owner: int, place: int) -> Holds:
        """Return the holds with the pages that they find; `owner` and `place` are the tasks' places in the scenario."""
        open_holds = self._tasks[owner][1].open
        assert open_holds is not None
        self.work.add(len(open_holds))  # each of them is looked at
        found, empty = open_holds.share(holds, inclusive=owner < place)
        self._empty[name].add(empty)
        return found

    def _raced(self, events: EventBatch, until: int) -> EventBatch:
        """Return the events after their races. Hold back the last ones if the next window may race with them."""
        events = EventBatch.concatenate([self._held, events]) if len(self._held) else events
        self._held = EventBatch.of([])
        if len(events) and events.time[-1] == until - 1:
            pauses = np.flatnonzero(np.diff(events.time) > 1)
            # A short window may have no pause. More events without one are too many to hold back.
            if len(pauses) or len(events) < WINDOW_EVENTS:
                first = int(pauses[-1]) + 1 if len(pauses) else 0
                self._held = events[first:]
                events = events[:first]
        return race(events, self._chance, self._seed)
