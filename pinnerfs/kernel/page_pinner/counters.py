"""Counters of what the accounting saw, by stack handle; every task has a handle of its own."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.events import PINS, RELEASES, Event, EventBatch
from pinnerfs.kernel.pages import Int64s

__all__ = ["Counter", "Counters"]


class Counter(IntEnum):
    """What is counted. The calls count pages, of which a compound page is one; all others count frames.

    A call counts for its caller, a mark for the task that set it. Every mark ends in exactly one of the counters
    `longterm_records`, `below_threshold`, `marks_overwritten` and `marks_freed`, or is still there.
    """

    pins = 0
    releases = 1
    longterm_records = 2
    below_threshold = 3  # released, but not pinned for longer than the threshold
    marks_overwritten = 4
    marks_freed = 5
    put_page = 6
    put_page_without_mark = 7
    untracked = 8  # calls that this kernel's page_pinner has no hook for
    marks = 9  # set by pins


ENDS = (Counter.longterm_records, Counter.below_threshold, Counter.marks_overwritten, Counter.marks_freed)


class Counters:
    """The counters since the start."""

    def __init__(self) -> None:
        self._table = np.zeros((len(Counter), 1), dtype=np.int64)
        self.pinned_now_in_cma = 0

    def add(self, counter: Counter, handle: npt.NDArray[np.int32], frames: Int64s | None = None) -> None:
        """Count so many frames, or one, for each of these handles."""
        if len(handle):
            found = np.bincount(handle, frames)
            self._columns(len(found))[counter] += found.astype(np.int64)

    def add_calls(self, batch: EventBatch, tracked: Collection[Event]) -> None:
        """Count the calls of a batch on a kernel that tracks some of them."""
        columns = self._columns(int(batch.handle.max()) + 1)
        shape = len(Event), columns.shape[1]
        key = batch.kind * np.int64(shape[1]) + batch.handle
        pages = np.bincount(key, batch.pages, shape[0] * shape[1]).astype(np.int64).reshape(shape)
        frames = pages
        if batch.order.any():
            frames = np.bincount(key, batch.frames(), shape[0] * shape[1]).astype(np.int64).reshape(shape)
        for kind in Event:
            if kind in tracked and kind in PINS:
                columns[Counter.pins] += pages[kind]
                columns[Counter.marks] += frames[kind]
            elif kind in tracked and kind in RELEASES:
                columns[Counter.releases] += pages[kind]
            elif kind == Event.put_page:
                columns[Counter.put_page] += pages[kind]
            elif kind not in tracked:
                columns[Counter.untracked] += pages[kind]

    def _columns(self, handles: int) -> npt.NDArray[np.int64]:
        """Return the table's columns of the first handles, a row for each counter."""
        if (more := handles - self._table.shape[1]) > 0:
            self._table = np.pad(self._table, ((0, 0), (0, more)))
        return self._table[:, :handles]

    def totals(self) -> dict[str, int]:
        """Return the total of each counter by name, and of `pinned_now`: the frames that carry a mark."""
        return _by_name(self._table.sum(axis=1))

    def of(self, handles: Sequence[int]) -> dict[str, int]:
        """Return the same for these handles alone."""
        return _by_name(self._columns(max(handles) + 1)[:, handles].sum(axis=1))


def _by_name(column: Int64s) -> dict[str, int]:
    counted = {counter.name: int(column[counter]) for counter in Counter}
    marks = counted.pop(Counter.marks.name)
    return counted | {"pinned_now": marks - sum(counted[end.name] for end in ENDS)}
