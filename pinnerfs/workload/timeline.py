"""The events of all tasks, merged in time order and generated window by window.

At equal times the order is by task, then by instance, then as within the instance. The windows depend on the scenario
alone, so the events are the same for every way to advance.
"""

from __future__ import annotations

import numpy as np

from pinnerfs.kernel.events import EventBatch
from pinnerfs.kernel.order import stable_order
from pinnerfs.kernel.page_pinner.generations import Generation
from pinnerfs.kernel.pages import MemoryMap
from pinnerfs.kernel.stacks import StackDepot
from pinnerfs.scenario.quantities import parse_time
from pinnerfs.scenario.schema import Scenario, Task
from pinnerfs.workload.callchains import call_chain
from pinnerfs.workload.holds import Holds
from pinnerfs.workload.races import race
from pinnerfs.workload.sharing import EmptyShares, OpenHolds
from pinnerfs.workload.taskevents import TaskEvents
from pinnerfs.workload.tasks import FOREVER

__all__ = ["Timeline", "take_first"]

# A window with fewer events makes the next one longer, one with over four times as many makes it shorter.
WINDOW_EVENTS = 1 << 15
FIRST_WINDOW = 100_000  # µs
LARGEST_WINDOW = 3600 * 10**6
# A window ends early at about this many events, to bound the memory of a burst after a long pause.
MOST_EVENTS = 4 * WINDOW_EVENTS


def take_first(events: EventBatch, until: int, most: int) -> tuple[EventBatch, EventBatch]:
    """Split off the events up to and at `until`, on at most `most` frames or a single page. Return both parts."""
    due = int(np.searchsorted(events.time, until, side="right"))
    taken, left = events[:due].split(most)
    return taken, EventBatch.concatenate([left, events[due:]]) if len(left) else events[due:]


class Timeline:
    """The events of a scenario, in the order in which they happen."""

    def __init__(
        self, scenario: Scenario, seed: int, memory: MemoryMap, generation: Generation, depot: StackDepot
    ) -> None:
        self._chance, self._seed = scenario.race, seed
        # Races are between pages, so a row of many pages becomes many rows.
        widest = max((task.pages or 1 for task in scenario.task), default=1) if scenario.race else 1
        self._most_rows = max(1, MOST_EVENTS // widest)
        stop = FOREVER if scenario.duration is None else parse_time("duration", scenario.duration)
        tasks = {task.name: task for task in scenario.task}
        self._tasks: list[tuple[Task, TaskEvents]] = []
        for task in scenario.task:
            handle = depot.save(call_chain(scenario.stack[task.stack], generation), task.name)
            owner = tasks[task.share] if task.share else task
            self._tasks.append((task, TaskEvents(task, owner, seed, stop, memory, handle)))
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
        self._due = self._next_due()

    def next_event(self) -> int | None:
        """Return the time (µs) at which the next event may happen, or None if no event is left."""
        if len(self._ready):
            return int(self._ready.time[0])
        if len(self._held):
            return int(self._held.time[0])
        return self._due

    def shares_empty(self, moment: int) -> dict[str, int]:
        """Return for each `share` task the number of holds that found no pages, up to and at `moment`.

        All events up to `moment` must have been taken, and no later ones.
        """
        return {name: empty.count(moment) for name, empty in self._empty.items()}

    def _next_due(self) -> int | None:
        due = min((events.next_event for _, events in self._tasks), default=FOREVER)
        return None if due >= FOREVER else due

    def take(self, until: int, most: int) -> EventBatch:
        """Return the next events up to and at `until`, on at most `most` frames or a single page. Empty: none left."""
        self._fill(until)
        taken, self._ready = take_first(self._ready, until, most)
        return taken

    def _fill(self, until: int) -> None:
        """Generate windows until one has events, or none are left up to `until`."""
        while not len(self._ready):
            due = self.next_event()
            if due is None or due > until:
                return
            for empty in self._empty.values():
                empty.forget(due)
            # Skip a stretch without events: it may be years long.
            self._end = max(self._end, due)
            self._ready = self._window()

    def _window(self) -> EventBatch:
        until, room = self._end + self._width, self._most_rows
        for _, events in self._tasks:
            until, made = events.pool.look_ahead(self._end, until, room)
            room -= made
        window = EventBatch.concatenate([batch for batch in self._batches(until) if len(batch)])
        window = window[stable_order(window.time - self._end)]
        self._end = until
        self._due = self._next_due()
        made = int(window.pages.sum()) if self._chance else len(window)
        if made < WINDOW_EVENTS:
            self._width = min(2 * self._width, LARGEST_WINDOW)
        elif made > 4 * WINDOW_EVENTS:
            self._width = max(self._width // 2, 1)
        return self._raced(window, until) if self._chance else window

    def _batches(self, until: int) -> list[EventBatch]:
        """Return the events of each task before `until`."""
        holds = [events.pool.take(until) for _, events in self._tasks]
        for (_, events), taken in zip(self._tasks, holds, strict=True):
            if events.open is not None:
                events.open.add(taken)
        batches = []
        for place, ((task, events), taken) in enumerate(zip(self._tasks, holds, strict=True)):
            if task.share is not None:
                taken = self._share(task.name, taken, self._place[task.share], place)
            batches.append(events.events(taken, until))
        for _, events in self._tasks:
            if events.open is not None:
                events.open.forget(until)
        return batches

    def _share(self, name: str, holds: Holds, owner: int, place: int) -> Holds:
        """Return the holds with the pages that they find; `owner` and `place` are the tasks' places in the scenario."""
        open_holds = self._tasks[owner][1].open
        assert open_holds is not None
        found, empty = open_holds.share(holds, inclusive=owner < place)
        self._empty[name].add(empty)
        return found

    def _raced(self, events: EventBatch, until: int) -> EventBatch:
        """Return the events after their races. Hold back the last ones if the next window may race with them."""
        events = EventBatch.concatenate([self._held, events]) if len(self._held) else events
        self._held = EventBatch.of([])
        if len(events) and events.time[-1] == until - 1:
            pauses = np.flatnonzero(np.diff(events.time) > 1)
            if len(pauses):
                self._held = events[int(pauses[-1]) + 1 :]
                events = events[: int(pauses[-1]) + 1]
        return race(events, self._chance, self._seed)
