"""The books: every row of the spec's table, and the batch engine against the model, one event at a time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pinnerfs.kernel.events import Event, EventBatch
from pinnerfs.kernel.page_pinner.generations import ANDROID12_5_10_EARLY, GENERATIONS, INTRODUCED, Generation
from pinnerfs.kernel.page_pinner.longterm import DEFAULT_THRESHOLD, Pinner
from pinnerfs.kernel.page_pinner.records import RING_SIZE
from pinnerfs.kernel.pageflags import Migratetype, page_flags
from pinnerfs.kernel.pages import FrameRange, MemoryMap, PinnerState
from tests.kernel.page_pinner.model import Model, Row

# The first page of one, and how many there are side by side that see the same call.
Buffer = tuple[Row, int]

GET, PIN = Event.get_user_pages, Event.pin_user_pages
PUT, UNPIN = Event.put_user_page, Event.unpin_user_page
PLAIN_PUT, FREE = Event.put_page, Event.free

UPTODATE_LRU = page_flags(["uptodate", "lru", "swapbacked"], zone=2)

# A map with a gap in front, between and behind its regions.
BASE, FRAMES = 96, 64
REGIONS = [
    FrameRange("movable", 100, 12, Migratetype.Movable, UPTODATE_LRU),
    FrameRange("cma", 112, 16, Migratetype.CMA, page_flags(["referenced"], zone=3)),
    FrameRange("reclaimable", 136, 8, Migratetype.Reclaimable, 0),
]
THRESHOLDS = st.sampled_from([-(1 << 63), -1, 0, 1, 2, 5, 20, 300_000, (1 << 63) - 1])


def memory_map(base: int = BASE, frames: int = FRAMES, regions: list[FrameRange] | None = None) -> MemoryMap:
    return MemoryMap(base, frames, 10, REGIONS if regions is None else regions)


def pinner(threshold: int = DEFAULT_THRESHOLD, generation: Generation = INTRODUCED) -> Pinner:
    return Pinner(memory_map(), generation, threshold)


def pinner_of(frames: int) -> Pinner:
    return Pinner(memory_map(0, frames, []), INTRODUCED)


def ring(books: Pinner) -> list[tuple[int, ...]]:
    """The records, newest first, as (elapsed, count, handle, pfn, flags, migratetype)."""
    rows = []
    for position in range(books.ring.filled):
        row = books.ring.newest(position)
        assert row is not None
        names = ("elapsed", "count", "handle", "pfn", "flags", "migratetype")
        rows.append(tuple(int(row[name]) for name in names))
    return rows


def state(books: Pinner, pfn: int) -> tuple[bool, int, int, int]:
    """A frame's pinned, handle, ts and count."""
    kept, at = books.state, pfn - books.memory.base_pfn
    return bool(kept.pinned[at]), int(kept.handle[at]), int(kept.ts[at]), int(kept.count[at])


def agree(books: Pinner, model: Model) -> None:
    """The engine's whole state is the model's."""
    kept = books.state
    frames = model.frames.values()
    assert kept.pinned.tolist() == [frame.pinned for frame in frames]
    assert kept.handle.tolist() == [frame.handle for frame in frames]
    assert kept.ts.tolist() == [frame.ts for frame in frames]
    assert kept.count.tolist() == [frame.count for frame in frames]
    assert ring(books) == list(reversed(model.ring))
    assert books.ring.overwritten == model.overwritten
    counters = books.counters
    assert (counters.pins, counters.releases, counters.longterm_records) == (
        model.pins,
        model.releases,
        model.records,
    )
    assert (counters.pinned_now, counters.pinned_now_in_cma) == model.pinned()


@st.composite
def batches(draw: st.DrawFn, frames: int = FRAMES, orders: int = 4, size: int = 40) -> list[Buffer]:
    """Buffers whose times never fall, on few pages; compound pages lie over single ones. May be empty."""
    time = draw(st.integers(0, 60))
    few = draw(st.integers(1, frames))
    buffers: list[Buffer] = []
    for _ in range(draw(st.integers(0, size))):
        time += draw(st.integers(0, 4))
        order = draw(st.integers(0, orders))
        head = BASE + (draw(st.integers(0, few - 1)) >> order << order)
        kind, handle = draw(st.sampled_from(Event)), draw(st.integers(1, 5))
        pages = min(draw(st.integers(1, 6)), (BASE + frames - head) >> order)
        buffers.append(((time, kind, head, order, handle), pages))
    return buffers


