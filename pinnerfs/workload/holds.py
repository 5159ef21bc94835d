"""The holds of all instances of a task, generated in blocks and taken window by window."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.order import stable_order
from pinnerfs.kernel.pages import Int64s, MemoryMap
from pinnerfs.scenario.schema import Task
from pinnerfs.workload.arrivals import hold_times
from pinnerfs.workload.picks import Picker
from pinnerfs.workload.tasks import FOREVER, ReleaseCalls, Stream, random_stream
from pinnerfs.workload.work import BLOCK, PHASE, Work

__all__ = ["Block", "HoldPool", "Holds", "hold_blocks"]


@dataclass(frozen=True)
class Holds:
    """A table of holds, one row for each hold. The rows of one instance are in order of their begin.

    begin, end: boot time in µs. pfn: the first frame of each run of pages, of shape (holds, runs); no columns if the
    pages are another task's. instance: the instance that holds the pages. release: the call (Event) at the end, or
    NO_RELEASE.
    """

    begin: Int64s
    end: Int64s
    pfn: Int64s
    instance: Int64s
    release: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.begin)

    def __getitem__(self, rows: slice) -> Holds:
        return Holds(*(column[rows] for column in self.columns()))

    def columns(self) -> tuple[npt.NDArray[Any], ...]:
        """Return the columns in their order above."""
        return self.begin, self.end, self.pfn, self.instance, self.release

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
    """The next holds of an instance, perhaps none. No later hold of it begins before `reached` (µs)."""

    holds: Holds
    reached: int
    work: int


def hold_blocks(task: Task, instance: int, seed: int, stop: int, memory: MemoryMap) -> Iterator[Block]:
    """Yield the holds of one instance, a block at a time. None begins at `stop` (µs) or later."""
    picker = None
    if task.region is not None:
        pages = random_stream(seed, task.name, instance, Stream.pages)
        picker = Picker(task, instance, memory.regions[task.region], pages)
    releases = ReleaseCalls(task, seed, instance)
    for begin, end, reached, phases in hold_times(task, random_stream(seed, task.name, instance, Stream.times), stop):
        count = len(begin)
        pfn = np.empty((count, 0), dtype=np.int64) if picker is None else picker.pick_runs(count)
        holds = Holds(begin, end, pfn, np.full(count, instance), releases.draw(count))
        yield Block(holds, reached, BLOCK + PHASE * phases + count + pfn.size)


class HoldPool:
    """A task's holds, generated as far ahead as needed and taken in windows of time.

    `rows` is the number of rows of events that a pin or release of a hold makes.
    """

    def __init__(self, task: Task, seed: int, stop: int, memory: MemoryMap, rows: int, work: Work) -> None:
        self._blocks = [hold_blocks(task, instance, seed, stop, memory) for instance in range(task.instances)]
        # All holds of an instance that begin before this moment are generated; FOREVER if there are no more.
        self._horizon = np.zeros(task.instances, dtype=np.int64)
        self._rows = rows
        self._work = work
        runs = 0 if task.region is None else task.pages or 1 if task.pick == "scattered" else 1
        empty = np.empty(0, dtype=np.int64)
        # Generated and not yet taken. The holds of one instance are in order of their begin.
        self._ahead = [Holds(empty, empty, np.empty((0, runs), dtype=np.int64), empty, np.empty(0, dtype=np.uint8))]
        self._generate(list(range(task.instances)))

    def _generate(self, instances: list[int]) -> None:
        """Generate one more block of each of these instances, until the step's work is used up."""
        blocks = []
        for instance in instances:
            block = next(self._blocks[instance], None)
            if block is None:
                self._horizon[instance] = FOREVER
                continue
            self._horizon[instance] = block.reached
            self._work.add(block.work)
            if len(block.holds):
                blocks.append(block.holds)
            if self._work.used_up:
                break
        if blocks:
            self._ahead.append(Holds.concatenate(blocks))

    @property
    def next_begin(self) -> int:
        """Return the moment before which no hold begins, or FOREVER if no hold is left."""
        begins = (int(holds.begin.min(initial=FOREVER)) for holds in self._ahead)
        return min(int(self._horizon.min()), *begins)

    def look_ahead(self, after: int, until: int, room: int) -> Generator[None, None, tuple[int, int]]:
        """Generate the holds that begin before `until`, or up to an earlier moment above `after` if `room` is used up.

        Return the moment before which all holds are generated, and how much room they take: rows of their events, or
        the work to generate them. Yield whenever the step's work is used up.
        """
        worked = 0
        while (self._horizon < until).any():
            taken = max(self._rows_before(until), worked)
            if taken >= room and (reached := int(self._horizon.min())) > after:
                return reached, taken
            # Blocks are cheaper by the dozen, so generate the next window's holds, too.
            behind = np.flatnonzero(self._horizon < (after + 1 if taken >= room else 2 * until - after))
            done = self._work.done
            self._generate(behind[np.argsort(self._horizon[behind], kind="stable")].tolist())
            worked += self._work.done - done
            if self._work.used_up:
                yield
        return until, max(self._rows_before(until), worked)

    def _rows_before(self, until: int) -> int:
        """Return the number of rows for the pins and releases of all holds that begin before a moment."""
        return 2 * self._rows * sum(int(np.count_nonzero(holds.begin < until)) for holds in self._ahead)

    def take(self, until: int) -> Holds:
        """Take the holds that begin before `until`, sorted by instance. `look_ahead` must have generated them."""
        holds = Holds.concatenate(self._ahead)
        due = holds.begin < until
        self._ahead = [holds.take(np.flatnonzero(~due)) if due.any() else holds]
        taken = holds.take(np.flatnonzero(due))
        return taken if len(self._blocks) == 1 else taken.by_instance()
