"""The holds of all instances of a task, generated in blocks and taken window by window."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.order import stable_order
from pinnerfs.kernel.pages import Int64s, MemoryMap
from pinnerfs.scenario.schema import Task
from pinnerfs.workload.arrivals import Arrivals, PhaseTimes, hold_times
from pinnerfs.workload.picks import Picker
from pinnerfs.workload.tasks import FOREVER, ReleaseCalls, Stream, UnmapTimes, random_stream
from pinnerfs.workload.work import BLOCK, PHASE, Work

__all__ = ["Block", "HoldPool", "Holds", "hold_blocks"]

# With fewer instances, each generates several blocks in turn, because a table of many blocks costs less.
PASS_BLOCKS = 64
# A table of more rows is not made larger: it would take much memory while it is sorted.
TABLE_ROWS = 1 << 16
# More tables are merged into one.
MOST_TABLES = 64


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


class Block(NamedTuple):
    """The next holds of an instance, perhaps none. No later hold of it begins before `reached` (µs).

    The columns are those of Holds. `release` and `unmap` are None if the task draws none of them.
    """

    begin: Int64s
    end: Int64s
    pfn: Int64s
    release: npt.NDArray[np.uint8] | None
    unmap: Int64s | None
    reached: int
    work: int


def hold_blocks(
    task: Task, phases: Sequence[PhaseTimes], instance: int, seed: int, stop: int, memory: MemoryMap
) -> Iterator[Block]:
    """Return the holds of one instance, a block at a time. None begins at `stop` (µs) or later."""
    picker = None
    if task.region is not None:
        pages = random_stream(seed, task.name, instance, Stream.pages)
        picker = Picker(task, instance, memory.regions[task.region], pages)
    releases = ReleaseCalls(task, seed, instance) if ReleaseCalls.drawn(task) else None
    unmaps = UnmapTimes(task, seed, instance) if UnmapTimes.drawn(task) else None
    times = random_stream(seed, task.name, instance, Stream.times)
    search = max(phase.search for phase in phases)
    if task.unmap_distribution is not None:
        search += task.unmap_distribution.search

    def block(arrivals: Arrivals) -> Block:
        begin, end, reached, passed = arrivals
        count = len(begin)
        pfn = np.empty((count, 0), dtype=np.int64) if picker is None else picker.pick_runs(count)
        release = None if releases is None else releases.draw(count)
        unmap = None if unmaps is None else unmaps.draw(begin, end)
        work = BLOCK + PHASE * passed + count * (1 + search) + pfn.size
        return Block(begin, end, pfn, release, unmap, reached, work)

    # A generator would keep the arrays of its last block while it waits.
    return map(block, hold_times(task, phases, times, stop))


class HoldPool:
    """A task's holds, generated as far ahead as needed and taken in windows of time.

    `rows` is the number of rows of events that a pin or release of a hold makes.
    """

    def __init__(self, task: Task, seed: int, stop: int, memory: MemoryMap, rows: int, work: Work) -> None:
        phases = [PhaseTimes.of(phase) for phase in task.phase]
        self._blocks = [hold_blocks(task, phases, instance, seed, stop, memory) for instance in range(task.instances)]
        # All holds of an instance that begin before this moment are generated; FOREVER if there are no more.
        self._horizon = np.zeros(task.instances, dtype=np.int64)
        # What an instance does not draw is the same for all of them.
        self._releases = None if ReleaseCalls.drawn(task) else ReleaseCalls(task, seed, 0)
        self._unmaps = None if UnmapTimes.drawn(task) else UnmapTimes(task, seed, 0)
        self._rows = rows
        self._work = work
        runs = 0 if task.region is None else task.pages or 1 if task.pick == "scattered" else 1
        empty = np.empty(0, dtype=np.int64)
        pfn = np.empty((0, runs), dtype=np.int64)
        self._none = Holds(empty, empty, pfn, empty, np.empty(0, dtype=np.uint8), empty)
        # Generated and not yet taken, as tables sorted by begin. Holds of one instance are in the order of the tables.
        self._ahead: list[Holds] = []
        self._taken: list[int] = []  # the rows of each table that are taken: a number costs less than six new slices
        self._generate(1)

    def _generate(self, until: int) -> None:
        """Generate blocks for instances that are not ready for `until`, until the step's work is used up."""
        behind = np.flatnonzero(self._horizon < until)
        # The one that is furthest behind decides where a window can end.
        behind = behind[np.argsort(self._horizon[behind], kind="stable")]
        instances, blocks, rows = list[int](), list[Block](), 0
        for instance in behind.tolist():
            for block in islice(self._blocks[instance], max(1, PASS_BLOCKS // len(behind))):
                self._horizon[instance] = block.reached
                self._work.add(block.work)
                if len(block.begin):
                    instances.append(instance)
                    blocks.append(block)
                    rows += len(block.begin)
                if block.reached >= until or self._work.used_up:
                    break
            if rows >= TABLE_ROWS:
                self._add(self._table(instances, blocks))
                instances, blocks, rows = [], [], 0
            if self._work.used_up:
                break
        if blocks:
            self._add(self._table(instances, blocks))

    def _table(self, instances: Sequence[int], blocks: Sequence[Block]) -> Holds:
        """Return the holds of these blocks of these instances."""
        begin, end, pfn = (np.concatenate([block[column] for block in blocks]) for column in range(3))
        instance = np.repeat(instances, [len(block.begin) for block in blocks])
        if self._releases is None:
            release = np.concatenate([block.release for block in blocks if block.release is not None])
        else:
            release = self._releases.draw(len(begin))
        if self._unmaps is None:
            unmap = np.concatenate([block.unmap for block in blocks if block.unmap is not None])
        else:
            unmap = self._unmaps.draw(begin, end)
        return Holds(begin, end, pfn, instance, release, unmap)

    def _add(self, holds: Holds) -> None:
        if len(self._ahead) == MOST_TABLES:
            left = [table[taken:] for table, taken in zip(self._ahead, self._taken, strict=True)]
            holds = Holds.concatenate([*left, holds])
            self._ahead, self._taken = [], []
        # The holds of a single instance are in order already.
        alone = len(self._blocks) == 1
        self._ahead.append(holds if alone else holds.take(stable_order(holds.begin - holds.begin.min())))
        self._taken.append(0)

    @property
    def next_begin(self) -> int:
        """Return the moment before which no hold begins, or FOREVER if no hold is left."""
        begins = (int(table.begin[taken]) for table, taken in zip(self._ahead, self._taken, strict=True))
        return min(int(self._horizon.min()), *begins, FOREVER)

    def look_ahead(self, after: int, until: int, room: int) -> Generator[None, None, tuple[int, int]]:
        """Generate the holds that begin before `until`, or before an earlier moment above `after` if `room` is used up.

        Return the moment before which all holds are generated, and how much room they take: rows of their events, or
        the work to generate them. Yield whenever the step's work is used up.
        """
        worked = 0
        while True:
            while (rows := self._rows_before(until)) > room and until > after + 1:
                until = after + (until - after) // 2
            reached = int(self._horizon.min())
            if reached >= until:
                return until, max(rows, worked)
            if worked >= room and reached > after:
                return reached, worked
            done = self._work.done
            self._generate(until)
            worked += self._work.done - done
            if self._work.used_up:
                yield

    def _rows_before(self, until: int) -> int:
        """Return the number of rows for the pins and releases of the holds that begin before a moment."""
        return 2 * self._rows * (sum(self._stops(until)) - sum(self._taken))

    def _stops(self, until: int) -> list[int]:
        """Return for each table the number of rows that begin before a moment, or were taken before."""
        return [int(table.begin.searchsorted(until)) for table in self._ahead]

    def take(self, until: int) -> Holds:
        """Take the holds that begin before `until`, sorted by instance. `look_ahead` must have generated them."""
        tables = list(zip(self._ahead, self._taken, self._stops(until), strict=True))
        parts = [table[taken:stop] for table, taken, stop in tables if taken < stop]
        if not parts:
            return self._none
        self._ahead = [table for table, _, stop in tables if stop < len(table)]
        self._taken = [stop for table, _, stop in tables if stop < len(table)]
        holds = Holds.concatenate(parts)
        return holds if len(self._blocks) == 1 else holds.by_instance()