def as_batch(buffers: list[Buffer]) -> EventBatch:
    """The buffers as the engine takes them."""
    batch = EventBatch.of([first for first, _ in buffers])
    return replace(batch, pages=np.array([pages for _, pages in buffers], dtype=np.int64))


def as_rows(buffers: list[Buffer]) -> list[Row]:
    """The buffers as the model takes them, page by page."""
    return [
        (time, kind, pfn + (page << order), order, handle)
        for (time, kind, pfn, order, handle), pages in buffers
        for page in range(pages)
    ]


@pytest.fixture(params=[0, 4, 1 << 40], ids=["by runs", "by both", "by frames"], scope="module")
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Both ways to apply a batch, whatever the batch is like, and both at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pinnerfs.kernel.page_pinner.longterm.LONG_RUN", request.param)
        yield


@pytest.mark.parametrize("generation", GENERATIONS.values(), ids=lambda generation: generation.name)
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_batches_give_what_one_event_at_a_time_gives(way: None, generation: Generation, data: st.DataObject) -> None:
    """Any batches, with thresholds written between them, leave the state, ring and counters of the model."""
    threshold = data.draw(THRESHOLDS)
    books = Pinner(memory_map(), generation, threshold)
    model = Model(BASE, FRAMES, REGIONS, generation, threshold)
    for step in data.draw(st.lists(batches() | THRESHOLDS, max_size=6)):
        if isinstance(step, int):
            books.write_threshold(step)
            model.write_threshold(step)
        else:
            books.apply(as_batch(step))
            model.apply(as_rows(step))
        agree(books, model)


@pytest.mark.parametrize("generation", GENERATIONS.values(), ids=lambda generation: generation.name)
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(buffers=batches(), cuts=st.sets(st.integers(0, 240)), threshold=THRESHOLDS)
def test_where_batches_are_cut_makes_no_difference(
    way: None, generation: Generation, buffers: list[Buffer], cuts: set[int], threshold: int
) -> None:
    """The same events cut into batches at any places leave the model's state, ring and counters."""
    books = Pinner(memory_map(), generation, threshold)
    model = Model(BASE, FRAMES, REGIONS, generation, threshold)
    rows = as_rows(buffers)
    model.apply(rows)
    edges = [0, *sorted(cuts), len(rows)]
    for start, stop in pairwise(edges):
        books.apply(EventBatch.of(rows[start:stop]))
    agree(books, model)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(batches(frames=8192, orders=12, size=12), max_size=4))
def test_large_pages_overflow_the_ring_as_in_the_model(way: None, steps: list[list[Buffer]]) -> None:
    """Batches that write more records than the ring holds leave the model's newest 4096."""
    regions = [FrameRange("cma", BASE + 512, 4096, Migratetype.CMA, UPTODATE_LRU)]
    books = Pinner(memory_map(frames=16384, regions=regions), INTRODUCED, -1)
    model = Model(BASE, 16384, regions, INTRODUCED, -1)
    for buffers in steps:
        books.apply(as_batch(buffers))
        model.apply(as_rows(buffers))
    agree(books, model)


def test_a_pin_is_attributed() -> None:
    """A pin sets pinned, handle and ts, adds one to count, and records nothing."""
    books = pinner(threshold=-1)
    books.apply(EventBatch.of([(70, GET, 100, 0, 3)]))
    assert state(books, 100) == (True, 3, 70, 1)
    assert state(books, 101) == (False, 0, 0, 0)
    assert ring(books) == []


def test_a_second_pin_overwrites_the_first() -> None:
    """The last pinner wins, its clock starts anew, and count is 2."""
    books = pinner(threshold=10)
    books.apply(EventBatch.of([(0, GET, 100, 0, 1), (100, PIN, 100, 0, 2)]))
    assert state(books, 100) == (True, 2, 100, 2)
    books.apply(EventBatch.of([(111, PUT, 100, 0, 0)]))
    assert ring(books) == [(11, 2, 2, 100, UPTODATE_LRU, Migratetype.Movable)]


