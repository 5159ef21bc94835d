"""The accounting: each rule of page_pinner by itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pinnerfs.kernel.events import EventBatch
from pinnerfs.kernel.page_pinner.generations import GENERATIONS, INTRODUCED
from pinnerfs.kernel.page_pinner.pinner import Pinner
from pinnerfs.kernel.page_pinner.records import RING_SIZE
from pinnerfs.kernel.pageflags import Migratetype, page_flags
from pinnerfs.kernel.pages import FrameRange, FrameState
from tests.kernel.page_pinner.model import Row
from tests.kernel.page_pinner.pinners import (
    BASE,
    FRAMES,
    FREE,
    GET,
    PIN,
    PLAIN_PUT,
    PUT,
    UNPIN,
    UPTODATE_LRU,
    longterm,
    memory_map,
    new_pinner,
    state,
)


def count(pinner: Pinner, name: str) -> int:
    """Return a counter's total."""
    return pinner.counters.totals()[name]


def test_a_pin_is_attributed() -> None:
    """A pin sets pinned, handle and ts, adds one to count, and leaves no record."""
    pinner = new_pinner(threshold=-1)
    pinner.apply(EventBatch.of([(70, GET, 100, 0, 3)]))
    assert state(pinner, 100) == (True, 3, 70, 1)
    assert state(pinner, 101) == (False, 0, 0, 0)
    assert longterm(pinner) == []


def test_a_second_pin_overwrites_the_first() -> None:
    """The last pinner gets the mark, with the time of its pin. count is 2."""
    pinner = new_pinner(threshold=10)
    pinner.apply(EventBatch.of([(0, GET, 100, 0, 1), (100, PIN, 100, 0, 2)]))
    assert state(pinner, 100) == (True, 2, 100, 2)
    pinner.apply(EventBatch.of([(111, PUT, 100, 0, 0)]))
    assert longterm(pinner) == [(11, 2, 2, 100, UPTODATE_LRU, Migratetype.Movable)]


@pytest.mark.parametrize(
    ("held", "recorded"), [(299_999, False), (300_000, False), (300_001, True)], ids=["below", "at", "above"]
)
def test_only_a_pin_longer_than_the_threshold_is_recorded(held: int, recorded: bool) -> None:
    """A pin of exactly the threshold leaves no record. A pin of 1 µs more does."""
    pinner = new_pinner()
    pinner.apply(EventBatch.of([(5, PIN, 113, 0, 7), (5 + held, UNPIN, 113, 0, 0)]))
    flags = page_flags(["referenced"], zone=3)
    assert longterm(pinner) == ([(held, 1, 7, 113, flags, Migratetype.CMA)] if recorded else [])


def test_a_release_clears_the_mark() -> None:
    """After a release the frame is not pinned, count is one less, and handle and ts are unchanged."""
    pinner = new_pinner()
    pinner.apply(EventBatch.of([(5, GET, 100, 0, 7), (9, PUT, 100, 0, 0)]))
    assert state(pinner, 100) == (False, 7, 5, 0)


def test_a_second_release_does_nothing() -> None:
    """A release of a page that is not pinned leaves no record and does not change count."""
    pinner = new_pinner(threshold=-1)
    pinner.apply(EventBatch.of([(0, GET, 100, 0, 1), (1, GET, 100, 0, 2), (50, PUT, 100, 0, 0)]))
    assert state(pinner, 100) == (False, 2, 1, 1)
    pinner.apply(EventBatch.of([(60, PUT, 100, 0, 0), (60, PUT, 101, 0, 0)]))
    assert state(pinner, 100) == (False, 2, 1, 1)
    assert len(longterm(pinner)) == 1


def test_count_can_be_overstated() -> None:
    """A release without a mark does not decrement count: the next single pin is recorded with count 2."""
    pinner = new_pinner(threshold=-1)
    twice = [(0, GET, 100, 0, 1), (1, GET, 100, 0, 2), (2, PUT, 100, 0, 0), (3, PUT, 100, 0, 0)]
    pinner.apply(EventBatch.of([*twice, (4, GET, 100, 0, 3), (5, PUT, 100, 0, 0)]))
    assert [(row[1], row[2]) for row in longterm(pinner)] == [(2, 3), (2, 2)]


