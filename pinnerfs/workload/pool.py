"""The holds of all instances of a task, generated in blocks and taken window by window."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import numpy as np

from pinnerfs.kernel.order import stable_order
from pinnerfs.kernel.pages import MemoryMap
from pinnerfs.scenario.schema import Task
from pinnerfs.workload.holds import Holds
from pinnerfs.workload.instances import Instances
from pinnerfs.workload.tasks import FOREVER
from pinnerfs.workload.work import Work

__all__ = ["HoldPool"]

# With fewer instances, each generates several blocks in turn, because a table of many blocks costs less.
PASS_BLOCKS = 64
# A table of more rows is not made larger: it would take much memory while it is sorted.
TABLE_ROWS = 1 << 16
# More tables are merged into one.
MOST_TABLES = 64


class HoldPool:
    """A task's holds, generated as far ahead as needed and taken in windows of time.

    `rows` is the number of rows of events that a pin or release of a hold makes.
    """

    def __init__(self, task: Task, seed: int, stop: int, memory: MemoryMap, rows: int, work: Work) -> None:
        self._instances = Instances(task, seed, stop, memory, work)
        self._horizon = self._instances.horizon
        self._alone = task.instances == 1
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
        for instances in self._turns(until):
            self._instances.draw(instances)
            if self._instances.drawn >= TABLE_ROWS:
                self._add(self._instances.take())
            if self._work.used_up:
                break
        if self._instances.drawn:
            self._add(self._instances.take())

    def _turns(self, until: int) -> Iterator[list[int]]:
        """Yield the instances that draw their next block together."""
        numbers = np.flatnonzero(self._horizon < until)
        # The one that is furthest behind decides where a window can end.
        behind = numbers[np.argsort(self._horizon[numbers], kind="stable")].tolist()
        together = self._instances.together
        for turn in range(max(1, PASS_BLOCKS // len(behind))):
            if turn:
                behind = [instance for instance in behind if self._horizon[instance] < until]
            for first in range(0, len(behind), together):
                yield behind[first : first + together]

    def _add(self, holds: Holds) -> None:
        if len(self._ahead) == MOST_TABLES:
            left = [table[taken:] for table, taken in zip(self._ahead, self._taken, strict=True)]
            holds = Holds.concatenate([*left, holds])
            self._ahead, self._taken = [], []
        # The holds of a single instance are in order already.
        self._ahead.append(holds if self._alone else holds.take(stable_order(holds.begin - holds.begin.min())))
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
        """Take the holds that begin before `until`. `look_ahead` must have generated them.

        Those of one instance are in order of their begin.
        """
        tables = list(zip(self._ahead, self._taken, self._stops(until), strict=True))
        parts = [table[taken:stop] for table, taken, stop in tables if taken < stop]
        if not parts:
            return self._none
        self._ahead = [table for table, _, stop in tables if stop < len(table)]
        self._taken = [stop for table, _, stop in tables if stop < len(table)]
        return Holds.concatenate(parts)
