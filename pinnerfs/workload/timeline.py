"""All tasks' holds merged into one stream of events in time order, generated window by window, lazily.

Ties in time are broken by task, then instance, then the order within the instance. Where windows begin and end
follows from the scenario alone, so that the stream is the same however it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pinnerfs.kernel.events import Event, EventBatch
from pinnerfs.kernel.generations import Generation
from pinnerfs.kernel.pages import Int64s, MemoryMap
from pinnerfs.kernel.stacks import StackDepot
from pinnerfs.workload.callchains import call_chain
from pinnerfs.workload.picks import Picker
from pinnerfs.workload.quantities import parse_time
from pinnerfs.workload.races import race
from pinnerfs.workload.schema import Scenario, Task
from pinnerfs.workload.tasks import NEVER, HoldBlock, hold_blocks, random_streams

__all__ = ["Timeline"]

# A window grows while it holds fewer events than this, and shrinks when it holds four times as many.
WINDOW_EVENTS = 8192
FIRST_WINDOW = 100_000  # µs
LARGEST_WINDOW = 3600 * 10**6


@dataclass
class _OpenHolds:
    """The holds that a sharing task may find: those that may still be in progress, in order of their beginning."""

    begin: Int64s = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    end: Int64s = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    pfn: list[Int64s] = field(default_factory=list)

    def add(self, block: HoldBlock) -> None:
        assert block.pfn is not None
        self.begin = np.concatenate([self.begin, block.begin])
        self.end = np.concatenate([self.end, block.end])
        self.pfn += list(block.pfn)

    def forget(self, before: int) -> None:
        """Drop the holds that ended before a moment."""
        kept = self.end >= before
        self.pfn = [pages for pages, keep in zip(self.pfn, kept, strict=True) if keep]
        self.begin, self.end = self.begin[kept], self.end[kept]

    def current(self, moment: int, inclusive: bool) -> Int64s | None:
        """The pages of the latest hold in progress. `inclusive`: what the owner does at this very moment comes first."""
        if inclusive:
            open_now = (self.begin <= moment) & (self.end > moment)
        else:
            open_now = (self.begin < moment) & (self.end >= moment)
        rows = np.flatnonzero(open_now)
        return self.pfn[rows[-1]] if len(rows) else None


class _Instance:
    """One instance of a task: its holds turned into events, window by window."""

    def __init__(
        self, task: Task, number: int, seed: int, stop: int, memory: MemoryMap, handle: int, order: int
    ) -> None:
        times, pages = random_streams(seed, task.name, number)
        region = memory.regions[task.region] if task.region is not None else None
        picker = Picker(task, number, region, pages) if region is not None else None
        self._blocks = hold_blocks(task, times, stop, picker)
        self._block: HoldBlock | None = next(self._blocks, None)
        self._row = 0
        self._pending = EventBatch.of([])
        self._handle = handle
        self._order = order
        get = task.foll == "FOLL_GET"
        self._pin = Event.get_user_pages if get else Event.pin_user_pages
        release = task.release or ("put_user_page" if get else "unpin_user_page")
        self._release = None if release == "never" else Event[release]
        self.open: _OpenHolds | None = None  # kept where another task shares these pages

    @property
    def next_event(self) -> int:
        """When this instance next has something to do; NEVER when it is done."""
        arrival = NEVER if self._block is None else int(self._block.begin[self._row])
        release = int(self._pending.time.min()) if len(self._pending) else NEVER
        return min(arrival, release)

    def take_holds(self, until: int) -> list[HoldBlock]:
        """The holds that begin before `until`."""
        taken = []
        while self._block is not None:
            stop = int(np.searchsorted(self._block.begin, until))
            rows = slice(self._row, stop)
            if stop > self._row:
                pfn = None if self._block.pfn is None else self._block.pfn[rows]
                taken.append(HoldBlock(self._block.begin[rows], self._block.end[rows], pfn))
            if stop < len(self._block.begin):
                self._row = stop
                break
            self._block, self._row = next(self._blocks, None), 0
        if self.open is not None:
            for block in taken:
                self.open.add(block)
        return taken

    def events(self, holds: list[HoldBlock], until: int) -> EventBatch:
        """The events before `until`, in this instance's own order: those still due, then those of new holds."""
        batches = [self._pending]
        for block in holds:
            assert block.pfn is not None
            batches.append(self._of_holds(block.begin, block.end, block.pfn))
        events = EventBatch.concatenate([batch for batch in batches if len(batch)])
        due = events.time < until
        self._pending = events[~due]
        return events[due]

    def _of_holds(self, begin: Int64s, end: Int64s, pfn: Int64s) -> EventBatch:
        """Each hold's pins, then its releases; page by page."""
        holds, pages = pfn.shape
        if self._release is None:
            sides = begin[:, None]
            kinds = [self._pin]
        else:
            sides = np.stack([begin, end], axis=1)
            kinds = [self._pin, self._release]
        rows = holds * len(kinds) * pages
        return EventBatch(
            time=np.repeat(sides.ravel(), pages),
            kind=np.tile(np.repeat(np.array(kinds, dtype=np.uint8), pages), holds),
            pfn=np.repeat(pfn[:, None, :], len(kinds), axis=1).ravel(),
            order=np.full(rows, self._order, dtype=np.uint8),
            handle=np.full(rows, self._handle, dtype=np.int32),
        )

    def shared(self, holds: list[HoldBlock], owner: _OpenHolds, inclusive: bool) -> list[HoldBlock]:
        """The same holds on the owner's current pages; a hold that finds the owner without one does not take place."""
        found = []
        for block in holds:
            for begin, end in zip(block.begin, block.end, strict=True):
                pages = owner.current(int(begin), inclusive)
                if pages is not None:
                    found.append(HoldBlock(np.array([begin]), np.array([end]), pages[None, :]))
        return found


