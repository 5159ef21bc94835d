"""All tasks' holds merged into one stream of events in time order, generated window by window, lazily.

Ties in time are broken by task, then instance, then the order within the instance. Where windows begin and end
follows from the scenario alone, so that the stream is the same however it is asked for.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from pinnerfs.kernel.events import EventBatch
from pinnerfs.kernel.generations import Generation
from pinnerfs.kernel.pages import Int64s, MemoryMap
from pinnerfs.kernel.stacks import StackDepot
from pinnerfs.workload.callchains import call_chain
from pinnerfs.workload.picks import Picker
from pinnerfs.workload.quantities import parse_time
from pinnerfs.workload.races import race
from pinnerfs.workload.schema import Scenario, Task
from pinnerfs.workload.tasks import NEVER, HoldBlock, hold_blocks, pin_call, random_streams, release_call

__all__ = ["Timeline"]

# A window grows while it holds fewer events than this, and shrinks when it holds four times as many.
WINDOW_EVENTS = 8192
FIRST_WINDOW = 100_000  # µs
LARGEST_WINDOW = 3600 * 10**6
# A window ends early where it would hold more pins than about this: a storm after a long quiet.
WINDOW_PINS = 4 * WINDOW_EVENTS


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
        """Drop the holds that ended before a moment, and those that a later one outlasts: nobody will find them."""
        latest = np.maximum.accumulate(np.append(self.end, before - 1)[::-1])[::-1]
        kept = self.end > latest[1:]
        self.pfn = [pages for pages, keep in zip(self.pfn, kept, strict=True) if keep]
        self.begin, self.end = self.begin[kept], self.end[kept]

    def current(self, moment: int, inclusive: bool) -> Int64s | None:
        """The pages of the latest hold in progress; `inclusive`: after what the owner does at this very moment."""
        if inclusive:
            open_now = (self.begin <= moment) & (self.end > moment)
        else:
            open_now = (self.begin < moment) & (self.end >= moment)
        rows = np.flatnonzero(open_now)
        return self.pfn[rows[-1]] if len(rows) else None


class _Instance:
    """One instance of a task: its holds turned into events, window by window."""

    def __init__(
        self, task: Task, owner: Task, number: int, seed: int, stop: int, memory: MemoryMap, handle: int
    ) -> None:
        times, pages = random_streams(seed, task.name, number)
        region = memory.regions[task.region] if task.region is not None else None
        picker = Picker(task, number, region, pages) if region is not None else None
        self._blocks = hold_blocks(task, times, stop, picker)
        self._ahead: deque[HoldBlock] = deque()  # generated, not yet taken
        self._generate()
        self._pending = EventBatch.of([])
        self._next_release = NEVER
        self._handle = handle
        self._order = owner.order or 0
        self._pages = owner.pages or 1
        self._pin = pin_call(task)
        self._release = release_call(task)
        self.open: _OpenHolds | None = None  # kept where another task shares these pages

    @property
    def next_event(self) -> int:
        """When this instance next has something to do; NEVER when it is done."""
        arrival = int(self._ahead[0].begin[0]) if self._ahead else NEVER
        return min(arrival, self._next_release)

    def _generate(self) -> bool:
        block = next(self._blocks, None)
        if block is not None:
            self._ahead.append(block)
        return block is not None

    def look_ahead(self, after: int, until: int, room: int) -> tuple[int, int]:
        """Generate the holds that begin before `until`, but stop, some moment behind `after`, at `room` pins.

        The moment before which all holds are there, and how many pins that makes.
        """
        pins = self._pages * sum(int(np.searchsorted(block.begin, until)) for block in self._ahead)
        while self._ahead and (last := int(self._ahead[-1].begin[-1])) < until:
            if pins >= room and last > after:
                return last, pins
            if not self._generate():
                break
            pins += self._pages * int(np.searchsorted(self._ahead[-1].begin, until))
        return until, pins

    def take_holds(self, until: int) -> list[HoldBlock]:
        """The holds that begin before `until`, all of them generated by a look ahead."""
        taken = []
        while self._ahead and self._ahead[0].begin[0] < until:
            block = self._ahead.popleft()
            stop = int(np.searchsorted(block.begin, until))
            taken.append(block[:stop])
            if stop < len(block):
                self._ahead.appendleft(block[stop:])
        if not self._ahead:
            self._generate()
        if self.open is not None:
            for block in taken:
                self.open.add(block)
        return taken

    def events(self, holds: list[HoldBlock], until: int) -> EventBatch:
        """The events before `until`, in this instance's own order: those still due, then those of new holds."""
        events = self._pending
        if holds:
            begin = np.concatenate([block.begin for block in holds])
            end = np.concatenate([block.end for block in holds])
            pfn = np.concatenate([block.pfn for block in holds if block.pfn is not None])
            events = EventBatch.concatenate([events, self._of_holds(begin, end, pfn)])
        due = events.time < until
        self._pending = events[~due]
        self._next_release = int(self._pending.time.min()) if len(self._pending) else NEVER
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
            owner = tasks[task.share] if task.share else task
            numbers = range(task.instances)
            self._tasks.append((task, [_Instance(task, owner, at, seed, stop, memory, handle) for at in numbers]))
        self._place = {task.name: place for place, (task, _) in enumerate(self._tasks)}
        for task in scenario.task:
            if task.share is not None:
                for instance in self._tasks[self._place[task.share]][1]:
                    instance.open = _OpenHolds()
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
        due = min((instance.next_event for _, several in self._tasks for instance in several), default=NEVER)
        return None if due >= NEVER else due

    def take(self, until: int, most: int) -> EventBatch:
        """The next events up to and at `until`, on at most `most` frames (or a single one); empty at the end."""
        self._fill(until)
        stop = min(int(np.searchsorted(self._ready.time, until, side="right")), self._ready.rows_within(most))
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
        until, room = self._end + self._width, WINDOW_PINS
        for _, instances in self._tasks:
            for instance in instances:
                until, pins = instance.look_ahead(self._end, until, room)
                room -= pins
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
        self._due = self._next_due()
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
