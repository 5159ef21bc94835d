"""Counters of what the accounting saw, by stack handle; every task has a handle of its own."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.calls import PINS, RELEASES, Event
from pinnerfs.kernel.events import EventBatch
from pinnerfs.kernel.page_pinner.generations import Generation
from pinnerfs.kernel.pages import Int64s

__all__ = ["Counter", "Counters"]


class Counter(IntEnum):
    """A counter of pages or of frames, for the caller or for the task that set the mark.

    Pages, for the caller: `pins`, `releases`, `put_page`, `untracked` and `held`. A compound page is one page.
    Frames, for the caller: `put_page_without_mark` and `releases_without_mark`.
    Frames, for the task that set the mark: all others. The mark of a frame ends in exactly one of ENDS.
    """

    pins = 0
    releases = 1
    longterm_records = 2
    below_threshold = 3  # marks that a release found no older than the threshold
    marks_overwritten = 4
    marks_freed = 5
    put_page = 6
    put_page_without_mark = 7
    releases_without_mark = 8
    untracked = 9  # calls that this kernel's page_pinner has no hook for
    marks = 10  # set by pins
    held = 11  # taken minus let go, see `add_calls`
    records_without_mark = 12  # long-term records of pages whose mark was gone, see `Generation.failed_as_pinned`


TAKING = (*PINS, Event.get_page)
LETTING_GO = (*RELEASES, Event.put_page, Event.free)

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

    def add_moved(self, attribution: npt.NDArray[np.int32]) -> None:
        """Count the marks of frames in CMA areas whose pages were moved away, and so freed."""
        marked = attribution[attribution > 0]
        self.add(Counter.marks_freed, marked)
        self.pinned_now_in_cma -= len(marked)

    def add_calls(self, batch: EventBatch, generation: Generation, marks: bool = True) -> None:
        """Count the calls of a batch on a kernel that has hooks for some of them. `marks`: the pins set marks, too.

        `held` needs no tracking. A task holds the pages that it took with `get_user_pages`, `pin_user_pages` or
        `get_page`, until it lets them go with `put_user_page`, `unpin_user_page`, `put_page` or `free`.
        """
        columns = self._columns(int(batch.handle.max()) + 1)
        shape = len(Event), columns.shape[1]
        key = batch.kind * np.int64(shape[1]) + batch.handle
        pages = np.bincount(key, batch.pages, shape[0] * shape[1]).astype(np.int64).reshape(shape)
        frames = pages
        if batch.order.any():
            frames = np.bincount(key, batch.frames(), shape[0] * shape[1]).astype(np.int64).reshape(shape)
        for kind in map(Event, np.flatnonzero(pages.any(axis=1)).tolist()):
            if kind not in (*TAKING, *LETTING_GO):
                continue
            columns[Counter.held] += pages[kind] if kind in TAKING else -pages[kind]
            if kind in generation.pins:
                columns[Counter.pins] += pages[kind]
                columns[Counter.marks] += frames[kind] * marks
            elif kind in generation.releases:
                columns[Counter.releases] += pages[kind]
            elif kind == Event.put_page:
                columns[Counter.put_page] += pages[kind]
            elif kind != Event.free:
                columns[Counter.untracked] += pages[kind]

    def _columns(self, handles: int) -> npt.NDArray[np.int64]:
        """Return the table's columns of the first handles, a row for each counter."""
        if (more := handles - self._table.shape[1]) > 0:
            self._table = np.pad(self._table, ((0, 0), (0, more)))
        return self._table[:, :handles]

    def totals(self) -> dict[str, int]:
        """Return the total of each counter by name.

        `marks` and `held` become `pinned_now`, the frames that carry a mark, and `held_now`, the pages still held.
        """
        return _by_name(self._table.sum(axis=1))

    def of(self, handles: Sequence[int]) -> dict[str, int]:
        """Return the same for these handles alone."""
        return _by_name(self._columns(max(handles) + 1)[:, handles].sum(axis=1))


def _by_name(column: Int64s) -> dict[str, int]:
    counted = {counter.name: int(column[counter]) for counter in Counter}
    marks, held = counted.pop(Counter.marks.name), counted.pop(Counter.held.name)
    ended = sum(counted[end.name] for end in ENDS) - counted.pop(Counter.records_without_mark.name)
    return counted | {"pinned_now": marks - ended, "held_now": held}
