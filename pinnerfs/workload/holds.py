"""The holds of all instances of a task, generated in blocks and taken window by window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.order import stable_order
from pinnerfs.kernel.pages import Int64s, MemoryMap
from pinnerfs.scenario.schema import Task
from pinnerfs.workload.arrivals import hold_times
from pinnerfs.workload.picks import Picker
from pinnerfs.workload.tasks import FOREVER, ReleaseCalls, Stream, UnmapTimes, random_stream

__all__ = ["HoldPool", "Holds", "hold_blocks"]


@dataclass(frozen=True)
class Holds:
    """A table of holds, one row for each hold. The rows of one instance are in order of their begin.

    begin, end, unmap: boot time in µs. pfn: the first frame of each run of pages, of shape (holds, runs); no columns if
    the pages are another task's. instance: the instance that holds the pages. release: the call (Event) at the end, or
    NO_RELEASE.
    """

    begin: Int64s
    end: Int64s
    pfn: Int64s
    instance: Int64s
    release: npt.NDArray[np.uint8]
    unmap: Int64s

    def __len__(self) -> int:
        return len(self.begin)

    def __getitem__(self, rows: slice) -> Holds:
        return Holds(*(column[rows] for column in self.columns()))

    def columns(self) -> tuple[npt.NDArray[Any], ...]:
        """Return the columns in their order above."""
        return self.begin, self.end, self.pfn, self.instance, self.release, self.unmap

    def take(self, rows: Int64s) -> Holds:
        """Return the rows with these numbers."""
        return Holds(*(column.take(rows, axis=0) for column in self.columns()))

    @classmethod
    def concatenate(cls, tables: list[Holds]) -> Holds:
        """Return one table of all rows, in the given order. At least one table is needed."""
        if len(tables) == 1:
            return tables[0]
        return cls(*map(np.concatenate, zip(*(table.columns() for table in tables), strict=True)))

    def by_instance(self) -> Holds:
        """Return the same holds, sorted by instance."""
        return self.take(stable_order(self.instance))


def hold_blocks(task: Task, instance: int, seed: int, stop: int, memory: MemoryMap) -> Iterator[Holds]:
    """Yield the holds of one instance, a block at a time. None begins at `stop` (µs) or later."""
    picker = None
    if task.region is not None:
        pages = random_stream(seed, task.name, instance, Stream.pages)
        picker = Picker(task, instance, memory.regions[task.region], pages)
    releases, unmaps = ReleaseCalls(task, seed, instance), UnmapTimes(task, seed, instance)
    for begin, end in hold_times(task, random_stream(seed, task.name, instance, Stream.times), stop):
        count = len(begin)
        pfn = np.empty((count, 0), dtype=np.int64) if picker is None else picker.pick_runs(count)
        yield Holds(begin, end, pfn, np.full(count, instance), releases.draw(count), unmaps.draw(begin, end))


class HoldPool:
    """A task's holds, generated as far ahead as needed and taken in windows of time."""

    def __init__(self, task: Task, seed: int, stop: int, memory: MemoryMap) -> None:
        self._blocks = [hold_blocks(task, instance, seed, stop, memory) for instance in range(task.instances)]
        # The begin of each instance's last generated hold, or FOREVER once all are generated.
        self._horizon = np.zeros(task.instances, dtype=np.int64)
        runs = 0 if task.region is None else task.pages or 1 if task.pick == "scattered" else 1
        self._runs = max(1, runs)
        empty = np.empty(0, dtype=np.int64)
        pfn = np.empty((0, runs), dtype=np.int64)
        self._ahead = Holds(empty, empty, pfn, empty, np.empty(0, dtype=np.uint8), empty)
        self._new: list[Holds] = []
        self._generate(range(task.instances), 0)

    def _generate(self, instances: range | list[int], until: int) -> int:
        """Generate one more block of each instance. Return the number of events of the holds before `until`."""
        events = 0
        for instance in instances:
            block = next(self._blocks[instance], None)
            if block is None:
                self._horizon[instance] = FOREVER
                continue
            self._horizon[instance] = block.begin[-1]
            self._new.append(block)
            events += 2 * self._runs * int(np.searchsorted(block.begin, until))
        return events

    def _gather(self) -> Holds:
        """Return all generated holds that were not taken, sorted by begin."""
        if self._new:
            holds = Holds.concatenate([self._ahead, *self._new])
            # The holds of a single instance are in order already.
            alone = len(self._blocks) == 1
            self._ahead = holds if alone else holds.take(stable_order(holds.begin - holds.begin.min()))
            self._new = []
        return self._ahead

    @property
    def next_begin(self) -> int:
        """Return the begin of the next hold, or FOREVER if no hold is left.

        At least one hold of each unfinished instance is generated, because a window ends before its horizon.
        """
        return int(self._gather().begin[0]) if len(self._gather()) else FOREVER

    def look_ahead(self, after: int, until: int, room: int) -> tuple[int, int]:
        """Generate the holds that begin before `until`, or up to an earlier moment above `after` at `room` events.

        Return the moment before which all holds are generated, and the number of their events.
        """
        events = 2 * self._runs * int(np.searchsorted(self._gather().begin, until))
        while (self._horizon < until).any():
            if events >= room and (reached := int(self._horizon.min())) > after:
                return reached, events
            # Sorting pays off for many holds at once, so generate the next window's holds, too.
            wanted = after + 1 if events >= room else 2 * until - after
            events += self._generate(np.flatnonzero(self._horizon < wanted).tolist(), until)
        return until, events

    def take(self, until: int) -> Holds:
        """Take the holds that begin before `until`, sorted by instance. `look_ahead` must have generated them."""
        holds = self._gather()
        stop = int(np.searchsorted(holds.begin, until))
        self._ahead = holds[stop:]
        return holds[:stop] if len(self._blocks) == 1 else holds[:stop].by_instance()