@pytest.mark.parametrize(
    ("held", "recorded"), [(299_999, False), (300_000, False), (300_001, True)], ids=["below", "at", "above"]
)
def test_only_a_pin_longer_than_the_threshold_is_recorded(held: int, recorded: bool) -> None:
    """A pin of exactly the threshold leaves no record, one of 1 µs more does."""
    books = pinner()
    books.apply(EventBatch.of([(5, PIN, 113, 0, 7), (5 + held, UNPIN, 113, 0, 0)]))
    flags = page_flags(["referenced"], zone=3)
    assert ring(books) == ([(held, 1, 7, 113, flags, Migratetype.CMA)] if recorded else [])


def test_a_release_takes_the_attribution_off() -> None:
    """After a release the frame is not pinned, count is one less, and handle and ts are as they were."""
    books = pinner()
    books.apply(EventBatch.of([(5, GET, 100, 0, 7), (9, PUT, 100, 0, 0)]))
    assert state(books, 100) == (False, 7, 5, 0)


def test_a_second_release_does_nothing() -> None:
    """A release of a page that is not pinned records nothing and takes nothing off count."""
    books = pinner(threshold=-1)
    books.apply(EventBatch.of([(0, GET, 100, 0, 1), (1, GET, 100, 0, 2), (50, PUT, 100, 0, 0)]))
    assert state(books, 100) == (False, 2, 1, 1)
    books.apply(EventBatch.of([(60, PUT, 100, 0, 0), (60, PUT, 101, 0, 0)]))
    assert state(books, 100) == (False, 2, 1, 1)
    assert len(ring(books)) == 1


def test_count_can_be_overstated() -> None:
    """A release that found nothing to release has not taken one off: the next lone pin is recorded with count 2."""
    books = pinner(threshold=-1)
    twice = [(0, GET, 100, 0, 1), (1, GET, 100, 0, 2), (2, PUT, 100, 0, 0), (3, PUT, 100, 0, 0)]
    books.apply(EventBatch.of([*twice, (4, GET, 100, 0, 3), (5, PUT, 100, 0, 0)]))
    assert [(row[1], row[2]) for row in ring(books)] == [(2, 3), (2, 2)]


def test_a_plain_put_page_leaves_the_attribution() -> None:
    """put_page of a pinned page changes neither pinned nor handle, ts or count, and records nothing."""
    books = pinner(threshold=-1)
    books.apply(EventBatch.of([(5, GET, 100, 0, 7), (900_000, PLAIN_PUT, 100, 0, 0)]))
    assert state(books, 100) == (True, 7, 5, 1)
    assert ring(books) == []


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_the_documented_false_positive(batch_size: int) -> None:
    """A pins, the GPU pins and lets go by put_page: A's release records the GPU's stack and time."""
    camera, gpu = 1, 2
    rows: list[Row] = [
        (0, GET, 100, 0, camera),
        (1_000, GET, 100, 0, gpu),
        (2_000, PLAIN_PUT, 100, 0, 0),
        (400_000, PUT, 100, 0, 0),
    ]
    books = pinner()
    for at in range(0, 4, batch_size):
        books.apply(EventBatch.of(rows[at : at + batch_size]))
    assert ring(books) == [(399_000, 2, gpu, 100, UPTODATE_LRU, Migratetype.Movable)]


def test_freeing_clears_the_page() -> None:
    """A freed page is not pinned and has count 0, so that a release after it records nothing."""
    books = pinner(threshold=-1)
    books.apply(EventBatch.of([(0, GET, 100, 0, 1), (1, GET, 100, 0, 1), (5, FREE, 100, 0, 0)]))
    assert state(books, 100) == (False, 1, 1, 0)
    books.apply(EventBatch.of([(9, PUT, 100, 0, 0)]))
    assert ring(books) == []


def test_a_pin_of_the_future_lasted_0() -> None:
    """Where ts is not in the past elapsed is 0, which a threshold of 0 does not record and a negative one does."""
    books = pinner(threshold=0)
    for _ in range(2):
        books.apply(EventBatch.of([(1_000, GET, 100, 0, 1)]))
        books.apply(EventBatch.of([(400, PUT, 100, 0, 0)]))
        books.threshold = -1
    assert [row[0] for row in ring(books)] == [0]


def test_a_threshold_of_0_records_pins_of_1_us() -> None:
    """A threshold of 0 records every pin of at least 1 µs."""
    books = pinner(threshold=0)
    rows = [(0, GET, 100, 0, 1), (0, PUT, 100, 0, 0), (0, GET, 100, 0, 2), (1, PUT, 100, 0, 0)]
    books.apply(EventBatch.of(rows))
    assert [row[:3] for row in ring(books)] == [(1, 1, 2)]