class Timeline:
    """The events of a scenario, in the order in which they happen."""

    def __init__(
        self, scenario: Scenario, seed: int, memory: MemoryMap, generation: Generation, depot: StackDepot
    ) -> None:
        self._race = (scenario.race, seed)
        stop = NEVER if scenario.duration is None else parse_time("duration", scenario.duration)
        self._tasks: list[tuple[Task, list[_Instance]]] = []
        tasks = {task.name: task for task in scenario.task}
        for task in scenario.task:
            handle = depot.save(call_chain(scenario.stack[task.stack], generation))
            order = (tasks[task.share] if task.share else task).order or 0
            instances = [_Instance(task, number, seed, stop, memory, handle, order) for number in range(task.instances)]
            self._tasks.append((task, instances))
        self._place = {task.name: place for place, (task, _) in enumerate(self._tasks)}
        for task in scenario.task:
            if task.share is not None:
                for instance in self._tasks[self._place[task.share]][1]:
                    instance.open = _OpenHolds()
        self._width = FIRST_WINDOW
        self._end = 0  # every event before this moment has been generated
        self._ready = EventBatch.of([])  # generated, not yet taken
        self._held = EventBatch.of([])  # generated, but may still race with what the next window brings

    def next_event(self) -> int | None:
        """When something next happens, in µs, or None if nothing ever does."""
        if len(self._ready):
            return int(self._ready.time[0])
        if len(self._held):
            return int(self._held.time[0])
        due = min((instance.next_event for _, several in self._tasks for instance in several), default=NEVER)
        return None if due >= NEVER else due

    def take(self, until: int, most: int) -> EventBatch:
        """The next events that happen up to and at `until`, at most about `most` of them; an empty batch at the end."""
        self._fill(until)
        stop = min(int(np.searchsorted(self._ready.time, until, side="right")), most)
        taken, self._ready = self._ready[:stop], self._ready[stop:]
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
        until = self._end + self._width
        batches = []
        holds = {name: [one.take_holds(until) for one in self._tasks[at][1]] for name, at in self._place.items()}
        for task, instances in self._tasks:
            for number, instance in enumerate(instances):
                taken = holds[task.name][number]
                if task.share is not None:
                    owners = self._tasks[self._place[task.share]][1]
                    owner = owners[number % len(owners)].open
                    assert owner is not None
                    taken = instance.shared(taken, owner, self._place[task.share] < self._place[task.name])
                batches.append(instance.events(taken, until))
        for _, instances in self._tasks:
            for instance in instances:
                if instance.open is not None:
                    instance.open.forget(until)
        events = EventBatch.concatenate([batch for batch in batches if len(batch)])
        events = events[np.argsort(events.time, kind="stable")]
        self._end = until
        if len(events) < WINDOW_EVENTS:
            self._width = min(2 * self._width, LARGEST_WINDOW)
        elif len(events) > 4 * WINDOW_EVENTS:
            self._width = max(self._width // 2, 1)
        return self._raced(events, until) if self._race[0] else events

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