def test_put_page_leaves_the_mark() -> None:
    """put_page of a pinned page changes nothing and leaves no record."""
    pinner = new_pinner(threshold=-1)
    pinner.apply(EventBatch.of([(5, GET, 100, 0, 7), (900_000, PLAIN_PUT, 100, 0, 0)]))
    assert state(pinner, 100) == (True, 7, 5, 1)
    assert longterm(pinner) == []


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_the_documented_false_positive(batch_size: int) -> None:
    """The camera pins, the GPU pins and calls put_page. The camera's release records the GPU's stack and time."""
    camera, gpu = 1, 2
    rows: list[Row] = [
        (0, GET, 100, 0, camera),
        (1_000, GET, 100, 0, gpu),
        (2_000, PLAIN_PUT, 100, 0, 0),
        (400_000, PUT, 100, 0, 0),
    ]
    pinner = new_pinner()
    for at in range(0, 4, batch_size):
        pinner.apply(EventBatch.of(rows[at : at + batch_size]))
    assert longterm(pinner) == [(399_000, 2, gpu, 100, UPTODATE_LRU, Migratetype.Movable)]


def test_freeing_clears_the_page() -> None:
    """A freed page is not pinned and has count 0. A later release leaves no record."""
    pinner = new_pinner(threshold=-1)
    pinner.apply(EventBatch.of([(0, GET, 100, 0, 1), (1, GET, 100, 0, 1), (5, FREE, 100, 0, 0)]))
    assert state(pinner, 100) == (False, 1, 1, 0)
    pinner.apply(EventBatch.of([(9, PUT, 100, 0, 0)]))
    assert longterm(pinner) == []


def test_a_pin_in_the_future_lasted_0() -> None:
    """If ts is in the future, elapsed is 0: recorded with a negative threshold, but not with 0."""
    pinner = new_pinner(threshold=0)
    for _ in range(2):
        pinner.apply(EventBatch.of([(1_000, GET, 100, 0, 1)]))
        pinner.apply(EventBatch.of([(400, PUT, 100, 0, 0)]))
        pinner.threshold = -1
    assert [row[0] for row in longterm(pinner)] == [0]


def test_a_threshold_of_0_records_pins_of_1_us() -> None:
    """A threshold of 0 records each pin of at least 1 µs."""
    pinner = new_pinner(threshold=0)
    rows = [(0, GET, 100, 0, 1), (0, PUT, 100, 0, 0), (0, GET, 100, 0, 2), (1, PUT, 100, 0, 0)]
    pinner.apply(EventBatch.of(rows))
    assert [row[:3] for row in longterm(pinner)] == [(1, 1, 2)]


def test_the_threshold_at_the_release_counts() -> None:
    """The threshold at the release decides, not the one at the pin."""
    pinner = new_pinner(threshold=10)
    pinner.apply(EventBatch.of([(0, GET, 100, 0, 1), (0, GET, 101, 0, 1)]))
    pinner.write_threshold(50)
    pinner.apply(EventBatch.of([(40, PUT, 100, 0, 0)]))
    pinner.write_threshold(30)
    pinner.apply(EventBatch.of([(40, PUT, 101, 0, 0)]))
    assert [row[3] for row in longterm(pinner)] == [101]


def test_writing_the_threshold_clears_the_records_and_nothing_else() -> None:
    """Writing the same value again empties the ring. Marks and counters stay."""
    pinner = new_pinner(threshold=10)
    pinner.apply(EventBatch.of([(0, GET, 100, 0, 1), (0, GET, 101, 0, 1), (40, PUT, 100, 0, 0)]))
    pinner.write_threshold(10)
    assert longterm(pinner) == []
    assert state(pinner, 101) == (True, 1, 0, 1)
    assert (count(pinner, "longterm_records"), count(pinner, "pinned_now")) == (1, 1)


def test_a_huge_page_fills_512_slots() -> None:
    """One long pin of a 2 MiB page writes 512 records, each with the head's PFN and flags."""
    flags = page_flags(["uptodate", "dirty"], zone=2)
    regions = [FrameRange("movable", 0, 2048, Migratetype.Movable, flags)]
    pinner = Pinner(memory_map(0, 2048, regions), INTRODUCED)
    pinner.apply(EventBatch.of([(0, GET, 512, 9, 4), (300_001, PUT, 512, 9, 0)]))
    head = flags | page_flags(["head"])
    assert longterm(pinner) == [(300_001, 1, 4, 512, head, Migratetype.Movable)] * 512
    assert (count(pinner, "pins"), count(pinner, "releases"), count(pinner, "longterm_records")) == (1, 1, 512)