def test_the_threshold_at_the_release_counts() -> None:
    """A pin taken under one threshold is judged by the one that is in force when it is released."""
    books = pinner(threshold=10)
    books.apply(EventBatch.of([(0, GET, 100, 0, 1), (0, GET, 101, 0, 1)]))
    books.write_threshold(50)
    books.apply(EventBatch.of([(40, PUT, 100, 0, 0)]))
    books.write_threshold(30)
    books.apply(EventBatch.of([(40, PUT, 101, 0, 0)]))
    assert [row[3] for row in ring(books)] == [101]


def test_writing_the_threshold_clears_the_records_and_nothing_else() -> None:
    """The same value written again empties the ring; pins in progress and counters stay."""
    books = pinner(threshold=10)
    books.apply(EventBatch.of([(0, GET, 100, 0, 1), (0, GET, 101, 0, 1), (40, PUT, 100, 0, 0)]))
    books.write_threshold(10)
    assert ring(books) == []
    assert state(books, 101) == (True, 1, 0, 1)
    assert (books.counters.longterm_records, books.counters.pinned_now) == (1, 1)


def test_a_huge_page_fills_512_slots() -> None:
    """One long pin of a 2 MiB page writes 512 records, each with the head's PFN and flags."""
    flags = page_flags(["uptodate", "dirty"], zone=2)
    regions = [FrameRange("movable", 0, 2048, Migratetype.Movable, flags)]
    books = Pinner(memory_map(0, 2048, regions), INTRODUCED)
    books.apply(EventBatch.of([(0, GET, 512, 9, 4), (300_001, PUT, 512, 9, 0)]))
    head = flags | page_flags(["head"])
    assert ring(books) == [(300_001, 1, 4, 512, head, Migratetype.Movable)] * 512
    assert (books.counters.pins, books.counters.releases, books.counters.longterm_records) == (1, 1, 512)


def test_the_frames_of_a_huge_page_are_counted_each() -> None:
    """pinned_now counts frames, those in CMA apart."""
    books = pinner()
    books.apply(EventBatch.of([(0, PIN, 112, 3, 4), (0, PIN, 100, 0, 4)]))
    assert (books.counters.pinned_now, books.counters.pinned_now_in_cma) == (9, 8)
    books.apply(EventBatch.of([(1, UNPIN, 112, 3, 0)]))
    assert (books.counters.pinned_now, books.counters.pinned_now_in_cma) == (1, 0)


@pytest.mark.parametrize("batch_size", [1, 3, 10_000])
def test_the_ring_keeps_the_newest_4096(batch_size: int) -> None:
    """Of 5000 long pins the newest 4096 are there, and 904 were overwritten."""
    rows: list[Row] = []
    for number in range(1, 5_001):
        rows += [(10 * number, GET, 100 + number % 7, 0, number), (10 * number + 1, PUT, 100 + number % 7, 0, 0)]
    books = pinner(threshold=0)
    for at in range(0, len(rows), batch_size):
        books.apply(EventBatch.of(rows[at : at + batch_size]))
    assert [row[2] for row in ring(books)] == list(range(5_000, 904, -1))
    assert books.ring.overwritten == 5_000 - RING_SIZE


def test_records_come_in_the_order_of_the_releases() -> None:
    """Releases of several pages in one batch are recorded in the order in which they happen, not by page."""
    books = pinner(threshold=0)
    books.apply(EventBatch.of([(0, GET, pfn, 0, 1) for pfn in (100, 101, 102)]))
    books.apply(EventBatch.of([(9, PUT, pfn, 0, 0) for pfn in (102, 100, 101)]))
    assert [row[3] for row in ring(books)] == [101, 100, 102]


