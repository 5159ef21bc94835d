"""The events of one task: its holds as pins and releases, window by window."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.events import Event, EventBatch
from pinnerfs.kernel.order import stable_order
from pinnerfs.kernel.pages import Int64s, MemoryMap
from pinnerfs.scenario.quantities import parse_time
from pinnerfs.scenario.schema import Scenario, Task
from pinnerfs.workload.holds import Holds
from pinnerfs.workload.pool import HoldPool
from pinnerfs.workload.sharing import OpenHolds
from pinnerfs.workload.tasks import FOREVER, pin_call
from pinnerfs.workload.work import Work

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

    def by_instance(self) -> _HoldEvents:
        """Return the same events, sorted by instance. Those of one instance keep their order."""
        return self.take(stable_order(self.instance))

    @classmethod
    def concatenate(cls, parts: Sequence[_HoldEvents]) -> _HoldEvents:
        """Return all events, in the given order."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            np.concatenate([part.time for part in parts]),
            np.concatenate([part.kind for part in parts]),
            np.concatenate([part.pfn for part in parts]),
            np.concatenate([part.instance for part in parts]),
        )


class TaskEvents:
    """The events of a task's holds. `owner` is the task whose pages they are."""

    def __init__(
        self, task: Task, owner: Task, scenario: Scenario, seed: int, memory: MemoryMap, handle: int, work: Work
    ) -> None:
        pages = owner.pages or 1
        self._runs = pages if owner.pick == "scattered" else 1
        self._pages = pages // self._runs
        # Races are between pages, so a run of many pages becomes many rows.
        rows = pages if scenario.race else self._runs
        stop = FOREVER if scenario.duration is None else parse_time("duration", scenario.duration)
        self.pool = HoldPool(task, seed, stop, memory, rows, work)
        self.open: OpenHolds | None = None  # only if another task shares these pages
        self._alone = task.instances == 1
        self._rows = rows
        self._order = owner.order or 0
        self._handle = handle
        self._pin = pin_call(task)
        self._releases = "never" not in task.releases
        self._unmaps = task.unmap != "never"
        # Events that are due after the windows so far. Those of one instance are in the order of their pins.
        self._later: _HoldEvents | None = None
        self._next_release = FOREVER

    @property
    def next_event(self) -> int:
        """Return the moment before which no event happens, or FOREVER if none is left."""
        return min(self.pool.next_begin, self._next_release)

    def look_ahead(self, after: int, until: int, room: int) -> Generator[None, None, tuple[int, int]]:
        """Generate the holds that begin before `until`, or before an earlier moment: see `HoldPool.look_ahead`."""
        if self._next_release < until:
            assert self._later is not None
            # Pins of hours may be released all in a moment.
            most = max(0, room) // self._rows
            due = self._later.time[self._later.time < until]
            if len(due) > most:
                until = max(after + 1, int(np.partition(due, most)[most]))
        return (yield from self.pool.look_ahead(after, until, room))

    def events(self, holds: Holds, until: int) -> EventBatch:
        """Return the events before `until`, of new holds and of earlier ones, sorted by instance."""
        parts = [] if self._later is None else [self._later]
        if len(holds):
            parts.append(self._of_holds(holds))
        if not parts:
            return EventBatch.of([])
        both = _HoldEvents.concatenate(parts)
        due = both.time < until
        self._later = both.take(np.flatnonzero(~due))
        self._next_release = int(self._later.time.min(initial=FOREVER))
        now = both.take(np.flatnonzero(due))
        return self._batch(now if self._alone else now.by_instance())

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
        runs, rows = self._runs, events.pfn.size
        return EventBatch(
            time=np.repeat(events.time, runs) if runs != 1 else events.time,
            kind=np.repeat(events.kind, runs) if runs != 1 else events.kind,
            pfn=events.pfn.ravel(),
            order=np.full(rows, self._order, dtype=np.uint8),
            handle=np.full(rows, self._handle, dtype=np.int32),
            pages=np.full(rows, self._pages, dtype=np.int64),
        )
