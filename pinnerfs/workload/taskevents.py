"""The events of one task: its holds as pins and releases, window by window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.events import Event, EventBatch
from pinnerfs.kernel.order import stable_order
from pinnerfs.kernel.pages import Int64s, MemoryMap
from pinnerfs.scenario.schema import Task
from pinnerfs.workload.holds import HoldPool, Holds
from pinnerfs.workload.sharing import OpenHolds
from pinnerfs.workload.tasks import FOREVER, pin_call

__all__ = ["TaskEvents"]


@dataclass(frozen=True)
class _HoldEvents:
    """Events of one task. Each event is for all pages of a hold: `pfn` has the shape that it has in Holds."""

    time: Int64s
    kind: npt.NDArray[np.uint8]
    pfn: Int64s
    instance: npt.NDArray[np.int64]

    def take(self, rows: Int64s) -> _HoldEvents:
        """Return the rows with these numbers."""
        return _HoldEvents(
            self.time.take(rows), self.kind.take(rows), self.pfn.take(rows, axis=0), self.instance.take(rows)
        )

    @classmethod
    def concatenate(cls, parts: Sequence[_HoldEvents]) -> _HoldEvents:
        """Return all events, sorted by instance. Those of one instance keep their order."""
        if len(parts) == 1:
            return parts[0]
        instance = np.concatenate([part.instance for part in parts])
        return cls(
            np.concatenate([part.time for part in parts]),
            np.concatenate([part.kind for part in parts]),
            np.concatenate([part.pfn for part in parts]),
            instance,
        ).take(stable_order(instance))


class TaskEvents:
    """The events of a task's holds."""

    def __init__(self, task: Task, owner: Task, seed: int, stop: int, memory: MemoryMap, handle: int) -> None:
        self.pool = HoldPool(task, seed, stop, memory)
        self.open: OpenHolds | None = None  # only if another task shares these pages
        self._order = owner.order or 0
        self._run = 1 if owner.pick == "scattered" else owner.pages or 1
        self._handle = handle
        self._pin = pin_call(task)
        self._releases = "never" not in task.releases
        self._unmaps = task.unmap != "never"
        self._later: _HoldEvents | None = None  # releases that are due after the windows so far
        self._next_release = FOREVER

    @property
    def next_event(self) -> int:
        """Return the time of the next event, or FOREVER if none is left."""
        return min(self.pool.next_begin, self._next_release)

    def events(self, holds: Holds, until: int) -> EventBatch:
        """Return the events before `until`, of new holds and of earlier ones, sorted by instance."""
        parts = [self._of_holds(holds)] if len(holds) else []
        if self._later is not None and len(self._later.time):
            parts.insert(0, self._later)
        if not parts:
            return EventBatch.of([])
        both = _HoldEvents.concatenate(parts)
        due = both.time < until
        self._later = both.take(np.flatnonzero(~due))
        self._next_release = int(self._later.time.min(initial=FOREVER))
        return self._batch(both.take(np.flatnonzero(due)))

    def _of_holds(self, holds: Holds) -> _HoldEvents:
        """Return the pin of each hold, followed by its release and its munmap."""
        times, kinds = [holds.begin], [np.full(len(holds), self._pin, dtype=np.uint8)]
        if self._releases:
            times.append(holds.end)
            kinds.append(holds.release)
        if self._unmaps:
            times.append(holds.unmap)
            kinds.append(np.full(len(holds), Event.unmap, dtype=np.uint8))
        return _HoldEvents(
            np.stack(times, axis=1).ravel(),
            np.stack(kinds, axis=1).ravel(),
            np.repeat(holds.pfn, len(times), axis=0),
            np.repeat(holds.instance, len(times)),
        )

    def _batch(self, events: _HoldEvents) -> EventBatch:
        """Return the events, one row for each run of pages."""
        runs = events.pfn.shape[1]
        rows = events.pfn.size
        return EventBatch(
            time=np.repeat(events.time, runs) if runs != 1 else events.time,
            kind=np.repeat(events.kind, runs) if runs != 1 else events.kind,
            pfn=events.pfn.ravel(),
            order=np.full(rows, self._order, dtype=np.uint8),
            handle=np.full(rows, self._handle, dtype=np.int32),
            pages=np.full(rows, self._run, dtype=np.int64),
        )
