"""Any sequence of calls leaves areas, allocations and records as the plain model does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pinnerfs import Simulation, parse
from pinnerfs.kernel.calls import Event
from pinnerfs.kernel.cma.allocation import Allocation
from pinnerfs.kernel.page_pinner.generations import GENERATIONS
from pinnerfs.kernel.page_pinner.layouts import RecordKind
from tests.kernel.cma.model import MMS, RULES, Area, Kernel, Model, Page
from tests.kernel.cma.model import Allocation as ModelAllocation
from tests.oracle.scene import set_bits
from tests.oracle.scene_simulation import PINS, Calls, scenario_of

BASE, PAGES = 1024, 1024
PUTS = {"get": "put_page", "plain": "put_page", "pin": "unpin_user_page"}


@dataclass
class Hold:
    """Pages of one process, with the pins that are not released yet."""

    pages: list[Page]
    pins: list[str] = field(default_factory=list)


class Pair:
    """The engine and the model, which get the same calls."""

    def __init__(self, generation: str, mm: str, *, file: bool, order: int = 0) -> None:
        source = scenario_of(file=file, base=BASE, pages=PAGES, order_per_bit=order)
        self.engine = Simulation(parse(source), kernel=generation, mm=mm)
        self.calls = Calls(self.engine)
        self.file, self.order = file, order
        self.area = Area(BASE, PAGES, order)
        self.model = Model(Kernel(generation, mm), {"reserved": self.area})
        self.holds: list[Hold] = []
        self.allocs: list[tuple[Allocation, ModelAllocation]] = []
        self.waiting: list[ModelAllocation] = []
        self.judged: list[ModelAllocation] = []  # failures whose reason was checked
        self.failure_file = self.engine.generation.failure_file

    def _events(self, kind: Event, pages: Iterable[Page]) -> None:
        self.calls.make(kind, [page.pfn for page in pages])

    def lay(self, first: int, count: int, step: int, how: str) -> None:
        """Map and pin pages, where frames are free and not given out."""
        taken = {pfn - BASE for pfn in self.model.pages}
        offsets = [one for one in range(first, min(PAGES, first + count * step), step) if one not in taken]
        offsets = [one for one in offsets if not self.area.bits[one >> self.order]]
        if not offsets:
            return
        hold = Hold(self.model.fault([BASE + one for one in offsets], file=self.file))
        self.holds.append(hold)
        self.pin(hold, how)

    def _hold(self, number: int) -> Hold | None:
        return self.holds[number % len(self.holds)] if self.holds else None

    def pin_again(self, number: int, how: str) -> None:
        """Pin the pages of a process once more, where they still are."""
        hold = self._hold(number)
        if hold is not None and not any(page.gone for page in hold.pages) and all(page.mapcount for page in hold.pages):
            self.pin(hold, how)

    def pin(self, hold: Hold, how: str) -> None:
        """Pin pages."""
        hold.pins.append(how)
        self._events(PINS[how], hold.pages)
        self.model.pin(hold.pages, how)

    def release(self, number: int, user: bool) -> None:
        """Drop the oldest pin of a process."""
        hold = self._hold(number)
        if hold is None or not hold.pins:
            return
        how = hold.pins.pop(0)
        call = "put_user_page" if user and how == "get" else PUTS[how]
        self._events(Event[call], self._present(hold.pages))
        self.model.release(hold.pages, "unpin" if call == "unpin_user_page" else call)

    def unmap(self, number: int) -> None:
        """Unmap the pages of a process."""
        hold = self._hold(number)
        if hold is not None:
            pages = [page for page in self._present(hold.pages) if page.mapcount]
            self._events(Event.unmap, pages)
            self.model.unmap(pages)

    def truncate(self, number: int) -> None:
        """Take unmapped pages without pins out of the page cache.

        A page in the LRU batch of another CPU would stay until that is drained. The engine frees it at once.
        """
        hold = self._hold(number)
        if hold is None or not self.file:
            return
        pages = [page for page in self._present(hold.pages) if not (page.mapcount or page.held or page.batched)]
        self._events(Event.free, pages)
        self.model.truncate(pages)

    @staticmethod
    def _present(pages: list[Page]) -> list[Page]:
        return [page for page in pages if not page.gone]

    def alloc(self, pages: int, align: int, retries: int | None, no_warn: bool, noretry: bool, kept: bool) -> None:
        """Begin an allocation."""
        if noretry and not self.engine.mm.look_puts:
            noretry = False  # 5.10's own way is not modelled
        theirs = self.model.start_alloc(
            "reserved", pages, align=align, retries=retries, no_warn=no_warn, noretry=noretry, kept=kept
        )
        ours = self.engine.start_alloc(
            "reserved", pages, align=align, retries=retries, no_warn=no_warn, noretry=noretry, kept=kept
        )
        self.allocs.append((ours, theirs))
        if theirs.next_round is not None:
            self.waiting.append(theirs)

    def release_alloc(self, number: int) -> None:
        """Give back the pages of a driver."""
        got = [pair for pair in self.allocs if pair[1].state == "got" and not pair[1].kept]
        if got:
            pair = got[number % len(got)]
            self.allocs.remove(pair)
            self.engine.release_alloc(pair[0])
            self.model.release_alloc(pair[1])

    def free(self, pages: int) -> None:
        """Write to cma/NAME/free."""
        self.engine.free_kept("reserved", pages)
        self.area.give_back(pages)

    def wait(self, us: int) -> None:
        """Let time pass."""
        until = self.model.now + us
        while due := [one for one in self.waiting if one.next_round is not None and one.next_round <= until]:
            first = min(due, key=lambda one: one.next_round or 0)
            assert first.next_round is not None
            self.model.now = first.next_round
            self.model.round(first)
        self.waiting = [one for one in self.waiting if one.next_round is not None]
        self.model.now = until
        self.engine.advance(us)

    def track(self, on: bool) -> None:
        """Write failure_tracking."""
        self.engine.tracking = self.model.tracking = on

    def check(self) -> None:
        """Compare all that can be seen."""
        area = self.engine.areas["reserved"]
        assert set_bits(area.words()) == self.area.runs()
        assert (area.used, area.maxchunk) == (self.area.used, self.area.maxchunk)
        assert [(BASE + kept.first, kept.pages) for kept in area.allocations] == self.area.stack
        counted = self.engine.cma_counters("reserved")
        assert counted["alloc_pages_success"] == self.area.succeeded
        for ours, theirs in self.allocs:
            assert (ours.state, ours.first_pfn, ours.next_round, ours.ended, ours.errno_in_log, ours.tries) == (
                theirs.state,
                theirs.first_pfn,
                theirs.next_round,
                theirs.ended,
                theirs.log,
                theirs.tries,
            )
            if ours.state == "failed" and ours.errno_in_log == -16 and theirs not in self.judged:
                self._check_held(ours.pages, theirs.align)
                self.judged.append(theirs)
        if self.failure_file is not None and self.model.tracking:
            assert self._engine_records() == self._model_records()

    def _check_held(self, pages: int, align: int) -> None:
        """Every range without given out pages has a page with a pin: only then an allocation may fail."""
        held = {page.pfn for hold in self.holds for page in hold.pages if hold.pins and not page.gone}
        for first in range(BASE, BASE + PAGES - pages + 1):
            if first % (1 << max(align, self.order)):
                continue
            bits = self.area.bits[first - BASE >> self.order : -(-(first - BASE + pages) >> self.order)]
            if not any(bits):
                assert held.intersection(range(first, first + pages)), first

    def _engine_records(self) -> list[tuple[object, ...]]:
        shown = []
        for record in self.engine.records(self.failure_file):
            kind = "ACF" if record.kind is None else record.kind.name
            if self.engine.generation.name.startswith("android12"):
                kind = "ACF"
            time = record.moment if record.kind != RecordKind.PUT or record.ts is None else record.ts
            page = (record.count, record.mapcount, bool(record.mapping))
            shown.append(
                (kind, record.pfn, time, bool(record.flags & 1 << 4), *(page if record.mapcount is not None else ()))
            )
        return shown

    def _model_records(self) -> list[tuple[object, ...]]:
        early = self.engine.generation.name == "android12-5.10-early"
        return [
            (
                one.kind,
                one.pfn,
                one.elapsed if one.kind == "PUT" else one.time,
                one.lru,
                *(() if early else (one.references, one.mapcount, one.mapping)),
            )
            for one in self.model.records()
        ]


SMALL = st.integers(0, 5)
CALLS = st.one_of(
    st.tuples(
        st.just("lay"),
        st.integers(0, PAGES - 1),
        st.sampled_from([1, 2, 14, 15, 16, 32, 33, 70]),
        st.sampled_from([1, 1, 3, 12]),
        st.sampled_from(["get", "pin", "plain"]),
    ),
    st.tuples(st.just("pin_again"), SMALL, st.sampled_from(["get", "pin", "plain"])),
    st.tuples(st.just("release"), SMALL, st.booleans()),
    st.tuples(st.just("unmap"), SMALL),
    st.tuples(st.just("truncate"), SMALL),
    st.tuples(
        st.just("alloc"),
        st.one_of(st.sampled_from([1, 100, 512, 1000, 1024]), st.integers(-1, PAGES + 1)),
        st.sampled_from([0, 0, 0, 2, 5]),
        st.sampled_from([None, 0, 1, 2]),
        st.booleans(),
        st.booleans(),
        st.booleans(),
    ),
    st.tuples(st.just("release_alloc"), SMALL),
    st.tuples(st.just("free"), st.integers(-1, PAGES)),
    st.tuples(st.just("wait"), st.sampled_from([1, 50_000, 104_000, 300_000])),
    st.tuples(st.just("track"), st.booleans()),
)


@pytest.mark.parametrize("generation", [name for name in RULES if name in GENERATIONS])
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    mm=st.sampled_from(sorted(MMS)),
    file=st.booleans(),
    order=st.sampled_from([0, 0, 2, 5]),
    calls=st.lists(CALLS, min_size=4, max_size=24),
)
def test_the_engine_does_what_the_model_does(
    generation: str, mm: str, file: bool, order: int, calls: list[tuple[object, ...]]
) -> None:
    """After each call, bitmap, counters, kept allocations, outcomes and records are equal."""
    pair = Pair(generation, mm, file=file, order=order)
    for name, *arguments in calls:
        getattr(pair, str(name))(*arguments)
        pair.check()


@pytest.mark.parametrize("generation", [name for name in RULES if name in GENERATIONS])
@pytest.mark.parametrize("file", [False, True], ids=["anonymous", "file"])
def test_marked_pages_move_out_of_the_way_of_a_batch_that_fails(generation: str, file: bool) -> None:
    """Pages that an allocation has marked move when they are released, batch by batch, up to those still pinned."""
    pair = Pair(generation, "6.1.192", file=file)
    pair.lay(0, 70, 1, "get")
    pair.lay(100, 40, 1, "get")
    for _ in range(2):
        pair.alloc(PAGES, 0, None, False, False, True)
        pair.check()
    pair.release(0, False)
    pair.alloc(PAGES, 0, None, False, False, True)
    pair.check()


@pytest.mark.parametrize(
    ("generation", "anonymous", "file"),
    [
        ("introduced", 0, 0),
        ("android12-5.10-early", 0, 0),
        ("android12-5.10", 0, 32),
        ("pixel-5.10", 40, 40),
        ("android13-5.10-buffer", 1, 32),
        ("android14-6.1", 1, 32),
    ],
)
def test_pages_that_move_while_tracking_is_off(generation: str, anonymous: int, file: int) -> None:
    """Only the frees of marked pages are recorded meanwhile."""
    for of_file, frees in ((False, anonymous), (True, file)):
        pair = Pair(generation, "6.1.192", file=of_file)
        pair.lay(3, 40, 1, "get")
        pair.alloc(PAGES, 0, None, False, False, True)
        pair.track(False)
        pair.release(0, False)
        pair.alloc(PAGES, 0, None, False, False, True)
        pair.track(True)
        pair.check()
        assert sum(record.site == "free" for record in pair.model.records()) == frees


@pytest.mark.parametrize("generation", [name for name in RULES if name in GENERATIONS])
@pytest.mark.parametrize("user", [False, True], ids=["put_page", "put_user_page"])
def test_the_mark_of_a_page_that_moved_away(generation: str, user: bool) -> None:
    """It does not concern the next page of the frame, except on the early kernel, if the pin's own mark was cleared."""
    pair = Pair(generation, "6.1.192", file=True)
    pair.lay(3, 4, 1, "get")
    pair.alloc(PAGES, 0, None, False, False, True)
    pair.release(0, user)
    pair.alloc(PAGES, 0, None, False, False, True)
    pair.check()
    pair.free(-1)
    pair.lay(3, 4, 1, "plain")
    before = pair.model.total
    pair.release(1, False)
    pair.check()
    assert pair.model.total - before == (4 if generation == "android12-5.10-early" and user else 0)


