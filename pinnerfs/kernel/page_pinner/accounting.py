"""The accounting of page_pinner for a batch of events at once, with the result of one event after the other.

One accounting serves all kernels: a Generation's data tells what its hooks do. Imitates `__set_page_pinner`,
`__reset_page_pinner` and `__page_pinner_put_page`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.calls import Event
from pinnerfs.kernel.events import EventBatch
from pinnerfs.kernel.page_pinner.counters import Counter, Counters
from pinnerfs.kernel.page_pinner.failures import Failures
from pinnerfs.kernel.page_pinner.layouts import RecordKind
from pinnerfs.kernel.page_pinner.marks import Marks
from pinnerfs.kernel.page_pinner.pincounts import PinCounts
from pinnerfs.kernel.page_pinner.taking import Taken, take_records
from pinnerfs.kernel.pages import Int64s
from pinnerfs.kernel.pagestate import Pages
from pinnerfs.kernel.segments import Segments

if TYPE_CHECKING:
    from pinnerfs.kernel.page_pinner.pinner import Pinner

__all__ = ["account"]

Int32s = npt.NDArray[np.int32]

_Add = Callable[[Counter, Int64s, Int32s], None]  # counts the frames of some touches, by the handles of all touches


def account(pinner: Pinner, batch: EventBatch) -> None:
    """Update the state of a pinner by a batch, which is not empty. Records go into the rings."""
    generation, state, memory = pinner.generation, pinner.state, pinner.memory
    segments = Segments.of(batch.pfn - memory.base_pfn, batch.frames(), memory, state)
    kept = segments.kept
    was_count, was = kept.pins, kept.attribution
    if was_count is not None and len(batch) > 1 and PinCounts.may_overflow(was, was_count, len(batch)):
        for row in range(len(batch)):
            account(pinner, batch[row : row + 1])
        return
    kind, time = batch.kind.take(segments.row), batch.time.take(segments.row)
    handle = batch.handle.take(segments.row)
    pages = Pages(
        kept,
        memory,
        segments,
        batch,
        kind,
        handle,
        pinner.unmapped,
        generation.pincount_order,
        pinner.lru_batch,
    )
    freed = kind == Event.free
    if pages.died is not None:
        freed |= pages.died
    marks = Marks(generation, kept, segments, kind, handle, time, freed)
    failures = Failures(generation, kept, segments, marks)
    counts = None if was_count is None else PinCounts.of(segments, was_count, marks)

    add = _adding(pinner.counters, segments)
    longterm = _longterm(pinner, add, marks, failures, time)
    if len(longterm.touches):
        ring = pinner.rings["longterm_pinner"]
        segment = segments.of_touch(longterm.touches)
        found = pages.before(longterm.touches, segment)
        if counts is not None:
            found = found._replace(references=counts.found_by(longterm.touches, segment))
        ring.append(take_records(memory, batch, segments, [longterm._replace(pages=found)]))
    if generation.failure_file is not None:
        failed = failures.taken(pages, kind, handle, time, pinner.tracking)
        if failed:
            flushes = failures.any or failed[-1].kind == RecordKind.FREE
            records = take_records(memory, batch, segments, failed, flushes)
            pinner.rings[generation.failure_file].append(records)

    _count(add, marks, kind, handle)
    for area in memory.cma:
        pinner.counters.pinned_now_in_cma += marks.change_in(*area)
    marks.leave(kept)
    failures.leave(kept)
    if counts is not None:
        kept.pins = counts.left_by(segments.end, slice(None)).astype(np.int32)
    state.write(segments.frames, kept, segments.width)


def _longterm(pinner: Pinner, add: _Add, marks: Marks, failures: Failures, time: Int64s) -> Taken:
    """Return the records of longterm_pinner, and count the releases behind them."""
    ends = np.flatnonzero(marks.released)
    elapsed = np.maximum(time.take(ends) - marks.since.take(ends), 0)
    long = elapsed > pinner.threshold
    add(Counter.below_threshold, ends[~long], marks.found)
    ends, elapsed = ends[long], elapsed[long]
    add(Counter.longterm_records, ends, marks.found)
    handle = marks.found.take(ends)
    stale = failures.stale()
    if len(stale):
        since = np.maximum(time.take(stale) - failures.found_ts(stale), 0)
        long = since > pinner.threshold
        stale, since = stale[long], since[long]
        handles = marks.handles()
        add(Counter.longterm_records, stale, handles)
        add(Counter.records_without_mark, stale, handles)
        ends, elapsed = np.concatenate([ends, stale]), np.concatenate([elapsed, since])
        handle = np.concatenate([handle, handles.take(stale)])
    return Taken(RecordKind.PUT, ends, elapsed, handle, None)


def _count(add: _Add, marks: Marks, kind: npt.NDArray[np.uint8], handle: Int32s) -> None:
    puts = kind == Event.put_page
    add(Counter.marks_overwritten, np.flatnonzero(marks.marked & marks.pins), marks.found)
    add(Counter.marks_freed, np.flatnonzero(marks.ended), marks.found)
    add(Counter.put_page_without_mark, np.flatnonzero(puts & ~marks.marked), handle)
    add(Counter.releases_without_mark, np.flatnonzero(marks.releases & ~marks.marked), handle)


def _adding(counters: Counters, segments: Segments) -> _Add:
    """Return a function that counts the frames of touches for these handles."""
    frames = segments.width_by_touch()

    def add(counter: Counter, touches: Int64s, handles: Int32s) -> None:
        if len(touches):
            counters.add(counter, handles.take(touches), None if frames is None else frames.take(touches))

    return add