@pytest.mark.parametrize(
    ("pfn", "order"), [(BASE - 1, 0), (BASE + FRAMES, 0), (BASE + FRAMES - 1, 1), (0, 0), (1 << 40, 0)]
)
def test_an_event_outside_of_the_map_is_an_error(pfn: int, order: int) -> None:
    """An event on a frame that is not there raises IndexError and changes nothing."""
    books = pinner(threshold=-1)
    with pytest.raises(IndexError, match="outside of the memory map"):
        books.apply(EventBatch.of([(0, GET, 100, 0, 1), (1, GET, pfn, order, 1)]))
    assert state(books, 100) == (False, 0, 0, 0)
    assert (books.counters.pins, books.counters.pinned_now) == (0, 0)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.sampled_from([GET, GET, PUT, PUT, FREE]),
            st.integers(90, 125),
            st.sampled_from([1, 5, 11, 11, 100]),
        ),
        max_size=12,
    ),
    st.sampled_from([-1, 2]),
)
def test_what_hangs_together_with_a_long_run(rows: list[tuple[int, Event, int, int]], threshold: int) -> None:
    """Long runs beside short ones that reach into them, and into each other: the model's state, ring and counters."""
    regions = [FrameRange("cma", BASE + 100, 200, Migratetype.CMA, UPTODATE_LRU)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pinnerfs.kernel.page_pinner.longterm.LONG_RUN", 12)
        books = Pinner(memory_map(frames=512, regions=regions), INTRODUCED, threshold)
        model = Model(BASE, 512, regions, INTRODUCED, threshold)
        times = np.cumsum([step for step, *_ in rows]).tolist()
        buffers: list[Buffer] = [
            ((int(time), kind, BASE + at, 0, number + 1), pages)
            for number, (time, (_, kind, at, pages)) in enumerate(zip(times, rows, strict=True))
        ]
        books.apply(as_batch(buffers))
        model.apply(as_rows(buffers))
        agree(books, model)


def test_a_short_run_between_a_long_one_and_a_page() -> None:
    """Ten pages reach into a long run and over another page, whose events stay in their order with theirs."""
    books = pinner_of(4096)
    buffers: list[Buffer] = [((0, GET, 0, 0, 1), 1000), ((1, GET, 1005, 0, 2), 1), ((2, GET, 995, 0, 3), 11)]
    books.apply(as_batch(buffers))
    assert [state(books, pfn) for pfn in (0, 999, 1004, 1005)] == [
        (True, 1, 0, 1),
        (True, 3, 2, 2),
        (True, 3, 2, 1),
        (True, 3, 2, 2),
    ]


@given(batches())
def test_a_batch_page_by_page(buffers: list[Buffer]) -> None:
    """Taken apart, every page of a buffer is a row of its own, in its place."""
    apart = as_batch(buffers).page_by_page()
    assert [column.tolist() for column in apart.columns()] == [
        column.tolist() for column in EventBatch.of(as_rows(buffers)).columns()
    ]


def test_an_empty_batch_changes_nothing() -> None:
    """A batch without events leaves the books as they are."""
    books = pinner()
    books.apply(EventBatch.of([]))
    assert (books.counters.pins, ring(books)) == (0, [])


def test_the_early_branch_does_not_see_foll_pin() -> None:
    """In android12-5.10-early pin_user_pages and unpin_user_page leave the books alone."""
    books = pinner(-1, ANDROID12_5_10_EARLY)
    books.apply(EventBatch.of([(0, PIN, 100, 0, 1), (5, GET, 101, 0, 2), (9, UNPIN, 101, 0, 0)]))
    assert state(books, 100) == (False, 0, 0, 0)
    assert state(books, 101) == (True, 2, 5, 1)
    assert (books.counters.pins, books.counters.releases) == (1, 0)


def test_a_frame_costs_at_most_24_bytes() -> None:
    """The state of a page frame is at most 24 bytes."""
    kept = PinnerState(1)
    assert sum(array.itemsize for array in (kept.pinned, kept.handle, kept.ts, kept.count)) <= 24


def test_frames_that_were_never_touched_cost_no_memory() -> None:
    """The books of a 16 GiB device with a thousand far-flung pages touched stay within 20 MiB."""
    script = """
import numpy as np
from pinnerfs.kernel.events import EventBatch, Event
from pinnerfs.kernel.page_pinner.generations import INTRODUCED
from pinnerfs.kernel.pages import MemoryMap
from pinnerfs.kernel.page_pinner.longterm import Pinner

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

def batch(step):
    return EventBatch.of([(0, Event.get_user_pages, pfn, 0, 1) for pfn in range(0, 4_194_304, step)])

Pinner(MemoryMap(0, 4_194_304, 10, []), INTRODUCED).apply(batch(4194))
before = resident()
books = Pinner(MemoryMap(0, 4_194_304, 10, []), INTRODUCED)
books.apply(batch(4194))
print(resident() - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 20 << 20
