"""A plain model of CMA allocations and the records they leave, one page and one event at a time.

Written from the rules and from what real kernels answered, not from the engine: the tests compare the two. It imitates
`cma_alloc`, `alloc_contig_range`, `migrate_pages` and page_pinner's hooks in them.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["PIN", "RETRY_US", "Allocation", "Area", "Kernel", "MmRules", "Model", "Page", "PinnerRules", "Record"]

PIN = 1024  # references of one FOLL_PIN pin of a small page
BATCH = 32  # pages that are isolated and moved together: COMPACT_CLUSTER_MAX
PASSES, ROUNDS = 10, 5
LAST_CLOSE = 15  # pages that a truncated file gives up at once: PAGEVEC_SIZE
RETRY_US = 104_000  # 100 ms, to the tick after next at HZ 250
RING = 4096


class Record(NamedTuple):
    """A record of the failure file. `site` names the code that left it, see Model."""

    kind: str
    pfn: int
    references: int
    mapcount: int
    mapping: bool
    lru: bool
    site: str
    time: int
    elapsed: int


class PinnerRules(NamedTuple):
    """What differs between the generations of page_pinner."""

    gets: bool  # a FOLL_GET pin leaves the mark GET
    failures: bool = True  # there is a failure file
    kinds: tuple[str, str, str] = ("DETECT", "PUT", "FREE")  # the record's kind for a failure, a put and a free
    failure_records: bool = True  # a failed migration leaves a record
    fails_again: bool = False  # so does that of a page that is marked already
    busy_marks: bool = True  # the busy page is marked; else a record if it is marked already
    no_warn_skips: bool = False  # a failed migration leaves nothing if the caller asked for no warnings
    put_clears_ts: bool = False
    failed_is_get: bool = False  # put_user_page takes a failed page for a pinned one
    freed: str = "failed"  # FREE record if FAILED ("failed"), if GET or FAILED ("any"), never ("early")


_ONE_KIND = ("ACF", "ACF", "ACF")
RULES: dict[str, PinnerRules] = {
    "introduced": PinnerRules(gets=True, failures=False, freed="early"),
    "android12-5.10-early": PinnerRules(
        gets=True, kinds=_ONE_KIND, failure_records=False, busy_marks=False, freed="early"
    ),
    "android12-5.10": PinnerRules(gets=True, kinds=_ONE_KIND, fails_again=True, busy_marks=False, failed_is_get=True),
    "pixel-5.10": PinnerRules(gets=True, put_clears_ts=True, freed="any"),
    "android13-5.10-buffer": PinnerRules(gets=False),
    "android14-6.1": PinnerRules(gets=False, no_warn_skips=True),
}


class MmRules(NamedTuple):
    """What differs between the kernels around page_pinner."""

    retries: int = 0
    lru_batch: int = 15
    look_puts: bool = True  # looking at a pinned anonymous page takes and drops a reference
    unpin_puts: bool = False  # so does unpin_user_page, as page_pinner sees it
    quick_noretry: bool = False  # GFP_NORETRY: one round of passes, and no last look if pages stay
    one_cpu: bool = False  # munmap empties the LRU batch: on other machines it is that of another CPU


MMS: dict[str, MmRules] = {
    "6.1.192": MmRules(),
    "android12-5.10": MmRules(retries=10, lru_batch=1, look_puts=False, unpin_puts=True),
    "pixel-5.10": MmRules(retries=5, look_puts=False, unpin_puts=True),
    "android14-6.1": MmRules(retries=5, quick_noretry=True),
    "android14-5.15": MmRules(retries=5, quick_noretry=True, unpin_puts=True),
}


class Kernel(NamedTuple):
    """A generation of page_pinner in an mm."""

    generation: str
    mm: str = "6.1.192"
    one_cpu: bool = False

    @property
    def pinner(self) -> PinnerRules:
        """Return the rules of the generation."""
        return RULES[self.generation]

    @property
    def rules(self) -> MmRules:
        """Return the rules of the mm."""
        return MMS[self.mm]._replace(one_cpu=self.one_cpu)


@dataclass(eq=False)
class Page:
    """A page in a frame. It is `gone` once it was moved or freed, and events on it change nothing then."""

    pfn: int
    file: bool
    mapcount: int = 1
    cached: bool = False
    plain: int = 0  # FOLL_GET and plain references
    pinned: int = 0  # FOLL_PIN pins
    lru: bool = True
    batched: bool = False
    isolated: bool = False
    gone: bool = False

    @property
    def references(self) -> int:
        """Return `page_count`."""
        return self.mapcount + self.cached + self.plain + PIN * self.pinned + self.batched + self.isolated

    @property
    def held(self) -> bool:
        """Return whether it has references beyond its mappings, the page cache and what the mm itself holds."""
        return self.plain + self.pinned > 0


@dataclass
class Marks:
    """page_pinner's state of a frame. `handle` is true after a pin that left its stack."""

    get: bool = False
    failed: bool = False
    ts: int = 0
    handle: bool = False