def test_the_time_of_a_pin_outlives_a_move_on_android12_5_10() -> None:
    """A later put_user_page of another page in that frame, marked FAILED and not pinned, is measured from that pin."""
    pair = Pair("android12-5.10", "6.1.192", file=True)
    pair.wait(1_000_000)
    pair.lay(3, 1, 1, "get")
    pair.alloc(PAGES, 0, None, False, False, True)
    pair.release(0, False)
    pair.alloc(PAGES, 0, None, False, False, True)
    pair.free(-1)
    pair.lay(3, 1, 1, "plain")
    pair.alloc(PAGES, 0, None, False, False, True)
    pair.wait(2_000_000)
    hold = pair.holds[1]
    pair.calls.make(Event.put_user_page, [BASE + 3])
    pair.model.release(hold.pages, "put_user_page")
    assert pair.model.longterm == [(BASE + 3, 2_000_000, True)]
    assert [(record.pfn, record.ts) for record in pair.engine.records()] == [(BASE + 3, 2_000_000)]


@pytest.mark.parametrize("generation", [name for name in RULES if name in GENERATIONS])
@pytest.mark.parametrize("mm", sorted(MMS))
def test_the_mm_decides_whether_unpin_leaves_a_record(generation: str, mm: str) -> None:
    """An unpinned page that an allocation has marked leaves a PUT record where unpin_user_page ends in put_page."""
    pair = Pair(generation, mm, file=False)
    pair.lay(0, 1, 1, "pin")
    pair.alloc(PAGES, 0, 0, False, False, True)
    pair.check()
    pair.release(0, False)
    pair.check()


