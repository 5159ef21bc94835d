"""page_pinner in plain Python, one event at a time, to compare the batch engine with.

Written from the kernels' rules, and not from the engine's data about them.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from pinnerfs.kernel.calls import PINS, RELEASES, TRUNCATE, Event
from pinnerfs.kernel.pageflags import Migratetype
from pinnerfs.kernel.pages import FrameRange

__all__ = ["Frame", "Model", "Record", "Row"]

# time, kind, pfn, order, handle
Row = tuple[int, Event, int, int, int]
# time, pfn, flags, mapping, count, handle, mapcount, kind, call, migratetype
Record = tuple[int, ...]

HEAD_FLAG, LRU_FLAG, DIRTY_FLAG = 1 << 16, 1 << 4, 1 << 3
PUT, FREE = 0, 1

INTRODUCED, EARLY, LATER, PIXEL = "introduced", "android12-5.10-early", "android12-5.10", "pixel-5.10"
LINUX_6 = ("android14-6.1", "android15-6.6")

NOWHERE = FrameRange("", 0, 0, Migratetype.Unmovable, 0)


@dataclass
class Frame:
    """A page frame: the page in it, and page_pinner's marks."""

    present: bool = False
    references: int = 0
    mapcount: int = 0
    on_lru: bool = False
    get: bool = False
    failed: bool = False
    handle: int = 0
    ts: int = 0
    pins: int = 0


class Model:
    """Frames by PFN, and records by file, the newest one last.

    `unmapped` has the handles of the callers that map none of their pages. `counted` has the counters by
    (name, handle): calls by the caller's handle, marks by the pinner's.
    """

    def __init__(
        self,
        base: int,
        frames: int,
        regions: list[FrameRange],
        kernel: str,
        threshold: int,
        unmapped: Iterable[int] = (),
    ) -> None:
        self.frames = {pfn: Frame() for pfn in range(base, base + frames)}
        self.regions = regions
        self.kernel = kernel
        self.marks_pins = kernel in (INTRODUCED, EARLY, LATER, PIXEL)
        self.threshold = threshold
        self.tracking = True
        self.unmapped = set(unmapped)
        self.longterm: deque[Record] = deque(maxlen=4096)
        self.failures: deque[Record] = deque(maxlen=4096)
        self.counted: Counter[tuple[str, int]] = Counter()
        self.overwritten = 0
        self._place, self._run = 0, list[tuple[int, bool, Record]]()  # of the call that happens

    def write_threshold(self, threshold: int) -> None:
        """Set the threshold and clear the long-term records."""
        self.threshold = threshold
        self.longterm.clear()

    def resize(self, size: int) -> None:
        """Replace the ring of failures by an empty one of another size."""
        self.failures = deque(maxlen=size)

    def fail(self, pfn: int, now: int) -> None:
        """Mark a page as one whose migration failed, as a failing allocation does."""
        frame = self.frames[pfn]
        frame.failed = True
        if self.kernel not in (EARLY, LATER) and frame.ts == 0:
            frame.ts = now

    def apply(self, rows: Iterable[Row]) -> None:
        """Account for the rows, one after the other."""
        for _, run in groupby(enumerate(rows), key=_call):
            self._place, self._run = 0, []
            for _, (time, kind, pfn, order, handle) in run:
                self._count_call(kind, handle)
                for number in range(pfn, pfn + (1 << order)):
                    _Event(self, self.frames[number], self.region(number), time, kind, pfn, order, handle).happen()
                    self._place += 1
            self.failures.extend(self._in_order(kind))

    def take_failure(self, record: Record, in_file: bool) -> None:
        """Take a record of the call that happens."""
        self._run.append((self._place, in_file, record))

    def _in_order(self, kind: Event) -> list[Record]:
        """Return the records of a call: munmap and exit free pages in batches."""
        if kind not in (Event.unmap, Event.free):
            return [record for _, _, record in self._run]
        ordered = []
        for place, in_file, record in self._run:
            truncated = in_file and kind == Event.free
            batch = place // 15 if truncated else 0 if place < 8 else 1 + (place - 8) // 510
            call = TRUNCATE if truncated else record[8]
            freed = record[7] == FREE
            ordered.append((batch, freed, -place if freed else place, (*record[:8], call, *record[9:])))
        return [record for *_, record in sorted(ordered, key=lambda row: row[:3])]

    def _count_call(self, kind: Event, handle: int) -> None:
        if kind in (Event.map, Event.unmap):
            return
        tracked = self.tracks(kind)
        self.counted["pins", handle] += tracked and kind in PINS
        self.counted["releases", handle] += tracked and kind in RELEASES
        self.counted["put_page", handle] += kind == Event.put_page
        self.counted["held_now", handle] += 1 if kind in (*PINS, Event.get_page) else -1
        self.counted["untracked", handle] += not tracked and kind not in (Event.put_page, Event.free)

    def tracks(self, kind: Event) -> bool:
        """Tell whether a call sets or clears GET."""
        foll_get = kind in (Event.get_user_pages, Event.put_user_page)
        foll_pin = kind in (Event.pin_user_pages, Event.unpin_user_page)
        return (self.marks_pins and foll_get) or (self.kernel == INTRODUCED and foll_pin)

    def region(self, pfn: int) -> FrameRange:
        """Return a frame's region: one without flags and Unmovable outside of all regions."""
        for region in self.regions:
            if region.start <= pfn < region.start + region.frames:
                return region
        return NOWHERE

    def pinned(self) -> tuple[int, int]:
        """Return how many frames carry GET now, and how many of them are in CMA."""
        pinned = [pfn for pfn, frame in self.frames.items() if frame.get]
        return len(pinned), sum(self.region(pfn).migratetype == 3 for pfn in pinned)

    def total(self, name: str) -> int:
        """Return a counter's total over all handles."""
        return sum(count for (counter, _), count in self.counted.items() if counter == name)

    def of(self, handle: int, names: Iterable[str]) -> dict[str, int]:
        """Return these counters of a handle, and `pinned_now`: the frames that it pinned last and that still are."""
        pinned_now = sum(frame.get and frame.handle == handle for frame in self.frames.values())
        return {name: self.counted[name, handle] for name in names} | {"pinned_now": pinned_now}