@dataclass
class Area:
    """A CMA area: a bit for every 2^order_per_bit pages."""

    base: int
    pages: int
    order_per_bit: int = 0
    bits: bytearray = field(default_factory=bytearray)
    stack: list[tuple[int, int]] = field(default_factory=list)  # debugfs' allocations: first PFN, pages; newest first
    succeeded: int = 0  # pages
    failed: int = 0

    def __post_init__(self) -> None:
        self.bits = bytearray(self.pages >> self.order_per_bit)

    def _bits(self, pages: int) -> int:
        return -(-pages // (1 << self.order_per_bit))

    @property
    def used(self) -> int:
        """Return the pages whose bits are set."""
        return sum(self.bits) << self.order_per_bit

    @property
    def maxchunk(self) -> int:
        """Return the pages of the longest run of clear bits."""
        return max(map(len, bytes(self.bits).split(b"\1"))) << self.order_per_bit

    def runs(self) -> list[list[int]]:
        """Return the runs of set bits: [first, last]."""
        found: list[list[int]] = []
        for bit, taken in enumerate(self.bits):
            if taken and found and found[-1][1] == bit - 1:
                found[-1][1] = bit
            elif taken:
                found.append([bit, bit])
        return found

    def find(self, start: int, pages: int, align: int) -> int | None:
        """Return the first bit from `start` on where so many pages fit, aligned by PFN to 2^align pages."""
        bits, step = self._bits(pages), max(1, (1 << align) >> self.order_per_bit)
        offset = (self.base & ((1 << align) - 1)) >> self.order_per_bit
        bit = start
        while True:
            bit += -(bit + offset) % step
            if bit + bits > len(self.bits):
                return None
            taken = self.bits.rfind(1, bit, bit + bits)
            if taken < 0:
                return bit
            bit = taken + 1

    def mark(self, first_pfn: int, pages: int, value: int) -> None:
        """Set or clear the bits of pages."""
        bit = (first_pfn - self.base) >> self.order_per_bit
        self.bits[bit : bit + self._bits(pages)] = bytes([value]) * self._bits(pages)

    def give_back(self, pages: int) -> None:
        """Free pages of the newest allocations: the write to cma/NAME/free."""
        while pages and self.stack:
            first, length = self.stack.pop(0)
            if length <= pages or pages < 0:
                self.mark(first, length, 0)
                pages -= 0 if pages < 0 else length
            elif self.order_per_bit == 0:
                self.mark(first, pages, 0)
                self.stack.insert(0, (first + pages, length - pages))
                pages = 0
            else:
                self.stack.insert(0, (first, length))
                break


@dataclass(eq=False)
class Allocation:
    """A call of `cma_alloc`."""

    area: str
    pages: int
    align: int
    retries: int
    no_warn: bool
    noretry: bool
    kept: bool
    began: int
    state: str = "waiting"
    next_round: int | None = None
    first_pfn: int | None = None
    ended: int | None = None
    log: int | None = None  # errno in the log line
    tries: int = 0
    rounds: int = 0


class Model:
    """Areas, their pages, and the failure ring.

    The sites of records: `mark` a page could not be moved, `busy` the last look at the range, `look` an anonymous page
    is looked at, `try` a mapping is taken away, `moved` the page is moved, `putback` a page goes back, `overflow` the
    LRU batch overflows, `drain` it is drained, `release`, `unmap`, `truncate` and `free`.
    """

    def __init__(self, kernel: Kernel, areas: dict[str, Area], *, ring: int = RING) -> None:
        self.kernel, self.areas = kernel, areas
        self.pinner, self.mm = kernel.pinner, kernel.rules
        self.tracking = True
        self.now = 0
        self.pages: dict[int, Page] = {}
        self.marks: dict[int, Marks] = {}
        self.batch: list[Page] = []
        self.ring: deque[Record] = deque(maxlen=ring)
        self.total = 0
        self.longterm: list[tuple[int, int, bool]] = []  # PFN, elapsed, whether it has a stack
        self.threshold = 300_000
        self.calls: Counter[str] = Counter()
        self.moved: list[Page] = []

    # The pages' owners.

    def fault(self, pfns: Iterable[int], *, file: bool, mapped: bool = True) -> list[Page]:
        """Return new pages in these frames."""
        pages = [Page(pfn, file, int(mapped), cached=file) for pfn in pfns]
        self.pages.update((page.pfn, page) for page in pages)
        return pages

    def pin(self, pages: Iterable[Page], how: str) -> None:
        """Take one reference to each page. `how`: "get" (FOLL_GET), "pin" (FOLL_PIN) or "plain" (get_page)."""
        for page in self._here(pages):
            if how == "pin":
                page.pinned += 1
            else:
                page.plain += 1
            # `introduced` tracks both kinds of pins.
            if self.pinner.gets and (how == "get" or (how == "pin" and not self.pinner.failures)):
                marks = self._marks(page)
                marks.get, marks.ts, marks.handle = True, self.now, True

    def release(self, pages: Iterable[Page], how: str) -> None:
        """Drop one reference of each page: "put_page", "put_user_page" or "unpin"."""
        for page in self._here(pages):
            if how == "put_user_page":
                self._put_user_page(page)
            if how == "unpin":
                page.pinned -= 1
            else:
                page.plain -= 1
            if how != "unpin" or self.mm.unpin_puts:
                self._put(page, "release")
            if not page.references:
                self._free(page)

    def unmap(self, pages: Iterable[Page]) -> None:
        """Take the pages' mappings away, in this order: munmap."""
        if self.mm.one_cpu:
            self.drain()
        here = [page for page in self._here(pages) if page.mapcount]
        # Pages are gathered first: 8 in a bundle, then 510 at once.
        for start, stop in _gathers(len(here)):
            gathered = here[start:stop]
            for page in gathered:
                page.mapcount -= 1
            self._release_pages(gathered, "unmap")

    def truncate(self, pages: Iterable[Page]) -> None:
        """Take the pages out of the page cache: the last close of their unlinked file."""
        here = [page for page in self._here(pages) if page.cached]
        for start in range(0, len(here), LAST_CLOSE):
            some = here[start : start + LAST_CLOSE]
            for page in some:
                page.cached = False
            self._release_pages(some, "truncate")

    def drain(self) -> None:
        """Empty the LRU batch: `lru_add_drain`."""
        drained, self.batch = self.batch, []
        self._leave_batch(drained, "drain")

    # Allocations.

    def start_alloc(
        self,
        area: str,
        pages: int,
        *,
        align: int = 0,
        retries: int | None = None,
        no_warn: bool = False,
        noretry: bool = False,
        kept: bool = False,
    ) -> Allocation:
        """Begin an allocation and make its first round."""
        rounds = self.mm.retries if retries is None else retries
        alloc = Allocation(area, pages, align, rounds, no_warn, noretry, kept, self.now)
        if not 0 < pages <= self.areas[area].pages:
            self._end(alloc, None)
        else:
            self.round(alloc)
        return alloc

    def round(self, alloc: Allocation) -> None:
        """Make one round of tries, from the start of the area on."""
        area = self.areas[alloc.area]
        start, error = 0, -12
        while (bit := area.find(start, alloc.pages, alloc.align)) is not None:
            first = area.base + (bit << area.order_per_bit)
            area.mark(first, alloc.pages, 1)
            alloc.tries += 1
            if self._attempt(first, alloc.pages, alloc):
                alloc.first_pfn = first
                self._end(alloc, None)
                return
            area.mark(first, alloc.pages, 0)
            error = -16
            start = bit + max(1, (1 << alloc.align) >> area.order_per_bit)
        if error == -16 and alloc.rounds < alloc.retries and not alloc.noretry:
            alloc.rounds += 1
            alloc.next_round = self.now + RETRY_US
        else:
            self._end(alloc, error)

    def _end(self, alloc: Allocation, error: int | None) -> None:
        area = self.areas[alloc.area]
        alloc.ended, alloc.next_round, alloc.log = self.now, None, error
        alloc.state = "failed" if alloc.first_pfn is None else "got"
        self.calls[alloc.state] += 1
        if alloc.first_pfn is None:
            area.failed += alloc.pages
        else:
            area.succeeded += alloc.pages
            if alloc.kept:
                area.stack.insert(0, (alloc.first_pfn, alloc.pages))

    def release_alloc(self, alloc: Allocation) -> None:
        """Give the pages back: `cma_release` by the owner."""
        if alloc.first_pfn is not None:
            self.areas[alloc.area].mark(alloc.first_pfn, alloc.pages, 0)

    def _in_range(self, first: int, pages: int) -> Iterable[Page]:
        if pages > len(self.pages):
            return sorted((page for pfn, page in self.pages.items() if first <= pfn < first + pages), key=_pfn)
        return [self.pages[pfn] for pfn in range(first, first + pages) if pfn in self.pages]

    def _attempt(self, first: int, pages: int, alloc: Allocation) -> bool:
        """Return whether the range is empty now: `alloc_contig_range`."""
        self.drain()
        for batch in self._isolated(self._in_range(first, pages)):
            quick = alloc.noretry and self.mm.quick_noretry
            left = self._migrate(batch, 1 if quick else ROUNDS)
            if left:
                self._fail(left, alloc)
                if quick:
                    return False
                break
        busy = next(iter(self._in_range(first, pages)), None)
        if busy is None:
            return True
        self._busy(busy)
        return False

    def _isolated(self, found: Iterable[Page]) -> Iterator[list[Page]]:
        """Yield batches of pages that can be tried, highest PFN first: `isolate_migratepages_block`."""
        batch: list[Page] = []
        for page in found:
            if not page.lru:
                continue
            if not page.cached and page.references > page.mapcount:
                if self.mm.look_puts:
                    self._put(page, "look")
                continue
            page.lru, page.isolated = False, True
            batch.insert(0, page)
            if len(batch) == BATCH:
                yield batch
                batch = []
        if batch:
            yield batch

    def _migrate(self, batch: list[Page], rounds: int) -> list[Page]:
        """Move what can be moved, and return the rest: `migrate_pages`."""
        left = self._pass(batch)
        if left:
            # Every further pass finds the same pages and leaves the same records.
            before = self.total
            self._pass(left)
            each = self.total - before
            again = list(self.ring)[len(self.ring) - min(each, len(self.ring)) :]
            for _ in range(rounds * PASSES - 2 if again else 0):
                self.ring.extend(again)
                self.total += each
        return left

    def _pass(self, trying: list[Page]) -> list[Page]:
        """Take the mappings of each page away and move it, or put them back and return it."""
        left = []
        for page in trying:
            mapped = page.mapcount
            while page.mapcount:
                page.mapcount -= 1
                self._put(page, "try")
            if page.held:
                page.mapcount = mapped
                left.append(page)
                continue
            page.isolated = page.cached = page.lru = False
            self._put(page, "moved")
            self._free(page)
            self.moved.append(page)
        return left

    def _fail(self, left: list[Page], alloc: Allocation) -> None:
        """Mark the pages and put them back: `putback_movable_pages`."""
        if not (alloc.no_warn and self.pinner.no_warn_skips):
            for page in left:
                self._mark(page)
        for page in left:
            page.batched = True
            self.batch.append(page)
            if len(self.batch) == self.mm.lru_batch:
                full, self.batch = self.batch, []
                self._leave_batch(full, "overflow")
            page.isolated = False
            self._put(page, "putback")

    def _leave_batch(self, pages: list[Page], site: str) -> None:
        for page in pages:
            page.batched = False
            page.lru = True
        self._release_pages(pages, site)

    # page_pinner.

    def _marks(self, page: Page) -> Marks:
        return self.marks.setdefault(page.pfn, Marks())

    def _here(self, pages: Iterable[Page]) -> Iterator[Page]:
        return (page for page in pages if not page.gone)

    def _record(self, what: int, page: Page, site: str, *, freed: bool = False) -> None:
        marks = self._marks(page)
        gone = not page.references
        self.total += 1
        self.ring.append(
            Record(
                self.pinner.kinds[what],
                page.pfn,
                page.references,
                page.mapcount,
                page.cached and not gone,
                page.lru and not freed,
                site,
                self.now,
                max(0, self.now - marks.ts),
            )
        )

    def _mark(self, page: Page) -> None:
        """Account for a page that could not be moved."""
        marks = self._marks(page)
        if not self.tracking or not self.pinner.failures or (marks.failed and not self.pinner.fails_again):
            return
        self._set_failed(marks)
        if self.pinner.failure_records:
            self._record(0, page, "mark")

    def _busy(self, page: Page) -> None:
        """Account for the lowest page that is still in the range: `test_pages_isolated`."""
        marks = self._marks(page)
        if not self.tracking or not self.pinner.failures:
            return
        if self.pinner.busy_marks and not marks.failed:
            self._set_failed(marks)
            self._record(0, page, "busy")
        elif not self.pinner.busy_marks and marks.failed:
            self._record(0, page, "busy")

    def _set_failed(self, marks: Marks) -> None:
        marks.failed = True
        if marks.ts == 0 and self.pinner.busy_marks:
            marks.ts = self.now

    def _put(self, page: Page, site: str) -> None:
        """Account for a reference that was dropped."""
        if self.tracking and self._marks(page).failed:
            self._record(1, page, site)

    def _release_pages(self, pages: list[Page], site: str) -> None:
        """Drop references that are gone already: all puts, then the free pages in reverse order."""
        for page in pages:
            self._put(page, site)
        for page in reversed(pages):
            if not page.references:
                self._free(page)

    def _put_user_page(self, page: Page) -> None:
        marks = self._marks(page)
        if not (marks.get or (self.pinner.failed_is_get and marks.failed)):
            return
        elapsed = max(0, self.now - marks.ts)
        if elapsed > self.threshold:
            self.longterm.append((page.pfn, elapsed, marks.handle))
        marks.get = False
        if self.pinner.put_clears_ts:
            marks.ts = 0

    def _free(self, page: Page) -> None:
        """Free the frame: `free_pcp_prepare`."""
        page.gone = True
        page.lru = page.cached = False
        del self.pages[page.pfn]
        marks = self._marks(page)
        if self.pinner.freed == "early":
            if marks.get:
                self.marks[page.pfn] = Marks()
            return
        if marks.failed or (self.pinner.freed == "any" and marks.get):
            self._record(2, page, "free", freed=True)
        if self.pinner.failed_is_get:  # android12-5.10 keeps the handle and the time
            marks.get = marks.failed = False
        else:
            self.marks[page.pfn] = Marks()

    def records(self) -> list[Record]:
        """Return the records, newest first."""
        return list(reversed(self.ring))

    def clear(self, ring: int = RING) -> None:
        """Empty the ring: a write to buffer_size."""
        self.ring = deque(maxlen=ring)
        self.total = 0


def _pfn(page: Page) -> int:
    return page.pfn


def _gathers(pages: int) -> Iterator[tuple[int, int]]:
    start, room = 0, 8
    while start < pages:
        yield start, min(start + room, pages)
        start, room = start + room, 510
