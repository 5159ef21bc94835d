"""All areas of a device and the allocations from them. Imitates `cma_alloc` and `cma_release` of mm/cma.c."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.cma.allocation import Allocation, Request
from pinnerfs.kernel.cma.areas import Area
from pinnerfs.kernel.cma.chains import Chains, Site
from pinnerfs.kernel.cma.log import KernelLog, RateLimit
from pinnerfs.kernel.cma.lrubatch import LruBatch
from pinnerfs.kernel.cma.mm import Mm
from pinnerfs.kernel.cma.pages import AreaFrames, AreaPages
from pinnerfs.kernel.cma.recording import record_round
from pinnerfs.kernel.cma.rounds import Circumstances, Round
from pinnerfs.kernel.cma.tries import Tries, find_tries
from pinnerfs.kernel.events import Event, EventBatch
from pinnerfs.kernel.page_pinner.pinner import Pinner
from pinnerfs.kernel.pages import FAILED, ON_LRU
from pinnerfs.kernel.stacks import StackDepot

__all__ = ["Allocator"]

EBUSY, ENOMEM = -16, -12
COUNTER = (1 << 64) - 1
MAX_ORDER_PAGES = 1024  # pfn_max_align_up() of 5.10
RETRY = 104_000  # µs: schedule_timeout_killable() sleeps 100 ms, which end at the tick after next at HZ 250


class Allocator:
    """The areas of a device, the allocations that wait for their next round, the counters and the log."""

    def __init__(
        self, areas: Sequence[Area], mm: Mm, pinner: Pinner, depot: StackDepot, cpus: int = 1, quiet: bool = False
    ) -> None:
        self.areas = {area.name: area for area in areas}
        self.mm = mm
        self._frames = {area.name: AreaFrames(pinner.state, pinner.memory, area) for area in areas}
        self._pinner, self._quiet = pinner, quiet
        self._chains = Chains(mm, pinner.generation, depot, cpus)
        self._lru = LruBatch(pinner, cpus)
        self.succeeded = self.failed = 0  # calls, as /proc/vmstat counts them
        self.log = KernelLog()
        self._limit = RateLimit(self.log, mm.log_name)
        self._busy_limit = RateLimit(self.log, "alloc_contig_range")
        self._waiting: deque[Allocation] = deque()  # in the order of their next rounds, as all wait equally long

    def next_round(self) -> int | None:
        """Return the time of the next round of an allocation that waits, or None."""
        return self._waiting[0].next_round if self._waiting else None

    def give_up(self, allocation: Allocation, now: int) -> None:
        """Let an allocation fail that waits for its next round: the caller of `cma_alloc` has a fatal signal."""
        if allocation in self._waiting:
            self._waiting.remove(allocation)
            allocation.next_round = None
            self._fail(allocation, EBUSY, now)

    def start(self, area: Area, request: Request, now: int) -> Allocation:
        """Begin an allocation and make its first round."""
        allocation = Allocation(area, request, now)
        if not 0 < request.pages <= area.pages:
            self._fail(allocation, None, now)
        else:
            self._round(allocation, now)
        if allocation.state == "waiting":
            self._waiting.append(allocation)
        return allocation

    def run(self, now: int) -> Allocation:
        """Make the next round, which is due at `now`, and return its allocation."""
        allocation = self._waiting.popleft()
        self._round(allocation, now)
        if allocation.state == "waiting":
            self._waiting.append(allocation)
        return allocation

    def release(self, allocation: Allocation) -> None:
        """Take the pages of an allocation back from their owner: imitates `cma_release`."""
        area = allocation.area
        assert allocation.first_pfn is not None
        area.clear(allocation.first_pfn - area.base_pfn >> area.order_per_bit, allocation.pages)

    def apply(self, batch: EventBatch) -> None:
        """Account for a batch of events of page_pinner.

        A page whose frame is given out has moved elsewhere. Calls on it are counted, and change nothing here.
        """
        here, elsewhere = self._split(batch)
        self._pinner.count_elsewhere(elsewhere)
        row = self._lru.first_drain(here)
        self._pinner.apply(here[:row])
        if row < len(here):
            self._lru.drain(int(here.time[row]), self._chains.exit_drain(here.kind[row] == Event.free))
            self._pinner.apply(here[row:])

    def _split(self, batch: EventBatch) -> tuple[EventBatch, EventBatch]:
        """Return the events on frames that no allocation has, and the others."""
        given = [area for area in self.areas.values() if area.given_out]
        if not given:
            return batch, EventBatch.of([])
        hidden = _touched(given, batch)
        if (batch.pages[hidden] > 1).any():
            batch = batch.page_by_page()
            hidden = _touched(given, batch)
        return batch[~hidden], batch[hidden]

    def _round(self, allocation: Allocation, now: int) -> None:
        """Try every range of the area from the beginning on, until one can be emptied."""
        area, request = allocation.area, allocation.request
        allocation.rounds += 1
        allocation.next_round = None
        place = area.first_place(request.pages, request.align)
        if place is None:
            self._fail(allocation, ENOMEM, now)
            return
        first = place << area.order_per_bit
        frames = self._frames[area.name]
        if not frames.born_on_lru or self._lru.frames.size:
            self._drain(frames, first, request, now)
        if not len(frames.state.present(frames.base + first, request.pages)):
            allocation.tries += 1
            self._give(allocation, place, now)
            return
        skip = MAX_ORDER_PAGES if request.noretry and self.mm.noretry_skips_block else None
        found, tries = find_tries(frames, request.pages, request.align, skip)
        allocation.tries += tries.number
        self._attempt(found, tries, request, now)
        if self.mm.pfns_busy and not (request.noretry and found.of_file):
            self._log_busy(area, request.pages, tries, now)
        if not tries.success:
            if allocation.rounds <= request.retries and not request.noretry:
                allocation.next_round = now + RETRY
            else:
                self._fail(allocation, EBUSY, now)
            return
        self._give(allocation, int(tries.first[-1]) >> area.order_per_bit, now)

    def _give(self, allocation: Allocation, place: int, now: int) -> None:
        """Give out the pages from a bit of the area on."""
        area, request = allocation.area, allocation.request
        pages = request.pages
        area.set(place, pages)
        if request.kept:
            area.keep(place, pages)
        allocation.end("got", now)
        allocation.first_pfn = area.base_pfn + (place << area.order_per_bit)
        area.alloc_pages_success += pages
        self.succeeded += 1

    def _drain(self, frames: AreaFrames, first: int, request: Request, now: int) -> None:
        """Empty the LRU batches at the start of a round, which tries the range from this page of the area on."""
        lru = self._lru
        if not frames.born_on_lru:
            off_lru = frames.off_lru()
            lru.frames = np.concatenate([lru.frames, off_lru[~np.isin(off_lru, lru.frames)]])
        handle = self._chains.handle(Site.drain, request.frames)
        lru.drain(now, handle, frames.area.base_pfn + first, request.pages)

    def _attempt(self, found: AreaPages, tries: Tries, request: Request, now: int) -> None:
        """Make the tries of a round: record, mark, and move the pages."""
        pinner, generation = self._pinner, self._pinner.generation
        state, caller = pinner.state, request.frames
        tracking = pinner.tracking and generation.failure_file is not None
        rules = Circumstances(generation, self.mm, tracking, self._quiet, request.no_warn, request.noretry)
        outcome = Round(found, tries, rules)
        marked = found.base + outcome.marked()
        if generation.failure_takes_ts:
            state.ts[marked] = np.where(state.ts[marked] == 0, now, state.ts[marked])
        record_round(pinner, found, outcome, self._chains, caller, request.pages, now)
        state.bits[marked] |= FAILED
        self._pinner.counters.add_moved(state.attribution[found.base + outcome.moved])
        found.free(outcome.moved, generation)
        self._lru.frames = found.base + outcome.in_batch()
        state.bits[self._lru.frames] &= ~ON_LRU

    def _log_busy(self, area: Area, pages: int, tries: Tries, now: int) -> None:
        """Print the ranges that were busy, as alloc_contig_range() of 5.10 does."""
        busy = tries.number - tries.success
        for number in range(busy):
            if not self._busy_limit.allows(now):
                self._busy_limit.miss(busy - number - 1)
                break
            first = area.base_pfn + int(tries.first[number])
            self.log.print(now, f"alloc_contig_range: [{first:x}, {first + pages:x}) PFNs busy")

    def _fail(self, allocation: Allocation, errno: int | None, now: int) -> None:
        area, request = allocation.area, allocation.request
        allocation.end("failed", now)
        allocation.errno_in_log = errno
        if self.mm.noretry_counts or not request.noretry:
            # A negative number is a very large one, and the counter has 64 bits.
            area.alloc_pages_fail = area.alloc_pages_fail + request.pages & COUNTER
            self.failed += 1
        if errno is None or request.no_warn or (self.mm.limits_log and not self._limit.allows(now)):
            return
        text = f"{self.mm.log_name}: {area.name}: alloc failed, req-size: {request.pages} pages, ret: {errno}"
        self.log.print(now, f"cma: {text}")
        if self.mm.free_areas:
            self.log.print(now, f"cma: {_free_areas(area)}")


def _touched(areas: Sequence[Area], batch: EventBatch) -> npt.NDArray[np.bool_]:
    """Tell which events touch frames that these areas have given out."""
    frames = batch.frames()
    touched = np.zeros(len(batch), dtype=np.bool_)
    for area in areas:
        touched |= area.touches_given_out(batch.pfn, frames)
    return touched


def _free_areas(area: Area) -> str:
    """Return the line about the free parts of an area: imitates `cma_debug_show_areas`."""
    runs = [(end - begin << area.order_per_bit, begin) for begin, end in area.clear_runs()]
    free = sum(pages for pages, _ in runs)
    parts = "+".join(f"{pages}@{begin}" for pages, begin in runs)
    return f"number of available pages: {parts}=> {free} free of {area.pages} total pages"
