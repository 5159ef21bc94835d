"""The mark FAILED through a batch: the records of dropped references and of frees.

Imitates the PAGE_EXT_PINNER_MIGRATION_FAILED bit of mm/page_pinner.c.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.calls import Event
from pinnerfs.kernel.page_pinner.generations import Generation, Mark
from pinnerfs.kernel.page_pinner.layouts import RecordKind
from pinnerfs.kernel.page_pinner.marks import Marks
from pinnerfs.kernel.page_pinner.taking import Taken
from pinnerfs.kernel.pages import FAILED, FrameValues, Int64s
from pinnerfs.kernel.pagestate import Pages
from pinnerfs.kernel.segments import Segments

__all__ = ["Failures"]

Bools = npt.NDArray[np.bool_]


class Failures:
    """The mark FAILED that each touch finds. Within a batch of calls it is only ever cleared, by a free of the page."""

    def __init__(self, generation: Generation, kept: FrameValues, segments: Segments, marks: Marks) -> None:
        self._generation, self._segments, self._marks = generation, segments, marks
        self._was = kept.bits & FAILED > 0
        self.any = bool(self._was.any())
        if not self.any:
            return
        # A free acts on a page with one of the marks that the kernel looks for, and clears all marks.
        acts = marks.freed if Mark.FAILED in generation.freed else marks.ended
        before: Int64s = np.cumsum(acts) - acts
        none_yet: Bools = before == np.repeat(before.take(segments.begin), segments.lengths())
        self.found = np.repeat(self._was, segments.lengths()) & none_yet
        forgets = marks.released & generation.release_clears_ts | acts & generation.free_clears_ts
        self._left_ts = marks.times(forgets)
        self._found_ts = segments.before(self._left_ts, kept.ts)
        self._last = (self.found & ~acts).take(segments.end)

    def stale(self) -> Int64s:
        """Return the releases that measure a page although they find no mark GET on it, because it is FAILED."""
        if not self.any or not self._generation.failed_as_pinned:
            return np.empty(0, dtype=np.int64)
        return np.flatnonzero(self._marks.releases & ~self._marks.marked & self.found)

    def found_ts(self, touches: Int64s) -> Int64s:
        """Return the time of the last pin or failure that these touches find, or 0."""
        found: Int64s = self._found_ts.take(touches)
        return found

    def taken(
        self,
        pages: Pages,
        kind: npt.NDArray[np.uint8],
        handle: npt.NDArray[np.int32],
        time: Int64s,
        tracking: bool,
    ) -> list[Taken]:
        """Return the records that the touches leave: of dropped references, if those are tracked, and of frees."""
        generation, marks, taken = self._generation, self._marks, []
        if self.any and tracking:
            drops = np.array([call in generation.puts for call in Event]).take(kind) & self.found
            puts = np.flatnonzero(drops)
            of_unmap = np.flatnonzero(kind.take(puts) == Event.unmap)
            puts = np.delete(puts, of_unmap[~pages.unmaps(puts.take(of_unmap))])
            of_free = np.flatnonzero(kind.take(puts) == Event.free)
            freed = puts.take(of_free)
            puts = np.delete(puts, of_free[pages.before(freed, self._segments.of_touch(freed)).references == 0])
            moment = time.take(puts)
            if self._prints_duration():
                # put_user_page forgets the time of the pin before it drops the reference.
                forgotten = marks.released.take(puts) & generation.release_clears_ts
                moment = np.maximum(moment - np.where(forgotten, 0, self._found_ts.take(puts)), 0)
            counts = pages.after(puts, self._segments.of_touch(puts))
            taken.append(Taken(RecordKind.PUT, puts, moment, handle.take(puts), counts))
        recorded = np.zeros_like(marks.freed)
        if Mark.GET in generation.freed_recorded:
            recorded |= marks.ended
        if self.any and Mark.FAILED in generation.freed_recorded:
            recorded |= marks.freed & self.found
        frees = np.flatnonzero(recorded)
        taken.append(Taken(RecordKind.FREE, frees, time.take(frees), handle.take(frees), None))
        return [part for part in taken if len(part.touches)]

    def _prints_duration(self) -> bool:
        file = self._generation.failure_file
        assert file is not None
        layout = self._generation.layouts[file]
        return layout.shows_duration(layout.kind(RecordKind.PUT))

    def leave(self, kept: FrameValues) -> None:
        """Replace what each segment keeps by what the batch leaves."""
        if self.any:
            kept.bits = np.where(self._last, kept.bits | FAILED, kept.bits & ~FAILED)
            kept.ts = self._left_ts.take(self._segments.end)
