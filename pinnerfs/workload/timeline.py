"""All tasks' holds merged into one stream of events in time order, generated window by window, lazily.

Ties in time are broken by task, then instance, then the order within the instance. Where windows begin and end
follows from the scenario alone, so that the stream is the same however it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.events import EventBatch
from pinnerfs.kernel.order import stable_order
from pinnerfs.kernel.page_pinner.generations import Generation
from pinnerfs.kernel.pages import Int64s, MemoryMap
from pinnerfs.kernel.stacks import StackDepot
from pinnerfs.scenario.quantities import parse_time
from pinnerfs.scenario.schema import Scenario, Task
from pinnerfs.workload.callchains import call_chain
from pinnerfs.workload.holds import HoldPool, Holds
from pinnerfs.workload.races import race
from pinnerfs.workload.sharing import OpenHolds
from pinnerfs.workload.tasks import NEVER, pin_call, release_call

__all__ = ["Timeline", "take_first"]

# A window grows while it holds fewer events than this, and shrinks when it holds four times as many.
WINDOW_EVENTS = 1 << 15
FIRST_WINDOW = 100_000  # µs
LARGEST_WINDOW = 3600 * 10**6
# A window ends early where it would hold more events than about this: a storm after a long quiet.
MOST_EVENTS = 4 * WINDOW_EVENTS


def take_first(events: EventBatch, until: int, most: int) -> tuple[EventBatch, EventBatch]:
    """The first events up to and at `until`, on at most `most` frames (or a single page), and all others."""
    due = int(np.searchsorted(events.time, until, side="right"))
    taken, left = events[:due].split(most)
    return taken, EventBatch.concatenate([left, events[due:]]) if len(left) else events[due:]


@dataclass(frozen=True)
class _Moments:
    """Events of one task, each on all pages of its hold: `pfn` has a row an event, as Holds has it."""

    time: Int64s
    kind: npt.NDArray[np.uint8]
    pfn: Int64s
    instance: npt.NDArray[np.int64]

    def take(self, rows: Int64s) -> _Moments:
        """Those at these places."""
        return _Moments(
            self.time.take(rows), self.kind.take(rows), self.pfn.take(rows, axis=0), self.instance.take(rows)
        )

    @classmethod
    def concatenate(cls, parts: Sequence[_Moments]) -> _Moments:
        """All of them, one instance's behind the other's, and each one's in the order given."""
        if len(parts) == 1:
            return parts[0]
        instance = np.concatenate([part.instance for part in parts])
        return cls(
            np.concatenate([part.time for part in parts]),
            np.concatenate([part.kind for part in parts]),
            np.concatenate([part.pfn for part in parts]),
            instance,
        ).take(stable_order(instance))


class _TaskEvents:
    """A task's holds turned into events."""

    def __init__(self, task: Task, owner: Task, seed: int, stop: int, memory: MemoryMap, handle: int) -> None:
        self.pool = HoldPool(task, seed, stop, memory)
        self.open: OpenHolds | None = None  # kept where another task shares these pages
        self._order = owner.order or 0
        self._run = 1 if owner.pick == "scattered" else owner.pages or 1
        self._handle = handle
        self._pin, self._release = pin_call(task), release_call(task)
        self._pending: _Moments | None = None  # the releases that are due later
        self._next_release = NEVER

    @property
    def next_event(self) -> int:
        """When the task next has something to do; NEVER when it is done."""
        return min(self.pool.next_begin, self._next_release)

    def events(self, holds: Holds, until: int) -> EventBatch:
        """The events before `until`: those still due, then those of new holds; one instance's behind the other's."""
        parts = [self._of_holds(holds)] if len(holds) else []
        if self._pending is not None and len(self._pending.time):
            parts.insert(0, self._pending)
        if not parts:
            return EventBatch.of([])
        moments = _Moments.concatenate(parts)
        due = moments.time < until
        self._pending = moments.take(np.flatnonzero(~due))
        self._next_release = int(self._pending.time.min(initial=NEVER))
        return self._batch(moments.take(np.flatnonzero(due)))

    def _of_holds(self, holds: Holds) -> _Moments:
        """Each hold's pin, then its release."""
        if self._release is None:
            kind = np.full(len(holds), self._pin, dtype=np.uint8)
            return _Moments(holds.begin, kind, holds.pfn, holds.instance)
        return _Moments(
            np.stack([holds.begin, holds.end], axis=1).ravel(),
            np.tile(np.array([self._pin, self._release], dtype=np.uint8), len(holds)),
            np.repeat(holds.pfn, 2, axis=0),
            np.repeat(holds.instance, 2),
        )

    def _batch(self, moments: _Moments) -> EventBatch:
        """Run by run."""
        runs = moments.pfn.shape[1]
        rows = moments.pfn.size
        return EventBatch(
            time=np.repeat(moments.time, runs) if runs != 1 else moments.time,
            kind=np.repeat(moments.kind, runs) if runs != 1 else moments.kind,
            pfn=moments.pfn.ravel(),
            order=np.full(rows, self._order, dtype=np.uint8),
            handle=np.full(rows, self._handle, dtype=np.int32),
            pages=np.full(rows, self._run, dtype=np.int64),
        )


