"""The books of page_pinner, one event at a time: the spec's table in plain Python, to hold the batch engine against."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from pinnerfs.kernel.events import PINS, RELEASES, Event
from pinnerfs.kernel.page_pinner.generations import Generation
from pinnerfs.kernel.pages import FrameRange

__all__ = ["Frame", "Model", "Row"]

# time, kind, pfn, order, handle
Row = tuple[int, Event, int, int, int]
HEAD_FLAG = 1 << 16


@dataclass
class Frame:
    """What is kept of one page frame."""

    pinned: bool = False
    handle: int = 0
    ts: int = 0
    count: int = 0


class Model:
    """Frames by PFN, and records as (elapsed, count, handle, pfn, flags, migratetype), the newest one last."""

    def __init__(
        self, base: int, frames: int, regions: list[FrameRange], generation: Generation, threshold: int
    ) -> None:
        self.frames = {pfn: Frame() for pfn in range(base, base + frames)}
        self.regions = regions
        self.generation = generation
        self.threshold = threshold
        self.ring: deque[tuple[int, ...]] = deque(maxlen=4096)
        self.pins = self.releases = self.records = self.overwritten = 0

    def write_threshold(self, threshold: int) -> None:
        """Writing a value, even the same one, clears the recorded data."""
        self.threshold = threshold
        self.ring.clear()

    def apply(self, rows: Iterable[Row]) -> None:
        """Each row in its turn."""
        for time, kind, pfn, order, handle in rows:
            if kind in self.generation.tracked:
                self.pins += kind in PINS
                self.releases += kind in RELEASES
                for number in range(pfn, pfn + (1 << order)):
                    self._event(self.frames[number], time, kind, pfn, order, handle)

    def _event(self, frame: Frame, time: int, kind: Event, pfn: int, order: int, handle: int) -> None:
        if kind in PINS:
            frame.pinned, frame.handle, frame.ts = True, handle, time
            frame.count = (frame.count + 1 + (1 << 31)) % (1 << 32) - (1 << 31)  # as an int does
        elif kind in RELEASES and frame.pinned:
            elapsed = max(time - frame.ts, 0)
            if elapsed > self.threshold:
                self._record(elapsed, frame, pfn, order)
            frame.pinned = False
            frame.count -= frame.count > 0
        elif kind == Event.free:
            frame.pinned, frame.count = False, 0

    def _record(self, elapsed: int, frame: Frame, pfn: int, order: int) -> None:
        flags, migratetype = self.page(pfn)
        self.overwritten += len(self.ring) == self.ring.maxlen
        self.records += 1
        self.ring.append((elapsed, frame.count, frame.handle, pfn, flags | (HEAD_FLAG if order else 0), migratetype))

    def page(self, pfn: int) -> tuple[int, int]:
        """A frame's flags and migratetype; outside of all regions none, and Unmovable."""
        for region in self.regions:
            if region.start <= pfn < region.start + region.frames:
                return region.flags, int(region.migratetype)
        return 0, 0

    def pinned(self) -> tuple[int, int]:
        """How many frames are pinned now, and how many of them lie in CMA."""
        pinned = [pfn for pfn, frame in self.frames.items() if frame.pinned]
        return len(pinned), sum(self.page(pfn)[1] == 3 for pfn in pinned)