def test_pinned_frames_are_counted() -> None:
    """pinned_now counts each frame of a compound page; pinned_now_in_cma those in CMA."""
    pinner = new_pinner()
    pinner.apply(EventBatch.of([(0, PIN, 112, 3, 4), (0, PIN, 100, 0, 4)]))
    assert (count(pinner, "pinned_now"), pinner.counters.pinned_now_in_cma) == (9, 8)
    pinner.apply(EventBatch.of([(1, UNPIN, 112, 3, 0)]))
    assert (count(pinner, "pinned_now"), pinner.counters.pinned_now_in_cma) == (1, 0)


@pytest.mark.parametrize("batch_size", [1, 3, 10_000])
def test_the_ring_keeps_the_newest_4096(batch_size: int) -> None:
    """Of 5000 long pins the ring has the newest 4096; 904 were overwritten."""
    rows: list[Row] = []
    for number in range(1, 5_001):
        rows += [(10 * number, GET, 100 + number % 7, 0, number), (10 * number + 1, PUT, 100 + number % 7, 0, 0)]
    pinner = new_pinner(threshold=0)
    for at in range(0, len(rows), batch_size):
        pinner.apply(EventBatch.of(rows[at : at + batch_size]))
    assert [row[2] for row in longterm(pinner)] == list(range(5_000, 904, -1))
    assert pinner.rings["longterm_pinner"].overwritten == 5_000 - RING_SIZE


def test_records_are_in_order_of_release() -> None:
    """Releases in one batch are recorded in the order of events, not of pages."""
    pinner = new_pinner(threshold=0)
    pinner.apply(EventBatch.of([(0, GET, pfn, 0, 1) for pfn in (100, 101, 102)]))
    pinner.apply(EventBatch.of([(9, PUT, pfn, 0, 0) for pfn in (102, 100, 101)]))
    assert [row[3] for row in longterm(pinner)] == [101, 100, 102]


@pytest.mark.parametrize(
    ("pfn", "order"), [(BASE - 1, 0), (BASE + FRAMES, 0), (BASE + FRAMES - 1, 1), (0, 0), (1 << 40, 0)]
)
def test_an_event_outside_of_the_map_is_an_error(pfn: int, order: int) -> None:
    """An event outside of the map raises IndexError and changes nothing."""
    pinner = new_pinner(threshold=-1)
    with pytest.raises(IndexError, match="outside of the memory map"):
        pinner.apply(EventBatch.of([(0, GET, 100, 0, 1), (1, GET, pfn, order, 1)]))
    assert state(pinner, 100) == (False, 0, 0, 0)
    assert (count(pinner, "pins"), count(pinner, "pinned_now")) == (0, 0)


def test_an_empty_batch_changes_nothing() -> None:
    """A batch without events changes no counter and leaves no record."""
    pinner = new_pinner()
    pinner.apply(EventBatch.of([]))
    assert (count(pinner, "pins"), longterm(pinner)) == (0, [])


def test_the_early_branch_does_not_track_foll_pin() -> None:
    """In android12-5.10-early pin_user_pages and unpin_user_page change no state. They count as untracked."""
    pinner = new_pinner(-1, GENERATIONS["android12-5.10-early"])
    pinner.apply(EventBatch.of([(0, PIN, 100, 0, 1), (5, GET, 101, 0, 2), (9, UNPIN, 101, 0, 0)]))
    assert state(pinner, 100) == (False, 0, 0, 0)
    assert state(pinner, 101) == (True, 2, 5, 0)
    assert (count(pinner, "pins"), count(pinner, "releases"), count(pinner, "untracked")) == (1, 0, 2)


@pytest.mark.parametrize(("counts_pins", "most"), [(False, 20), (True, 24)])
def test_a_frame_costs_at_most_24_bytes(counts_pins: bool, most: int) -> None:
    """The state of a page frame is at most 20 bytes, and 24 on the kernel that counts pins."""
    assert FrameState(1, counts_pins).frame_bytes <= most


def test_frames_that_were_never_touched_cost_no_memory() -> None:
    """A thousand scattered pages of a 16 GiB device take less than 30 MiB."""
    script = """
import numpy as np
from pinnerfs.kernel.events import EventBatch, Event
from pinnerfs.kernel.page_pinner.generations import INTRODUCED
from pinnerfs.kernel.pages import MemoryMap
from pinnerfs.kernel.page_pinner.pinner import Pinner

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

def batch(step):
    return EventBatch.of([(0, Event.get_user_pages, pfn, 0, 1) for pfn in range(0, 4_194_304, step)])

Pinner(MemoryMap(0, 4_194_304, 10, []), INTRODUCED).apply(batch(4194))
before = resident()
pinner = Pinner(MemoryMap(0, 4_194_304, 10, []), INTRODUCED)
pinner.apply(batch(4194))
print(resident() - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 30 << 20
