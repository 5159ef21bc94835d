"""The holds of all instances of a task: generated when they are wanted, and handed out window by window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.order import stable_order
from pinnerfs.kernel.pages import Int64s, MemoryMap
from pinnerfs.scenario.schema import Task
from pinnerfs.workload.picks import Picker
from pinnerfs.workload.tasks import NEVER, HoldBlock, hold_blocks, random_streams

__all__ = ["HoldPool", "Holds"]


@dataclass(frozen=True)
class Holds:
    """Holds of several instances, each one's in order of their beginning: see HoldBlock; `instance` says whose."""

    begin: Int64s
    end: Int64s
    pfn: Int64s
    instance: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.begin)

    def __getitem__(self, rows: slice) -> Holds:
        return Holds(self.begin[rows], self.end[rows], self.pfn[rows], self.instance[rows])

    def take(self, rows: Int64s) -> Holds:
        """Those at these places."""
        taken = (column.take(rows, axis=0) for column in (self.begin, self.end, self.pfn, self.instance))
        return Holds(*taken)

    @classmethod
    def concatenate(cls, several: list[Holds]) -> Holds:
        """All of them, in the order given; there must be one."""
        if len(several) == 1:
            return several[0]
        return cls(
            np.concatenate([some.begin for some in several]),
            np.concatenate([some.end for some in several]),
            np.concatenate([some.pfn for some in several]),
            np.concatenate([some.instance for some in several]),
        )

    def by_instance(self) -> Holds:
        """The same, one instance's behind the other's."""
        return self.take(stable_order(self.instance))


class HoldPool:
    """A task's holds, of which those of a window can be taken at a time."""

    def __init__(self, task: Task, seed: int, stop: int, memory: MemoryMap) -> None:
        self._blocks = [self._blocks_of(task, number, seed, stop, memory) for number in range(task.instances)]
        # When each instance's last hold begins of those that are there; NEVER once there are no more to come.
        self._horizon = np.zeros(task.instances, dtype=np.int64)
        runs = 0 if task.region is None else task.pages or 1 if task.pick == "scattered" else 1
        self._runs = max(1, runs)
        none = np.empty(0, dtype=np.int64)
        self._ahead = Holds(none, none, np.empty((0, runs), dtype=np.int64), none)
        self._new: list[Holds] = []
        self._generate(range(task.instances), 0)

    @staticmethod
    def _blocks_of(task: Task, number: int, seed: int, stop: int, memory: MemoryMap) -> Iterator[HoldBlock]:
        times, pages = random_streams(seed, task.name, number)
        picker = None if task.region is None else Picker(task, number, memory.regions[task.region], pages)
        return hold_blocks(task, times, stop, picker)

    def _generate(self, numbers: range | list[int], until: int) -> int:
        """Generate a block more of some instances. How many events of holds that begin before `until` that makes."""
        events = 0
        for number in numbers:
            block = next(self._blocks[number], None)
            if block is None:
                self._horizon[number] = NEVER
                continue
            self._horizon[number] = block.begin[-1]
            self._new.append(Holds(block.begin, block.end, block.pfn, np.full(len(block), number)))
            events += 2 * self._runs * int(np.searchsorted(block.begin, until))
        return events

    def _gather(self) -> Holds:
        """All holds that are there, in order of their beginning."""
        if self._new:
            holds = Holds.concatenate([self._ahead, *self._new])
            self._ahead = holds.take(stable_order(holds.begin - holds.begin.min()))
            self._new = []
        return self._ahead

    @property
    def next_begin(self) -> int:
        """When the first of the holds begins that have not been taken; NEVER where there is none.

        One of each instance is there, unless it has come to its end: what a window takes begins before its horizon.
        """
        return int(self._gather().begin[0]) if len(self._gather()) else NEVER

    def look_ahead(self, after: int, until: int, room: int) -> tuple[int, int]:
        """Generate the holds that begin before `until`, but stop, some moment behind `after`, at `room` events.

        The moment before which all holds are there, and how many events that makes.
        """
        events = 2 * self._runs * int(np.searchsorted(self._gather().begin, until))
        while (self._horizon < until).any():
            if events >= room and (reached := int(self._horizon.min())) > after:
                return reached, events
            # With those that the next window will ask for: to put the holds in order pays for many of them at once.
            wanted = after + 1 if events >= room else 2 * until - after
            events += self._generate(np.flatnonzero(self._horizon < wanted).tolist(), until)
        return until, events

    def take(self, until: int) -> Holds:
        """The holds that begin before `until`, which a look ahead has generated; one instance's behind the other's."""
        holds = self._gather()
        stop = int(np.searchsorted(holds.begin, until))
        self._ahead = holds[stop:]
        return holds[:stop] if len(self._blocks) == 1 else holds[:stop].by_instance()