@pytest.mark.parametrize("generation", ["pixel-5.10", "android13-5.10-buffer", "android14-6.1"])
@pytest.mark.parametrize(
    ("mm", "puts"),
    [("6.1.192", 1), ("android12-5.10", 0), ("pixel-5.10", 0), ("android14-5.15", 1), ("android14-6.1", 1)],
)
def test_the_mm_decides_whether_a_look_leaves_a_record(generation: str, mm: str, puts: int) -> None:
    """From 5.15 on, an allocation takes and drops a reference of each pinned anonymous page that it looks at."""
    pair = Pair(generation, mm, file=False)
    pair.lay(0, 2, 1, "get")
    for _ in range(2):
        pair.alloc(PAGES, 0, 0, False, False, True)
        pair.check()
    assert [record.site for record in pair.model.records()] == ["look"] * puts + ["busy"]


@pytest.mark.parametrize("file", [False, True], ids=["anonymous", "file"])
def test_pages_that_fill_up_a_bit_stay_lent(file: bool) -> None:
    """With 4 pages for a bit, an allocation of 5 leaves 3 pages to their holders, who can still release them."""
    pair = Pair("android14-6.1", "6.1.192", file=file, order=2)
    pair.lay(6, 1, 1, "get")
    pair.alloc(5, 0, None, False, False, True)
    pair.check()
    pair.release(0, False)
    pair.free(-1)
    pair.alloc(8, 0, None, False, False, True)
    pair.check()
    assert pair.allocs[-1][0].first_pfn == BASE


@pytest.mark.parametrize("mm", sorted(MMS))
def test_an_allocation_gets_its_pages_in_a_later_round(mm: str) -> None:
    """The rounds come at their times, a release between two of them lets the next succeed, and `free` is a stack."""
    pair = Pair("android14-6.1", mm, file=True)
    pair.lay(3, 1, 1, "get")
    pair.alloc(PAGES, 0, None, False, False, True)
    pair.check()
    for us in (103_999, 1, 104_000):
        pair.wait(us)
        pair.check()
    pair.release(0, False)
    pair.wait(104_000)
    pair.check()
    pair.free(-1)
    for pages in (16, 8, 16):
        pair.alloc(pages, 0, None, False, False, True)
    for pages in (4, 20, 100):
        pair.free(pages)
        pair.check()
