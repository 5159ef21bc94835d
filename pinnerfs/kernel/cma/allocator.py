"""All areas of a device and the allocations from them. Imitates `cma_alloc` and `cma_release` of mm/cma.c."""

from __future__ import annotations

from collections.abc import Sequence

from pinnerfs.kernel.cma.allocation import Allocation, Request
from pinnerfs.kernel.cma.areas import Area
from pinnerfs.kernel.cma.log import KernelLog, RateLimit
from pinnerfs.kernel.cma.mm import Mm

__all__ = ["Allocator"]

EBUSY, ENOMEM = -16, -12
COUNTER = (1 << 64) - 1
RETRY = 104_000  # µs: schedule_timeout_killable() sleeps 100 ms, which end at the tick after next at HZ 250


class Allocator:
    """The areas of a device, the allocations that wait for their next round, the counters and the log."""

    def __init__(self, areas: Sequence[Area], mm: Mm) -> None:
        self.areas = {area.name: area for area in areas}
        self.mm = mm
        self.succeeded = self.failed = 0  # calls, as /proc/vmstat counts them
        self.log = KernelLog()
        self._limit = RateLimit(self.log, mm.log_name)
        self._waiting: list[Allocation] = []  # in the order of their beginnings

    def next_round(self) -> int | None:
        """Return the time of the next round of an allocation that waits, or None."""
        return min((waiting.next_round for waiting in self._waiting if waiting.next_round is not None), default=None)

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

    def run(self, now: int) -> None:
        """Make the rounds that are due at `now`."""
        for allocation in self._waiting:
            if allocation.next_round is not None and allocation.next_round <= now:
                self._round(allocation, now)
        self._waiting = [waiting for waiting in self._waiting if waiting.state == "waiting"]

    def release(self, allocation: Allocation) -> None:
        """Take the pages of an allocation back from their owner: imitates `cma_release`."""
        area = allocation.area
        assert allocation.first_pfn is not None
        area.clear(allocation.first_pfn - area.base_pfn >> area.order_per_bit, allocation.pages)

    def _round(self, allocation: Allocation, now: int) -> None:
        """Try every range of the area from the beginning on, until one can be emptied."""
        area, request = allocation.area, allocation.request
        allocation.rounds += 1
        allocation.next_round = None
        first = area.find(request.pages, 0, request.align)
        if first is None:
            self._fail(allocation, ENOMEM, now)
            return
        allocation.tries += 1
        area.set(first, request.pages)
        if request.kept:
            area.keep(first, request.pages)
        allocation.end("got", now)
        allocation.first_pfn = area.base_pfn + (first << area.order_per_bit)
        area.alloc_pages_success += request.pages
        self.succeeded += 1

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


def _free_areas(area: Area) -> str:
    """Return the line about the free parts of an area: imitates `cma_debug_show_areas`."""
    runs = [(end - begin << area.order_per_bit, begin) for begin, end in area.clear_runs()]
    free = sum(pages for pages, _ in runs)
    parts = "+".join(f"{pages}@{begin}" for pages, begin in runs)
    return f"number of available pages: {parts}=> {free} free of {area.pages} total pages"
