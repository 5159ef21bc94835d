"""The order of all events: those of the scenario, the steps of allocations, and live actions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pinnerfs.kernel.events import EventBatch
from pinnerfs.workload.allocs import Allocs
from pinnerfs.workload.timeline import Timeline

if TYPE_CHECKING:
    from pinnerfs.workload.live import Live

__all__ = ["STEP_FRAMES", "Schedule"]

# Frames that events touch in one step: about 10 ms of work, so that other threads get their turn soon.
STEP_FRAMES = 1 << 17


class Schedule:
    """The sources of events, merged. At equal times, live actions come after the scenario's events and allocations."""

    def __init__(self, timeline: Timeline, allocs: Allocs) -> None:
        self._timeline = timeline
        self._allocs = allocs
        self.live: Live | None = None  # until the first live action

    def next_event(self) -> int | None:
        """Return the time (µs) of the next event, or None if there are no more."""
        first, due = self._timeline.next_event(), self._allocs.next_event()
        if first is None or (due is not None and due < first):
            first = due
        if self.live is None:
            return first
        live = self.live.next_event()
        return live if first is None or (live is not None and live < first) else first

    def take(self, moment: int) -> EventBatch:
        """Return the next events up to a moment (µs), or none if an allocation comes next."""
        own = self._timeline.next_event()
        if (due := self._allocs.next_event()) is not None and due <= moment:
            moment = due
            if self.live is not None and self.live.next_event() == due:
                return self._timeline.take(moment, STEP_FRAMES)
        if self.live is None or (live := self.live.next_event()) is None or live > moment:
            return self._timeline.take(moment, STEP_FRAMES)
        if own is not None and own <= live:
            batch = self._timeline.take(live, STEP_FRAMES)
            if len(batch) or ((own := self._timeline.next_event()) is not None and own <= live):
                return batch
        return self.live.take(live, STEP_FRAMES)

    def due_alloc(self, moment: int) -> int | None:
        """Return the time of the next step of allocations, if all that comes before it is done."""
        due = self._allocs.next_event()
        if due is None or due > moment or ((own := self._timeline.next_event()) is not None and own <= due):
            return None
        live = None if self.live is None else self.live.next_event()
        return None if live is not None and live < due else due
