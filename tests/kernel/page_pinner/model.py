"""The accounting of page_pinner in plain Python, one event at a time, to compare the batch engine with."""

from __future__ import annotations

from collections import Counter, deque
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
    """The state of one page frame."""

    pinned: bool = False
    handle: int = 0
    ts: int = 0
    count: int = 0


class Model:
    """Frames by PFN, and records as (elapsed, count, handle, pfn, flags, migratetype), the newest one last.

    `counted` has the counters by (name, handle): calls by the caller's handle, marks by the pinner's.
    """

    def __init__(
        self, base: int, frames: int, regions: list[FrameRange], generation: Generation, threshold: int
    ) -> None:
        self.frames = {pfn: Frame() for pfn in range(base, base + frames)}
        self.regions = regions
        self.generation = generation
        self.threshold = threshold
        self.ring: deque[tuple[int, ...]] = deque(maxlen=4096)
        self.counted: Counter[tuple[str, int]] = Counter()
        self.overwritten = 0

    def write_threshold(self, threshold: int) -> None:
        """Set the threshold and clear the records."""
        self.threshold = threshold
        self.ring.clear()

    def apply(self, rows: Iterable[Row]) -> None:
        """Account for the rows, one after the other."""
        for time, kind, pfn, order, handle in rows:
            tracked = kind in self.generation.tracked
            self.counted["pins", handle] += tracked and kind in PINS
            self.counted["releases", handle] += tracked and kind in RELEASES
            self.counted["put_page", handle] += kind == Event.put_page
            self.counted["untracked", handle] += not tracked and kind != Event.put_page
            for number in range(pfn, pfn + (1 << order)):
                frame = self.frames[number]
                if tracked:
                    self._event(frame, time, kind, pfn, order, handle)
                elif kind == Event.put_page and not frame.pinned:
                    self.counted["put_page_without_mark", handle] += 1

    def _event(self, frame: Frame, time: int, kind: Event, pfn: int, order: int, handle: int) -> None:
        if kind in PINS:
            if frame.pinned:
                self.counted["marks_overwritten", frame.handle] += 1
            frame.pinned, frame.handle, frame.ts = True, handle, time
            frame.count = (frame.count + 1 + (1 << 31)) % (1 << 32) - (1 << 31)  # as an int does
        elif kind in RELEASES and frame.pinned:
            elapsed = max(time - frame.ts, 0)
            if elapsed > self.threshold:
                self._record(elapsed, frame, pfn, order)
            else:
                self.counted["below_threshold", frame.handle] += 1
            frame.pinned = False
            frame.count -= frame.count > 0
        elif kind == Event.free:
            if frame.pinned:
                self.counted["marks_freed", frame.handle] += 1
            frame.pinned, frame.count = False, 0

    def _record(self, elapsed: int, frame: Frame, pfn: int, order: int) -> None:
        flags, migratetype = self.page(pfn)
        self.overwritten += len(self.ring) == self.ring.maxlen
        self.counted["longterm_records", frame.handle] += 1
        self.ring.append((elapsed, frame.count, frame.handle, pfn, flags | (HEAD_FLAG if order else 0), migratetype))

    def page(self, pfn: int) -> tuple[int, int]:
        """Return a frame's flags and migratetype: none and Unmovable outside of all regions."""
        for region in self.regions:
            if region.start <= pfn < region.start + region.frames:
                return region.flags, int(region.migratetype)
        return 0, 0

    def pinned(self) -> tuple[int, int]:
        """Return how many frames are pinned now, and how many of them are in CMA."""
        pinned = [pfn for pfn, frame in self.frames.items() if frame.pinned]
        return len(pinned), sum(self.page(pfn)[1] == 3 for pfn in pinned)

    def total(self, name: str) -> int:
        """Return a counter's total over all handles."""
        return sum(count for (counter, _), count in self.counted.items() if counter == name)

    def of(self, handle: int, names: Iterable[str]) -> dict[str, int]:
        """Return these counters of a handle, and `pinned_now`: the frames that it pinned last and that still are."""
        pinned_now = sum(frame.pinned and frame.handle == handle for frame in self.frames.values())
        return {name: self.counted[name, handle] for name in names} | {"pinned_now": pinned_now}
