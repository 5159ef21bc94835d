"""Many tries at once: as many records as are made, in large areas too."""

from __future__ import annotations

import numpy as np
import pytest

from pinnerfs import Simulation, parse
from pinnerfs.kernel.cma.pages import AreaFrames
from pinnerfs.kernel.cma.roundrows import RoundRows
from pinnerfs.kernel.cma.rounds import Circumstances, Round
from pinnerfs.kernel.cma.tries import find_tries
from pinnerfs.kernel.pageflags import PAGE_LRU
from pinnerfs.kernel.pages import FAILED, ON_LRU, PRESENT, Int64s
from tests.oracle.scene_simulation import scenario_of

KERNELS = ("android12-5.10-early", "android12-5.10", "pixel-5.10", "android14-6.1")  # each has rules of its own


def prepared(kernel: str, *, file: bool, pages: int, pinned: Int64s, movable: Int64s, **options: str) -> Simulation:
    """Return a simulation whose area has these pages, each with one mapping."""
    simulation = Simulation(parse(scenario_of(file=file, pages=pages)), kernel=kernel, **options)  # type: ignore[arg-type]
    state = simulation._pinner.state
    used = np.concatenate([pinned, movable])
    state.references[pinned], state.mapcount[used], state.bits[used] = 1, 1, PRESENT | ON_LRU
    return simulation


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("file", [False, True])
@pytest.mark.parametrize("no_warn", [False, True])
@pytest.mark.parametrize("noretry", [False, True])
def test_each_try_makes_as_many_records_as_are_counted(kernel: str, file: bool, no_warn: bool, noretry: bool) -> None:
    """The records of a try are counted without being made, so both must agree."""
    rng = np.random.default_rng(1)
    places = rng.permutation(1024)[:400]
    pinned, movable = np.sort(places[:200]), np.sort(places[200:])
    simulation = prepared(kernel, file=file, pages=1024, pinned=pinned, movable=movable)
    pinner, area = simulation._pinner, simulation.areas["reserved"]
    pinner.state.bits[places[100:300]] |= FAILED
    pinner.state.mapcount[places[:50]] = 2
    frames = AreaFrames(pinner.state, pinner.memory, area)
    for pages, align in ((1, 4), (300, 2), (700, 0)):
        found, tries = find_tries(frames, pages, align, None)
        rules = Circumstances(pinner.generation, simulation.mm, True, False, no_warn, noretry)
        outcome = Round(found, tries, rules)
        made, numbers = RoundRows(outcome), np.arange(tries.number)
        one_by_one = [made.rows(numbers[number : number + 1]) for number in numbers]
        assert [len(rows) for rows in one_by_one] == outcome.counts().tolist()
        assert np.array_equal(np.concatenate(one_by_one), made.rows(numbers))


@pytest.mark.parametrize("file", [False, True])
def test_a_large_area_with_a_pin_in_every_page(file: bool) -> None:
    """A million tries leave the newest records, and marks wherever a try found its first busy page."""
    pages = 1 << 20
    every = np.arange(pages)
    none = np.empty(0, dtype=np.int64)
    simulation = prepared("android14-6.1", file=file, pages=pages, pinned=every, movable=none, mm="6.1.192")
    allocation = simulation.start_alloc("reserved", 256)
    assert (allocation.state, allocation.tries, allocation.errno_in_log) == ("failed", pages - 255, -16)
    assert simulation.stats()["records_now"] == 4096
    assert simulation.areas["reserved"].used == 0
    failed = np.flatnonzero(simulation._pinner.state.bits[:pages] & FAILED)
    last = pages - 256 + (32 if file else 1)
    assert failed.tolist() == list(range(last))


def test_a_given_out_frame_has_no_events() -> None:
    """A pin of a page whose frame is given out is elsewhere: it is counted, and does not block a later allocation."""
    none = np.empty(0, dtype=np.int64)
    simulation = prepared("android14-6.1", file=True, pages=1024, pinned=none, movable=none)
    allocation = simulation.start_alloc("reserved", 1024)
    simulation.do("pin task=driver pages=8")
    assert simulation.stats()["held_now"] == 8
    simulation.release_alloc(allocation)
    assert simulation.start_alloc("reserved", 1024).state == "got"


def test_5_10_names_the_busy_ranges_and_the_free_ones() -> None:
    """Its log has a line for each busy range, within the rate limit, and lists what is free."""
    one, none = np.array([5]), np.empty(0, dtype=np.int64)
    simulation = prepared("pixel-5.10", file=True, pages=1024, pinned=one, movable=none)
    simulation.start_alloc("reserved", 1023, retries=0)
    assert simulation.dmesg().splitlines() == [
        "[    0.000000] alloc_contig_range: [f000, f3ff) PFNs busy",
        "[    0.000000] alloc_contig_range: [f001, f400) PFNs busy",
        "[    0.000000] cma: cma_alloc: reserved: alloc failed, req-size: 1023 pages, ret: -16",
        "[    0.000000] cma: number of available pages: 1024@0=> 1024 free of 1024 total pages",
    ]


def test_5_10_does_not_name_the_range_that_succeeds() -> None:
    """The range that is taken after the busy ones has no line."""
    one, none = np.array([2]), np.empty(0, dtype=np.int64)
    simulation = prepared("android12-5.10", file=False, pages=1024, pinned=one, movable=none)
    assert simulation.start_alloc("reserved", 100).first_pfn == 0xF003
    ranges = [line.split()[3:5] for line in simulation.dmesg().splitlines()]
    assert ranges == [["[f000,", "f064)"], ["[f001,", "f065)"], ["[f002,", "f066)"]]