class Timeline:
    """The events of a scenario, in the order in which they happen."""

    def __init__(
        self, scenario: Scenario, seed: int, memory: MemoryMap, generation: Generation, depot: StackDepot
    ) -> None:
        self._race = (scenario.race, seed)
        # Races are between pages, of which a row then is but one.
        widest = max((task.pages or 1 for task in scenario.task), default=1) if scenario.race else 1
        self._most_rows = max(1, MOST_EVENTS // widest)
        stop = NEVER if scenario.duration is None else parse_time("duration", scenario.duration)
        tasks = {task.name: task for task in scenario.task}
        self._tasks: list[tuple[Task, _TaskEvents]] = []
        for task in scenario.task:
            handle = depot.save(call_chain(scenario.stack[task.stack], generation), task.name)
            owner = tasks[task.share] if task.share else task
            self._tasks.append((task, _TaskEvents(task, owner, seed, stop, memory, handle)))
        self._place = {task.name: place for place, task in enumerate(scenario.task)}
        for task in scenario.task:
            if task.share is not None:
                self._tasks[self._place[task.share]][1].open = OpenHolds(tasks[task.share].instances)
        self._width = FIRST_WINDOW
        self._end = 0  # every event before this moment has been generated
        self._ready = EventBatch.of([])  # generated, not yet taken
        self._held = EventBatch.of([])  # generated, but may still race with what the next window brings
        self._due = self._next_due()

    def next_event(self) -> int | None:
        """When something next happens, in µs, or None if nothing ever does."""
        if len(self._ready):
            return int(self._ready.time[0])
        if len(self._held):
            return int(self._held.time[0])
        return self._due

    def _next_due(self) -> int | None:
        due = min((events.next_event for _, events in self._tasks), default=NEVER)
        return None if due >= NEVER else due

    def take(self, until: int, most: int) -> EventBatch:
        """The next events up to and at `until`, on at most `most` frames (or a single page); empty at the end."""
        self._fill(until)
        taken, self._ready = take_first(self._ready, until, most)
        return taken

    def _fill(self, until: int) -> None:
        """Generate windows until there is something to take, or nothing happens up to `until`."""
        while not len(self._ready):
            due = self.next_event()
            if due is None or due > until:
                return
            # An empty stretch is passed over: it may be long.
            self._end = max(self._end, due)
            self._ready = self._window()

    def _window(self) -> EventBatch:
        until, room = self._end + self._width, self._most_rows
        for _, events in self._tasks:
            until, made = events.pool.look_ahead(self._end, until, room)
            room -= made
        holds = [events.pool.take(until) for _, events in self._tasks]
        for (_, events), taken in zip(self._tasks, holds, strict=True):
            if events.open is not None:
                events.open.add(taken)
        batches = []
        for place, ((task, events), taken) in enumerate(zip(self._tasks, holds, strict=True)):
            if task.share is not None:
                owner = self._place[task.share]
                owned = self._tasks[owner][1].open
                assert owned is not None
                taken = owned.shared(taken, inclusive=owner < place)
            batches.append(events.events(taken, until))
        for _, events in self._tasks:
            if events.open is not None:
                events.open.forget(until)
        window = EventBatch.concatenate([batch for batch in batches if len(batch)])
        window = window[stable_order(window.time - self._end)]
        self._end = until
        self._due = self._next_due()
        made = int(window.pages.sum()) if self._race[0] else len(window)
        if made < WINDOW_EVENTS:
            self._width = min(2 * self._width, LARGEST_WINDOW)
        elif made > 4 * WINDOW_EVENTS:
            self._width = max(self._width // 2, 1)
        return self._raced(window, until) if self._race[0] else window

    def _raced(self, events: EventBatch, until: int) -> EventBatch:
        """The events after their races; a last flurry, of which a part may lie in the next window, is held back."""
        events = EventBatch.concatenate([self._held, events]) if len(self._held) else events
        self._held = EventBatch.of([])
        if len(events) and events.time[-1] == until - 1:
            pauses = np.flatnonzero(np.diff(events.time) > 1)
            if len(pauses):
                self._held = events[int(pauses[-1]) + 1 :]
                events = events[: int(pauses[-1]) + 1]
        return race(events, *self._race)