def _call(numbered: tuple[int, Row]) -> tuple[int, ...]:
    """Return what the events of one call have in common. Only munmap and the end of a process are calls of several."""
    number, (time, kind, _, _, handle) = numbered
    return (time, kind, handle, -1) if kind in (Event.unmap, Event.free) else (time, kind, handle, number)


@dataclass
class _Event:
    """One call on one frame."""

    model: Model
    frame: Frame
    region: FrameRange
    now: int
    kind: Event
    head: int
    order: int
    caller: int

    def happen(self) -> None:
        """Change the frame, and take records."""
        frame = self.frame
        match self.kind:
            case Event.get_user_pages | Event.pin_user_pages | Event.get_page:
                self._appear()
                frame.references += self._weight()
                if self.caller not in self.model.unmapped:
                    frame.mapcount = max(frame.mapcount, 1)
                if self.model.tracks(self.kind):
                    self._pin()
            case Event.map:
                self._appear()
                frame.mapcount += 1
            case Event.unmap:
                if frame.mapcount:
                    frame.on_lru = True
                    frame.mapcount -= 1
                    self._dropped()
            case Event.free:
                if frame.present:
                    frame.references = frame.mapcount = 0
                    self._put(0)
                self._freed()
            case _:
                if self.kind == Event.put_page and not frame.get:
                    self._counted("put_page_without_mark", self.caller)
                if self.model.tracks(self.kind):
                    self._release()
                frame.references = max(0, frame.references - self._weight())
                self._dropped()

    def _weight(self) -> int:
        if self.kind not in (Event.pin_user_pages, Event.unpin_user_page):
            return 1
        counted_apart = self.order >= (1 if self.model.kernel in LINUX_6 else 2)
        return 1 if counted_apart else 1024

    def _appear(self) -> None:
        if not self.frame.present:
            self.frame.present, self.frame.on_lru = True, bool(self.region.flags & LRU_FLAG)

    def _dropped(self) -> None:
        """A reference is gone: page_pinner's hook, and the end of the page if it was the last one."""
        frame = self.frame
        last = frame.present and not frame.references and not frame.mapcount and not self.region.mapping
        self._put(0 if last else self._count())
        if last:
            self._freed()

    def _put(self, count: int) -> None:
        frame, kernel = self.frame, self.model.kernel
        without_hook = kernel in LINUX_6 and self.kind == Event.unpin_user_page
        if frame.failed and self.model.tracking and kernel != INTRODUCED and not without_hook:
            number = self.now
            if kernel not in (EARLY, LATER):
                number = max(0, self.now - frame.ts)
            self._failure(PUT, number, count, frame.mapcount)

    def _freed(self) -> None:
        frame, kernel = self.frame, self.model.kernel
        if frame.get:
            self._counted("marks_freed", frame.handle)
        if kernel in (INTRODUCED, EARLY):
            if frame.get:
                frame.get = frame.failed = False
        elif kernel == LATER:
            if frame.failed:
                self._failure(FREE, self.now)
            frame.get = frame.failed = False
        elif frame.failed or frame.get:
            self._failure(FREE, self.now)
            frame.get = frame.failed = False
            frame.ts = 0
        frame.pins = 0
        frame.present = frame.on_lru = False
        frame.references = frame.mapcount = 0

    def _pin(self) -> None:
        frame = self.frame
        if frame.get:
            self._counted("marks_overwritten", frame.handle)
        frame.get, frame.handle, frame.ts = True, self.caller, self.now
        if self.model.kernel == INTRODUCED:
            frame.pins = (frame.pins + 1 + (1 << 31)) % (1 << 32) - (1 << 31)  # as an int does

    def _release(self) -> None:
        frame = self.frame
        if not frame.get:
            self._counted("releases_without_mark", self.caller)
            if self.model.kernel == LATER and frame.failed and max(0, self.now - frame.ts) > self.model.threshold:
                self._longterm(max(0, self.now - frame.ts))
            return
        elapsed = max(0, self.now - frame.ts)
        if elapsed > self.model.threshold:
            self._longterm(elapsed)
        else:
            self._counted("below_threshold", frame.handle)
        frame.get = False
        frame.pins -= frame.pins > 0
        if self.model.kernel == PIXEL:
            frame.ts = 0

    def _count(self) -> int:
        """Return the page's references of all kinds."""
        frame = self.frame
        cached = frame.present and bool(self.region.mapping)
        return frame.references + frame.mapcount + cached + (frame.present and not frame.on_lru)

    def _longterm(self, elapsed: int) -> None:
        model, frame = self.model, self.frame
        count = frame.pins if model.kernel == INTRODUCED else self._count()
        model.overwritten += len(model.longterm) == model.longterm.maxlen
        self._counted("longterm_records", frame.handle)
        model.longterm.append(self._record(PUT, elapsed, count, frame.mapcount, frame.handle))

    def _failure(self, kind: int, number: int, count: int = 0, mapcount: int = 0) -> None:
        record = self._record(kind, number, count, mapcount, self.caller)
        self.model.take_failure(record, bool(self.region.mapping))

    def _record(self, kind: int, number: int, count: int, mapcount: int, handle: int) -> Record:
        head = self.model.region(self.head)
        flags, mapping = head.flags & 3 << 62, 0
        if kind == PUT:
            flags = head.flags & ~LRU_FLAG
            flags |= (LRU_FLAG if self.frame.on_lru else 0) | (HEAD_FLAG if self.order else 0)
            mapping = 0 if self.kind == Event.free else head.mapping
            flags &= ~DIRTY_FLAG if self.kind == Event.free and head.mapping else ~0
        migratetype = int(head.migratetype)
        return number, self.head, flags, mapping, count, handle, mapcount, kind, int(self.kind), migratetype

    def _counted(self, name: str, handle: int) -> None:
        self.model.counted[name, handle] += 1