@pytest.mark.parametrize(
    ("mm", "lines"), [("6.1.192", 10), ("android12-5.10", 30), ("pixel-5.10", 30), ("android14-6.1", 10)]
)
def test_which_kernels_limit_the_lines_of_failures(mm: str, lines: int) -> None:
    """5.10 has a line for each failure."""
    none = np.empty(0, dtype=np.int64)
    simulation = prepared("introduced", file=False, pages=1024, pinned=none, movable=none, mm=mm)
    simulation.start_alloc("reserved", 1024)
    for _ in range(30):
        simulation.start_alloc("reserved", 1)
    assert simulation.dmesg().count("alloc failed") == lines


def test_free_parts_are_told_in_pages_from_a_bit_on() -> None:
    """With four pages for a bit, the line about free parts has numbers of pages, and the places of bits."""
    simulation = Simulation(
        parse(scenario_of(file=True, pages=1024, order_per_bit=2)), kernel="pixel-5.10", cma_retries=0
    )
    first, second = simulation.start_alloc("reserved", 5), simulation.start_alloc("reserved", 16)
    assert (first.state, second.state) == ("got", "got")
    simulation.release_alloc(first)
    assert simulation.start_alloc("reserved", 1020).errno_in_log == -12
    *_, line = simulation.dmesg().splitlines()
    assert line.endswith("cma: number of available pages: 8@0+1000@6=> 1008 free of 1024 total pages")


def test_retries_are_events_of_their_own_time() -> None:
    """A pin that is released before a retry no longer blocks it."""
    one, none = np.array([5]), np.empty(0, dtype=np.int64)
    simulation = prepared("android14-6.1", file=False, pages=1024, pinned=one, movable=none)
    allocation = simulation.start_alloc("reserved", 1024)
    assert (allocation.state, allocation.next_round) == ("waiting", 104_000)
    simulation.advance_to(103_999)
    assert allocation.state == "waiting"
    simulation._pinner.state.references[5] = 0
    simulation.advance_to(10**6)
    assert (allocation.state, allocation.ended, allocation.tries) == ("got", 104_000, 2)


@pytest.mark.parametrize("mm", ["android12-5.10", "pixel-5.10"])
@pytest.mark.parametrize("file", [False, True])
@pytest.mark.parametrize(
    ("pinned", "pages", "tries", "first"),
    [
        ([5], 100, 2, 1024),
        ([5, 1500], 1000, 3, 2048),
        ([1, 1024, 2048], 3, 4, 3072),
        ([*range(40)], 100, 2, 1024),
        ([1023], 1024, 2, 1024),
        ([1024], 1025, 2, 2048),
    ],
)
def test_noretry_of_5_10_goes_on_behind_the_block(
    mm: str, file: bool, pinned: list[int], pages: int, tries: int, first: int
) -> None:
    """After a page that does not move, GFP_NORETRY tries the next 1024 pages, once. Other kernels go one page on."""
    none = np.empty(0, dtype=np.int64)
    for name in (mm, "android14-6.1"):
        simulation = prepared("android12-5.10", file=file, pages=8192, pinned=np.array(pinned), movable=none, mm=name)
        allocation = simulation.start_alloc("reserved", pages, noretry=True)
        base = simulation.areas["reserved"].base_pfn
        assert base % 1024 == 0 and allocation.state == "got" and allocation.first_pfn is not None
        found = allocation.tries, allocation.first_pfn - base
        assert (found == (tries, first)) == (name == mm)


@pytest.mark.parametrize("file", [False, True])
def test_noretry_of_5_10_fails_when_no_block_is_left(file: bool) -> None:
    """A pin in each block fails the allocation, and it is not repeated."""
    pinned, none = np.arange(7, 8192, 1024), np.empty(0, dtype=np.int64)
    simulation = prepared("pixel-5.10", file=file, pages=8192, pinned=pinned, movable=none)
    allocation = simulation.start_alloc("reserved", 1000, noretry=True)
    assert (allocation.state, allocation.tries, allocation.errno_in_log) == ("failed", 8, -16)
    # The counters of Pixel's 5.10 leave such a failure out.
    assert simulation.cma_counters("reserved") == {"alloc_pages_success": 0, "alloc_pages_fail": 0}


@pytest.mark.parametrize("allocates", [False, True])
def test_an_allocation_drains_the_lru_batch_of_its_area(allocates: bool) -> None:
    """In a region whose pages wait for the LRU, an allocation of other pages puts them there."""
    source = scenario_of(file=False, pages=1024).replace("'lru', ", "")
    simulation = Simulation(parse(source), kernel="android12-5.10")
    simulation.do("pin task=driver pages=1 hold=1s")
    if allocates:
        assert simulation.start_alloc("reserved", 1).state == "got"
    simulation.advance("2s")
    (record,) = simulation.records()
    assert record.pfn != simulation.areas["reserved"].base_pfn
    assert (record.count, record.flags & PAGE_LRU) == ((2, PAGE_LRU) if allocates else (3, 0))


def test_a_page_in_the_lru_batch_is_freed_with_its_process() -> None:
    """The end of a process frees a page that a failed allocation left in the batch. The next drain does not find it."""
    simulation = Simulation(parse(scenario_of(file=True, pages=1024)), kernel="android14-6.1", mm="6.1.192")
    simulation.do("pin task=driver pages=1")
    simulation.start_alloc("reserved", 1024)
    simulation.do("free task=driver")
    assert simulation.start_alloc("reserved", 1024).state == "got"
    found = [(str(record.kind), record.count) for record in simulation.records()]
    assert found == [("FREE", 0), ("PUT", 0), ("PUT", 4), ("DETECT", 4)]
